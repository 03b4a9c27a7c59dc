/**
 * `doctor`: what this machine can do, and for what it cannot, why. Each finding stands on a line of its own; only
 * what prevents training altogether makes the command fail.
 */
import { statfs } from 'node:fs/promises'
import { createServer } from 'node:net'
import { availableParallelism, freemem, networkInterfaces, totalmem } from 'node:os'
import { GroundswellError, messageOf } from '../../core/index.ts'
import { type BackendName, backendNames, probeBackends } from '../../runtime/index.ts'
import { probeElsewhere } from '../backend.ts'
import type { CommandContext } from '../context.ts'
import { formatBytes } from '../format.ts'
import { machineMemory } from '../memory.ts'

interface Finding {
  readonly name: string
  readonly ok: boolean
  readonly detail: string
}

const neededNodeMajor = 24
const comfortableDiskBytes = 1e9

export async function doctor(context: CommandContext): Promise<void> {
  const { output } = context
  const report = (finding: Finding): void => {
    output.line(`${finding.ok ? '✓' : '✗'} ${finding.name.padEnd(16)} ${finding.detail}`)
    output.event({ event: 'finding', ...finding })
  }
  const machine = [
    nodeFinding(),
    memoryFinding(),
    await diskFinding(context.workingFolder),
    await portFinding(),
    reachFinding(),
  ]
  for (const finding of machine) report(finding)

  output.line('')
  output.line('Backends, each tested with a small program:')
  const backends = await probeElsewhere(backendNames, context.signal)
  for (const { name, available, reason, detail, selfTestMs } of backends) {
    const time = selfTestMs === undefined ? '' : ` (self-test ${Math.round(selfTestMs)} ms)`
    report({ name, ok: available, detail: available ? `${detail}${time}` : `${reason ?? 'Not available.'}` })
    if (!available) output.line(`${' '.repeat(19)}→ ${detail}`)
  }
  const usable = backends.filter(({ available }) => available).map(({ name }) => name)
  output.event({
    event: 'done',
    backends: backends.map(({ name, available, reason, detail }) => ({
      ...{ name, available, reason: reason ?? null, detail },
    })),
    node: process.versions.node,
    threads: availableParallelism(),
    memoryBytes: totalmem(),
    problems: machine.filter(({ ok }) => !ok).map(({ name }) => name),
  })
  if (usable.length === 0) {
    throw new GroundswellError('No backend works on this machine.', {
      code: 'doctor/no-backend',
      remedy: 'Run “npm ci” again, and report the reasons above if they remain.',
    })
  }
}

/** `probe-backends`: what `doctor` and `auto` start, so that a broken driver cannot take them down. */
export async function probe({ output }: CommandContext, names: readonly string[]): Promise<void> {
  const known = backendNames.filter((name) => names.includes(name))
  output.event({ event: 'done', reports: await probeBackends({ names: known satisfies BackendName[] }) })
}

function nodeFinding(): Finding {
  const ok = Number(process.versions.node.split('.')[0]) >= neededNodeMajor
  return {
    name: 'Node',
    ok,
    detail: ok
      ? `${process.version} on ${process.platform} ${process.arch}, ${availableParallelism()} threads`
      : `${process.version}, but ${neededNodeMajor} is needed; start bin/groundswell.mjs, which finds it`,
  }
}

function memoryFinding(): Finding {
  const total = machineMemory()
  const available = Math.min(process.availableMemory(), total)
  return {
    name: 'Memory',
    ok: available > 700e6,
    detail: `${formatBytes(available)} available of ${formatBytes(total)} (${formatBytes(freemem())} untouched)`,
  }
}

async function diskFinding(folder: string): Promise<Finding> {
  try {
    const { bavail, bsize } = await statfs(folder)
    const free = bavail * bsize
    return { name: 'Disk', ok: free > comfortableDiskBytes, detail: `${formatBytes(free)} free in ${folder}` }
  } catch (thrown) {
    return { name: 'Disk', ok: false, detail: messageOf(thrown) }
  }
}

/** Whether this machine lets a program listen at all; who can reach it from outside is not known from inside. */
function portFinding(): Promise<Finding> {
  return new Promise((resolve) => {
    const server = createServer()
    server.once('error', (error) => resolve({ name: 'Network', ok: false, detail: error.message }))
    server.listen(0, '0.0.0.0', () => {
      server.close(() => resolve({ name: 'Network', ok: true, detail: 'can listen for peers over TCP' }))
    })
  })
}

/** What others might dial. Only from outside can anybody tell whether a router lets them through. */
function reachFinding(): Finding {
  const own = Object.values(networkInterfaces()).flatMap((addresses) => addresses ?? [])
  const outward = own.filter(({ internal, address }) => !internal && !address.startsWith('fe80'))
  const isPublic = ({ address, family }: (typeof own)[number]): boolean =>
    family === 'IPv4'
      ? !/^(10\.|127\.|169\.254\.|192\.168\.|172\.(1[6-9]|2\d|3[01])\.|100\.(6[4-9]|[7-9]\d|1[01]\d|12[0-7])\.)/.test(
          address,
        )
      : /^[23]/.test(address)
  const listed = outward.map(({ address }) => address).join(', ')
  const detail =
    outward.length === 0
      ? 'no address besides this machine’s own loopback'
      : outward.some(isPublic)
        ? `${listed}; a public one: others reach this machine if no firewall is between`
        : `${listed}; none is public: from outside only by a port forward (--announce) or a relay (--relay)`
  return { name: 'Addresses', ok: outward.length > 0, detail }
}
