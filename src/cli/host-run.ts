/**
 * From a run file to the run that a host coordinates: the one that its home folder holds already, or a new one that is
 * made from the data and published.
 */
import { GroundswellError } from '../core/index.ts'
import { countParameters, type LlamaConfig } from '../model/index.ts'
import {
  defaultVanishAfterMs,
  type Manifest,
  publishRun,
  type RunDescription,
  roundPolicySchema,
} from '../run/index.ts'
import type { Blobs } from '../swarm/index.ts'
import { createSyncMethod, type SyncSettings } from '../sync/index.ts'
import type { CommandContext } from './context.ts'
import { checkRoom } from './disk.ts'
import { recallRun, rememberRun } from './known-run.ts'
import { checkHosting } from './memory.ts'
import type { PreparedRun } from './prepare.ts'
import type { RunFile } from './run-file-schema.ts'

/**
 * The run that the home holds when it is still the one that the run file means; otherwise made from the run file and
 * published. `described` makes it in any case, once.
 */
export async function openRun(
  context: CommandContext,
  { home, near, run }: { home: string; near: Blobs; run: RunFile },
): Promise<{ manifest: Manifest; described: () => Promise<RunDescription> }> {
  const fits = async (shape: LlamaConfig): Promise<void> => {
    checkHosting({ model: shape, sync: run.sync })
    // The checkpoint, the method's state of three rounds with their updates, and the data.
    await checkRoom(home, countParameters(shape) * 4 * 12, '--home')
  }
  let made: Promise<RunDescription> | undefined
  const described = (): Promise<RunDescription> => {
    made ??= import('./prepare.ts')
      .then(({ prepareRun }) => prepareRun(context, run, fits))
      .then((prepared) => describeRun(run, prepared))
    return made
  }
  const known = await recallRun(context, { home, blobs: near, run })
  if (known !== undefined) return { manifest: known, described }
  const description = await described()
  const manifest = await publishRun(near, description, context.signal)
  await rememberRun(context, { home, blobs: near, run, manifest })
  return { manifest, described }
}

/** What is wrong with the home folder of a host whose run could not be opened, and the way out; other errors as they are. */
export function homeError(thrown: unknown, home: string): unknown {
  if (!(thrown instanceof GroundswellError)) return thrown
  const { code, message } = thrown
  const elsewhere = 'or begin a new run in another folder with --home.'
  if (code === 'run/other-run') {
    return new GroundswellError(
      `“${home}” holds another run: its run file, its data or an option such as --steps was another one.`,
      { code, remedy: `Give the settings their old values to go on with it, ${elsewhere}`, cause: thrown },
    )
  }
  if (code === 'blob/not-found') {
    return new GroundswellError(`“${home}” lacks a part of its run: ${message}`, {
      code,
      remedy: `Put its blobs folder back from a copy if there is one, ${elsewhere}`,
      cause: thrown,
    })
  }
  return thrown
}

/** As many as give a peer that is always there the steps asked for. A method may have several rounds in its H steps. */
export function roundsFor(steps: number, sync: SyncSettings): number {
  return Math.ceil(steps / createSyncMethod(sync).innerSteps)
}

function describeRun(run: RunFile, { built, config, parameters }: PreparedRun): RunDescription {
  const { steps, batchSize, sequenceLength, gradientAccumulation, optimiser, schedule } = run.training
  const { name, minimumPeers, maximumPeers, quorum, graceSeconds, maxRoundSeconds, vanishAfterSeconds } =
    run.run
  const { graceShare, maximumStaleness, maximumSpeedup, rewarmSteps, maximumStrikes, expulsionRounds } =
    run.run
  return {
    name,
    dataset: built,
    model: config,
    parameters,
    inner: { steps, batchSize, sequenceLength, gradientAccumulation, optimiser, schedule },
    sync: run.sync,
    seed: run.seed,
    rounds: roundPolicySchema.parse({
      rounds: roundsFor(steps, run.sync),
      minimumPeers,
      maximumPeers,
      quorum,
      graceMs: Math.round(graceSeconds * 1000),
      graceShare,
      maxRoundMs: Math.round(maxRoundSeconds * 1000),
      vanishAfterMs:
        vanishAfterSeconds === undefined
          ? defaultVanishAfterMs(countParameters(config))
          : Math.round(vanishAfterSeconds * 1000),
      warmupMs: Math.round(run.run.warmupSeconds * 1000),
      ...{ maximumStaleness, maximumSpeedup, rewarmSteps, maximumStrikes, expulsionRounds },
      maximumNormFactor: run.run.maximumNormFactor,
    }),
  }
}
