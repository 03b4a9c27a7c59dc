/** `pause`, `resume`, `end` and `limits`: what the owner of a run may ask of its host, signed with the owner's key. */
import { join } from 'node:path'
import { GroundswellError } from '../../core/index.ts'
import { type ControlAction, type RoundPolicy, roundPolicySchema } from '../../run/index.ts'
import { decodeJoinLink, loadIdentity } from '../../swarm/index.ts'
import { withHost } from '../ask-host.ts'
import type { LimitsCommandLine } from '../command-lines.ts'
import { absolute, type CommandContext } from '../context.ts'
import { usageError } from '../failures.ts'
import { whyOf } from './status.ts'

export const ownerFiles = { key: 'owner.pem', link: 'link' } as const
const maxLinkBytes = 16_384

export async function control(context: CommandContext, home: string, action: ControlAction): Promise<void> {
  const { output, files, signal } = context
  const folder = absolute(context, home)
  const [key, linkFile] = [join(folder, ownerFiles.key), join(folder, ownerFiles.link)]
  if (!(await files.exists(key)) || !(await files.exists(linkFile))) {
    throw usageError(
      'home',
      `“${folder}” is not the home folder of a host.`,
      'Name the folder that “groundswell host” keeps its log in, such as runs/NAME.',
    )
  }
  const identity = await loadIdentity(key)
  const text = await files.read(linkFile, { offset: 0, length: await sizeOf(context, linkFile) })
  const link = decodeJoinLink(new TextDecoder().decode(text))
  const status = await withHost(link, signal, (client) => client.control(action, signal), identity).catch(
    (cause: unknown) => {
      if (!(cause instanceof GroundswellError) || cause.code !== 'join/unreachable') throw cause
      throw new GroundswellError(`The host of “${folder}” is not running.`, {
        code: 'owner/host-not-running',
        remedy: 'Start it with the same “groundswell host” command, then ask again.',
        cause,
      })
    },
  )
  output.event({ event: 'done', action, ...status })
  output.line(`Done. ${status.phase}: ${whyOf(status)}; round ${status.round} of ${status.lastRound}.`)
  if (typeof action === 'object') {
    const changed = Object.keys(action.policy) as (keyof RoundPolicy)[]
    for (const name of changed) output.line(`  ${name}: ${status.policy[name]}`)
  }
}

async function sizeOf({ files }: CommandContext, path: string): Promise<number> {
  return Math.min(maxLinkBytes, (await files.list(path))[0]?.sizeBytes ?? 0)
}

export async function limits(
  context: CommandContext,
  home: string,
  options: LimitsCommandLine,
): Promise<void> {
  const ms = (seconds: number | undefined): number | undefined =>
    seconds === undefined ? undefined : Math.round(seconds * 1000)
  const { rounds, minimumPeers, maximumPeers, quorum, warmup, grace, graceShare, maxRound, vanishAfter } =
    options
  const wanted = {
    ...{ rounds, minimumPeers, maximumPeers, quorum, graceShare },
    warmupMs: ms(warmup),
    graceMs: ms(grace),
    maxRoundMs: ms(maxRound),
    vanishAfterMs: ms(vanishAfter),
  }
  const given = Object.entries(wanted).filter(([, value]) => value !== undefined)
  if (given.length === 0) {
    throw usageError('limits', 'No limit is named.', 'Name one, such as --maximum-peers 20.')
  }
  const policy = Object.fromEntries(given) as Partial<RoundPolicy>
  checkBounds(policy)
  await control(context, home, { policy })
}

/** Refuses a value that no run could have in the words of the command line, where times are seconds. */
function checkBounds(policy: Partial<RoundPolicy>): void {
  const { error } = roundPolicySchema.safeParse({ rounds: 1, ...policy })
  for (const issue of error?.issues ?? []) {
    const name = String(issue.path[0])
    // What two values must be to each other only the host can say: it knows those in force.
    if ((issue.code !== 'too_small' && issue.code !== 'too_big') || !(name in policy)) continue
    const inUnit = (value: number | bigint): string =>
      name.endsWith('Ms') ? `${Number(value) / 1000} s` : String(value)
    const flag = name.replace(/Ms$/, '').replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)
    const bound =
      issue.code === 'too_small' ? `at least ${inUnit(issue.minimum)}` : `at most ${inUnit(issue.maximum)}`
    throw usageError(
      'limits',
      `--${flag} cannot be ${inUnit(policy[name as keyof RoundPolicy]!)}.`,
      `Give ${bound}.`,
    )
  }
}
