/**
 * `demo`: a swarm on one machine, from an empty folder to a trained model, through the crash of one peer and the
 * late arrival of another; then what one peer alone would have got, for comparison.
 */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { stringify } from 'yaml'
import { fastestBackend } from '../backend.ts'
import { runChild } from '../children.ts'
import type { DemoCommandLine } from '../command-lines.ts'
import { absolute, type CommandContext } from '../context.ts'
import { collectCorpus, findInstalledPackages } from '../demo/corpus.ts'
import { DemoSwarm, type SwarmResult } from '../demo/swarm.ts'
import { renderSwarm, summariseSwarm } from '../demo/table.ts'
import { demoSettings } from '../demo-settings.ts'
import { claimFolder } from '../disk.ts'
import { usageError } from '../failures.ts'
import { formatBytes, formatCount, formatDuration, formatLoss, printable } from '../format.ts'
import { freeFolder, isFree } from '../host-out.ts'
import { createProgress } from '../progress.ts'

const redrawEveryMs = 200
const plainEveryMs = 10_000

export async function demo(context: CommandContext, options: DemoCommandLine): Promise<void> {
  const { output, signal } = context
  const started = performance.now()
  // A demo may be looked at again and again: it has a folder of its own each time, unless one is named.
  const out =
    options.out === undefined
      ? await freeFolder(context.files, absolute(context, join('checkpoints', 'demo')))
      : absolute(context, options.out)
  await using _claim = await claimFolder(out)
  if (!(await isFree(context.files, out))) {
    throw usageError('out-occupied', `“${out}” is not empty.`, 'Choose another folder with --out.')
  }
  const workFolder = await mkdtemp(join(tmpdir(), 'groundswell-demo-'))
  try {
    const rounds = options.rounds ?? demoSettings.rounds
    const data =
      options.data === undefined ? await writeCorpus(context, workFolder) : absolute(context, options.data)
    const runFile = join(workFolder, 'run.yaml')
    await writeFile(runFile, stringify(runOf(data, rounds)))
    const backend = await fastestBackend(signal)
    const swarm = await trainTogether(context, {
      backend,
      runFile,
      workFolder,
      out,
      rounds,
    })
    const solo = await trainAlone(context, { runFile, workFolder, backend, rounds })
    const sample = await continuation(context, swarm.checkpoint, {
      backend,
      prompt: options.data === undefined ? demoSettings.sample.prompt : demoSettings.sample.ownPrompt,
    })
    summarise(context, swarm, solo, sample, { rounds, seconds: (performance.now() - started) / 1000 })
  } finally {
    await rm(workFolder, { recursive: true, force: true })
  }
  signal.throwIfAborted()
  output.settle()
}

/** The texts of the install, laid out as the folder of a user's own would be. */
async function writeCorpus({ output, signal }: CommandContext, workFolder: string): Promise<string> {
  const files = await collectCorpus(await findInstalledPackages(import.meta.dirname), {
    maxBytes: demoSettings.corpusBytes,
    signal,
  })
  const folder = join(workFolder, 'text')
  let bytes = 0
  for (const { path, text } of files) {
    const target = join(folder, path)
    await mkdir(dirname(target), { recursive: true })
    await writeFile(target, text)
    bytes += Buffer.byteLength(text)
  }
  output.line(
    `Text: ${files.length} files of documentation and source code from node_modules, ${formatBytes(bytes)}`,
  )
  output.event({ event: 'data', files: files.length, bytes })
  return folder
}

/** The demo's settings as the run file that anybody could have written. */
function runOf(data: string, rounds: number): object {
  const settings = demoSettings
  const steps = rounds * settings.innerSteps
  return {
    model: settings.model,
    tokenizer: { kind: 'bytes' },
    data: { path: data },
    training: {
      steps,
      batchSize: settings.batchSize,
      sequenceLength: settings.sequenceLength,
      optimiser: { learningRate: settings.learningRate },
      schedule: { kind: 'cosine', warmupSteps: settings.warmupSteps },
      evaluateEvery: settings.evaluateEveryRounds * settings.innerSteps,
      evaluationBatches: settings.evaluationBatches,
      checkpointEvery: 0,
    },
    sync: {
      method: 'diloco',
      innerSteps: settings.innerSteps,
      outerLearningRate: settings.outerLearningRate,
      outerMomentum: settings.outerMomentum,
      encoding: settings.encoding,
    },
    run: {
      name: 'demo',
      host: '127.0.0.1',
      port: 0,
      minimumPeers: settings.peers,
      quorum: settings.quorum,
      graceSeconds: settings.graceSeconds,
      vanishAfterSeconds: settings.vanishAfterSeconds,
    },
    seed: settings.seed,
  }
}

interface Work {
  readonly runFile: string
  readonly workFolder: string
  readonly backend: string
  readonly rounds: number
}

async function trainTogether(context: CommandContext, work: Work & { out: string }): Promise<SwarmResult> {
  const { output, signal } = context
  const { innerSteps, peers } = demoSettings
  output.line(
    `Swarm: one host and ${peers} peers, ${work.rounds} rounds of ${innerSteps} steps each (DiLoCo)`,
  )
  let drawn = Number.NEGATIVE_INFINITY
  let news = true
  const draw = (): void => {
    const now = performance.now()
    if (!news && now - drawn < (output.interactive ? redrawEveryMs : plainEveryMs)) return
    drawn = now
    news = false
    if (output.interactive) output.redraw(renderSwarm(swarm.view))
    else output.line(summariseSwarm(swarm.view))
  }
  const swarm = new DemoSwarm({
    ...work,
    now: () => performance.now(),
    onChange: draw,
    onNews: (event) => {
      output.event(event)
      if (!output.interactive) output.line(event.text)
    },
  })
  // The clock moves on also while no process has anything to say.
  const timer = setInterval(draw, 1000)
  try {
    const result = await swarm.run(signal)
    news = true
    draw()
    return result
  } finally {
    clearInterval(timer)
    output.settle()
  }
}

/** Validation loss of one peer that trains the same number of its own steps on its own share of the data. */
async function trainAlone(context: CommandContext, work: Work): Promise<number> {
  const { output, signal } = context
  const steps = work.rounds * demoSettings.innerSteps
  output.line('')
  output.line(`For comparison: one peer alone, the same ${steps} steps on its own share of the data`)
  const progress = createProgress(output, { total: steps, unit: 'step', now: () => performance.now() })
  const done = await runChild({
    name: 'lone peer',
    arguments: [
      ...['train', work.runFile, '--share', `1/${demoSettings.peers}`],
      ...['--out', join(work.workFolder, 'alone'), '--backend', work.backend],
    ],
    onEvent: (event) => {
      if (event.event === 'step')
        progress.update(Number(event.step), `loss ${formatLoss(Number(event.loss))}`)
    },
    signal,
  })
  progress.finish()
  return Number(done.validationLoss)
}

async function continuation(
  context: CommandContext,
  checkpoint: string,
  { backend, prompt }: { readonly backend: string; readonly prompt: string },
): Promise<string> {
  const { tokens, temperature } = demoSettings.sample
  const done = await runChild({
    name: 'sample',
    arguments: [
      ...['generate', checkpoint, prompt, '--tokens', String(tokens)],
      ...['--temperature', String(temperature), '--seed', String(demoSettings.seed), '--backend', backend],
    ],
    onEvent: () => {},
    signal: context.signal,
  })
  return `${prompt}${String(done.text)}`
}

function summarise(
  { output }: CommandContext,
  swarm: SwarmResult,
  solo: number,
  sample: string,
  run: { rounds: number; seconds: number },
): void {
  const { peers, innerSteps } = demoSettings
  const steps = run.rounds * innerSteps
  const dataParallelBytes = dataParallelBytesPerPeer(swarm.parameters, steps, peers)
  const saving = dataParallelBytes / swarm.bytesPerPeer
  output.line('')
  output.line(`Validation loss    start ${formatLoss(swarm.validationLossStart)}`)
  output.line(`                   one peer alone ${formatLoss(solo)}`)
  output.line(`                   the swarm ${formatLoss(swarm.validationLossEnd)}`)
  output.line(
    `Bytes per peer     ${formatBytes(swarm.bytesPerPeer)}; data-parallel training would have moved ${formatBytes(dataParallelBytes)}, ${saving.toFixed(0)} times as much`,
  )
  output.line(
    `Peers              ${swarm.peers} contributed, ${swarm.killed} killed, ${swarm.joinedLate} joined late`,
  )
  output.line(`Model              ${formatCount(swarm.parameters)} parameters, ${swarm.checkpoint}`)
  output.line(`Time               ${formatDuration(run.seconds)}`)
  output.line('')
  output.line('A sample:')
  for (const line of printable(sample).split('\n')) output.line(`  │ ${line}`)
  output.line('')
  output.line(`Go on: npm run groundswell -- generate ${swarm.checkpoint} "import "`)
  output.event({
    event: 'done',
    validationLossStart: swarm.validationLossStart,
    validationLossEnd: swarm.validationLossEnd,
    soloValidationLoss: solo,
    bytesPerPeer: swarm.bytesPerPeer,
    dataParallelBytes,
    peers: swarm.peers,
    killed: swarm.killed,
    joinedLate: swarm.joinedLate,
    checkpoint: swarm.checkpoint,
    checkpointCid: swarm.checkpointCid,
    parameters: swarm.parameters,
    stepsPerPeer: steps,
    sample,
    seconds: run.seconds,
  })
}

/**
 * What each peer would have sent and received with one ring all-reduce of float32 gradients per step:
 * 2 · (n − 1) / n of the gradient in each direction (https://arxiv.org/abs/1802.05799).
 */
function dataParallelBytesPerPeer(parameters: number, steps: number, peers: number): number {
  return Math.round(2 * ((2 * (peers - 1)) / peers) * parameters * 4 * steps)
}
