/** What a run file holds: every section and key with its bounds and its default, and what must fit together. */
import { z } from 'zod'
import type { RoundPolicy } from '../run/index.ts'
import { maxThreads } from '../runtime/index.ts'
import { createSyncMethod, type SyncSettings, syncSettingsSchema } from '../sync/index.ts'
import { type TrainingSettings, trainingSchema } from '../train/index.ts'
import { parseRate } from './units.ts'

export interface RunFile {
  readonly model: ModelSection
  readonly tokenizer: { readonly kind: 'bytes' | 'bpe'; readonly vocabularySize: number }
  readonly data: DataSection
  readonly training: TrainingSettings
  readonly sync: SyncSettings
  readonly run: RunSection
  readonly runtime: RuntimeSection
  readonly seed: number
  /** Folder for the checkpoint; `checkpoints/NAME` when absent. */
  readonly out?: string | undefined
}

interface ModelSection {
  /** Folder of a checkpoint to go on from; its own shape and tokenizer then count, not those of this file. */
  readonly checkpoint?: string | undefined
  readonly layers: number
  readonly hiddenSize: number
  readonly intermediateSize: number
  readonly attentionHeads: number
  /** As many as attention heads when absent. */
  readonly keyValueHeads?: number | undefined
  readonly ropeTheta: number
  readonly rmsNormEpsilon: number
  readonly tieWordEmbeddings: boolean
  readonly maxPositionEmbeddings: number
}

interface DataSection {
  readonly path?: string | undefined
  /** The field of a `.jsonl` line that holds the text. */
  readonly field: string
  readonly heldOutFraction: number
}

interface RunSection
  extends Pick<
    RoundPolicy,
    | 'maximumStaleness'
    | 'maximumSpeedup'
    | 'rewarmSteps'
    | 'maximumStrikes'
    | 'expulsionRounds'
    | 'maximumNormFactor'
  > {
  readonly name: string
  readonly host: string
  readonly port: number
  /** Training starts when so many peers have joined. */
  readonly minimumPeers: number
  readonly maximumPeers: number
  /** Share of the active peers whose updates are enough to close a round once the grace is over. */
  readonly quorum: number
  readonly graceSeconds: number
  /** The grace is at least this share of the time that the quorum took. */
  readonly graceShare: number
  /** A round closes after so long with whatever it has. */
  readonly maxRoundSeconds: number
  /** Silence after which a peer counts as gone; what the model's size asks for unless stated. */
  readonly vanishAfterSeconds?: number | undefined
  /** Once enough are ready, how long to wait for those who still fetch. */
  readonly warmupSeconds: number
  /** Multiaddresses: instead of host and port, to tell others, of relays, of a second host of this run. */
  readonly listen?: string[] | undefined
  readonly announce?: string[] | undefined
  readonly relays?: string[] | undefined
  readonly also?: string[] | undefined
  /** Bytes per second. */
  readonly up?: number | undefined
  readonly down?: number | undefined
  /** Port, or ADDRESS:PORT. */
  readonly metrics?: string | undefined
  /** `nats://…`; a file in the home folder when absent. */
  readonly log?: string | undefined
  /** PeerIds. */
  readonly owners?: string[] | undefined
}

interface RuntimeSection {
  readonly backend: 'auto' | 'cpu' | 'cuda' | 'webgpu' | 'wasm'
  /** 0: as many as the machine has cores. */
  readonly threads: number
}

const size = z
  .int()
  .positive()
  .max(2 ** 24)

const addresses = z
  .array(
    z
      .string()
      .regex(/^\/\S+$/, 'use addresses such as /ip4/192.0.2.7/tcp/4001')
      .max(512),
  )
  .max(16)

const rate = z.union([z.string(), z.number()]).transform((value, context) => {
  const bytes = parseRate(String(value))
  if (bytes !== undefined) return bytes
  context.addIssue({ code: 'custom', message: 'use a rate such as 10Mb/s or 2MB/s' })
  return z.NEVER
})

const modelSchema: z.ZodType<ModelSection> = z
  .strictObject({
    checkpoint: z.string().min(1).optional(),
    layers: z.int().positive().max(1024).default(4),
    hiddenSize: size.default(256),
    intermediateSize: size.default(688),
    attentionHeads: size.default(4),
    keyValueHeads: size.optional(),
    ropeTheta: z.number().positive().default(10_000),
    rmsNormEpsilon: z.number().positive().max(1).default(1e-5),
    tieWordEmbeddings: z.boolean().default(false),
    maxPositionEmbeddings: size.default(2048),
  })
  .check((context) => {
    const { hiddenSize, attentionHeads, keyValueHeads } = context.value
    const fail = (path: string, message: string): void => {
      context.issues.push({ code: 'custom', path: [path], message, input: context.value })
    }
    if (hiddenSize % attentionHeads !== 0) {
      const fitting = nearestDivisor(hiddenSize, attentionHeads)
      fail(
        'attentionHeads',
        `${attentionHeads} attention heads do not divide the hidden size ${hiddenSize}; ${fitting} would`,
      )
    } else if ((hiddenSize / attentionHeads) % 2 !== 0) {
      fail(
        'attentionHeads',
        `${attentionHeads} heads on a hidden size of ${hiddenSize} are ${hiddenSize / attentionHeads} wide, and rotary positions need an even width`,
      )
    }
    if (keyValueHeads !== undefined && attentionHeads % keyValueHeads !== 0) {
      const fitting = nearestDivisor(attentionHeads, keyValueHeads)
      fail(
        'keyValueHeads',
        `${keyValueHeads} key-value heads do not divide the ${attentionHeads} attention heads; ${fitting} would`,
      )
    }
  })

const tokenizerSchema = z
  .strictObject({
    kind: z.enum(['bytes', 'bpe']).default('bytes'),
    vocabularySize: size.default(4096),
  })
  .check((context) => {
    const { kind, vocabularySize } = context.value
    if (kind === 'bpe' && vocabularySize < 257) {
      context.issues.push({
        code: 'custom',
        path: ['vocabularySize'],
        message: `byte-level BPE starts from 256 bytes and one special token, so ${vocabularySize} is too few`,
        input: context.value,
      })
    }
  })

export const runFileSchema: z.ZodType<RunFile> = z
  .strictObject({
    model: modelSchema.prefault({}),
    tokenizer: tokenizerSchema.prefault({}),
    data: z
      .strictObject({
        path: z.string().min(1).optional(),
        field: z.string().min(1).default('text'),
        heldOutFraction: z.number().gt(0).max(0.5).default(0.05),
      })
      .prefault({}),
    training: trainingSchema.prefault({}),
    sync: syncSettingsSchema.prefault({ method: 'diloco' }),
    run: z
      .strictObject({
        name: z
          .string()
          .regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/, 'use letters, digits, dots and dashes, at most 64')
          .default('run'),
        host: z.string().min(1).default('127.0.0.1'),
        port: z.int().min(0).max(65_535).default(0),
        minimumPeers: z.int().positive().max(10_000).default(2),
        maximumPeers: z.int().positive().max(10_000).default(256),
        quorum: z.number().gt(0).max(1).default(0.67),
        graceSeconds: z.number().nonnegative().max(86_400).default(10),
        graceShare: z.number().min(0).max(1).default(0.1),
        maxRoundSeconds: z.number().min(1).max(604_800).default(3600),
        vanishAfterSeconds: z.number().min(0.5).max(3600).optional(),
        warmupSeconds: z.number().nonnegative().max(86_400).default(60),
        maximumStaleness: z.int().min(0).max(8).default(1),
        maximumSpeedup: z.number().min(1).max(64).default(4),
        rewarmSteps: z.int().min(0).max(1_000_000).default(20),
        maximumStrikes: z.int().min(1).max(100).default(3),
        expulsionRounds: z.int().min(1).max(1_000_000).default(20),
        maximumNormFactor: z.number().min(1).max(1e6).default(10),
        listen: addresses.optional(),
        announce: addresses.optional(),
        relays: addresses.optional(),
        also: addresses.optional(),
        up: rate.optional(),
        down: rate.optional(),
        metrics: z
          .union([z.string(), z.number()])
          .transform(String)
          .refine(
            (text) => /^(\S+:)?\d{1,5}$/.test(text) && Number(text.slice(text.lastIndexOf(':') + 1)) < 65_536,
            'use a port or ADDRESS:PORT',
          )
          .optional(),
        log: z
          .string()
          .regex(
            /^(nats|tls):\/\/\S+$/,
            'use nats://HOST:4222; without it the log is a file in the home folder',
          )
          .optional(),
        owners: z.array(z.string().max(64)).max(64).optional(),
      })
      .prefault({}),
    runtime: z
      .strictObject({
        backend: z.enum(['auto', 'cpu', 'cuda', 'webgpu', 'wasm']).default('auto'),
        threads: z.int().nonnegative().max(maxThreads).default(0),
      })
      .prefault({}),
    seed: z.int().nonnegative().default(0),
    out: z.string().min(1).optional(),
  })
  .check((context) => {
    const { model, training, sync, run } = context.value
    const fail = (path: string[], message: string): void => {
      context.issues.push({ code: 'custom', path, message, input: context.value })
    }
    if (model.checkpoint === undefined && training.sequenceLength > model.maxPositionEmbeddings) {
      fail(
        ['training', 'sequenceLength'],
        `a sequence of ${training.sequenceLength} tokens does not fit maxPositionEmbeddings ${model.maxPositionEmbeddings}`,
      )
    }
    if (run.minimumPeers > run.maximumPeers) {
      fail(['run', 'minimumPeers'], `${run.minimumPeers} is more than maximumPeers ${run.maximumPeers}`)
    }
    if (sync.method === 'muloco' && training.optimiser.kind !== 'muon') {
      fail(
        ['training', 'optimiser', 'kind'],
        'muloco is DiLoCo with Muon as inner optimiser: use muon, or sync.method diloco',
      )
    }
    if (training.optimiser.kind === 'muon' && createSyncMethod(sync).quantity === 'gradient') {
      fail(
        ['training', 'optimiser', 'kind'],
        `muon would not be used, as ${sync.method} takes a step of its own: use adamw, or another sync.method`,
      )
    }
    if (sync.method === 'data-parallel' && sync.optimiser.learningRate !== training.optimiser.learningRate) {
      fail(
        ['sync', 'optimiser', 'learningRate'],
        `${sync.optimiser.learningRate} would not be used: the schedule begins from training.optimiser.learningRate`,
      )
    }
    // Here, as a host would say so only after it has made tokens of all its text. Norm and output matrix may fill the last one.
    if (
      sync.method === 'streaming-diloco' &&
      model.checkpoint === undefined &&
      sync.fragments > model.layers + 1
    ) {
      fail(
        ['sync', 'fragments'],
        `some of ${sync.fragments} fragments would hold nothing of a model of ${model.layers} layers`,
      )
    }
    const { kind, decaySteps } = training.schedule
    if (kind === 'wsd' && decaySteps > training.steps) {
      fail(
        ['training', 'schedule', 'decaySteps'],
        `a decay of ${decaySteps} steps is longer than the ${training.steps} steps of the run`,
      )
    }
  })

function nearestDivisor(of: number, wanted: number): number {
  for (let distance = 0; distance < of; distance++) {
    for (const candidate of [wanted - distance, wanted + distance]) {
      if (candidate > 0 && of % candidate === 0) return candidate
    }
  }
  return 1
}
