/**
 * The manifest of a run: everything that its peers must agree on, as one DAG-CBOR blob whose CID is the run's id. Two
 * peers with the same manifest can disagree about nothing that matters. Large things stand in it as CIDs.
 */
import { z } from 'zod'
import { type Cid, cidOf, decodeCanonical, encodeCanonical, GroundswellError } from '../core/index.ts'
import { type LlamaConfig, llamaConfigSchema, llamaConfigToJson } from '../model/index.ts'
import { maxBlobBytes } from '../swarm/index.ts'
import { type SyncSettings, syncSettingsSchema } from '../sync/index.ts'
import { optimiserSchema, scheduleSchema, type TrainingSettings } from '../train/index.ts'
import { cidSchema, nameSchema } from './events.ts'
import { type RoundPolicy, roundPolicySchema } from './policy.ts'

/** What every peer does between two merges. */
export type InnerSettings = Pick<
  TrainingSettings,
  'steps' | 'batchSize' | 'sequenceLength' | 'gradientAccumulation' | 'optimiser' | 'schedule'
>

export interface Manifest {
  readonly format: 'groundswell/manifest/1'
  /** What people call the run. */
  readonly name: string
  readonly model: LlamaConfig
  /** Artifact of `tokenizer.json`. */
  readonly tokenizer: Cid
  /** The dataset's manifest, a blob that names its shards. */
  readonly data: Cid
  /** Artifacts of compiled programs by name, such as `train-step.portable`. */
  readonly programs: Readonly<Record<string, Cid>>
  /** Artifact of the synchronisation method's first state, which holds the initial parameters. */
  readonly initialCheckpoint: Cid
  /** Its `steps` are those of one peer that takes part in every round; schedules end there. */
  readonly inner: InnerSettings
  readonly sync: SyncSettings
  /** Orders the data; with the round, everything else that is random. */
  readonly seed: number
  readonly rounds: RoundPolicy
}

const count = z.int().positive().max(1_000_000_000)

const manifestSchema = z.strictObject({
  format: z.literal('groundswell/manifest/1'),
  name: nameSchema,
  model: llamaConfigSchema,
  tokenizer: cidSchema,
  data: cidSchema,
  programs: z
    .record(z.string().regex(/^[a-z0-9.-]{1,64}$/), cidSchema)
    .refine((programs) => Object.keys(programs).length <= 32, 'too many programs'),
  initialCheckpoint: cidSchema,
  inner: z.strictObject({
    steps: count,
    batchSize: count,
    sequenceLength: count,
    gradientAccumulation: count,
    optimiser: optimiserSchema,
    schedule: scheduleSchema,
  }),
  sync: syncSettingsSchema,
  seed: z.int().nonnegative(),
  rounds: roundPolicySchema,
})

/** The one encoding of a manifest; the model stands in it as in Hugging Face's `config.json`. */
export function encodeRunManifest(manifest: Manifest): Uint8Array {
  return encodeCanonical({ ...manifest, model: llamaConfigToJson(manifest.model) })
}

/** The CID of its encoding: the run's id. */
export function runIdOf(manifest: Manifest): Promise<Cid> {
  return cidOf(encodeRunManifest(manifest), 'dag-cbor')
}

/**
 * Reads a manifest that may come from anyone.
 * @throws GroundswellError `manifest/invalid`, or of `message/` when it is no DAG-CBOR at all
 */
export function parseRunManifest(bytes: Uint8Array): Manifest {
  const parsed = manifestSchema.safeParse(decodeCanonical(bytes, maxBlobBytes))
  if (!parsed.success) {
    const issue = parsed.error.issues[0]!
    throw invalidManifest(`${issue.path.join('.') || 'it'}: ${issue.message}`)
  }
  const manifest = parsed.data
  // A value left out would be filled with this version's default, and another version may have another one.
  const encoded = encodeRunManifest(manifest)
  if (encoded.byteLength !== bytes.byteLength || encoded.some((byte, i) => byte !== bytes[i])) {
    throw invalidManifest('it is not written out in full')
  }
  return manifest
}

function invalidManifest(why: string): GroundswellError {
  return new GroundswellError(`The manifest of the run is not valid: ${why}.`, {
    code: 'manifest/invalid',
    remedy: 'Use the version of Groundswell that the host uses.',
  })
}
