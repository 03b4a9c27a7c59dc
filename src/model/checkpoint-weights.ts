/**
 * The weights of a checkpoint folder: one `model.safetensors`, or several files with an index that says which tensor
 * lies where. Names and shapes are compared with the configuration before a byte of a tensor is read.
 */
import { z } from 'zod'
import { type Files, GroundswellError, throwIfAborted } from '../core/index.ts'
import { readJson } from './checkpoint-json.ts'
import type { LlamaConfig } from './config.ts'
import { checkShapes, embeddingName, outputName, type Parameters, parameterSpecs } from './parameters.ts'
import { readSafetensorsHeader, readSafetensorsTensor, type SafetensorsEntry } from './safetensors.ts'

export const weightsFile = 'model.safetensors'
const indexFile = 'model.safetensors.index.json'
const maxIndexBytes = 64 * 2 ** 20

const indexSchema = z.looseObject({ weight_map: z.record(z.string(), z.string()) })

/** A tensor and the file that it lies in. */
interface Located {
  readonly path: string
  readonly entry: SafetensorsEntry
}

/** Reads the parameters that `config` calls for, as float32. */
export async function readWeights(
  files: Files,
  folder: string,
  config: LlamaConfig,
  signal?: AbortSignal,
): Promise<Parameters> {
  const located = await locate(files, folder)
  // Buffers that Llama checkpoints of 2023 carry along and that nothing reads.
  for (const name of located.keys()) if (name.endsWith('.rotary_emb.inv_freq')) located.delete(name)
  const untied = config.tieWordEmbeddings ? located.get(outputName) : undefined
  if (untied !== undefined) located.delete(outputName)

  const specs = parameterSpecs(config)
  const shapes = new Map([...located].map(([name, { entry }]) => [name, entry.shape]))
  checkShapes(shapes, specs, `The checkpoint “${folder}”`)

  const parameters: Parameters = {}
  for (const { name } of specs) {
    throwIfAborted(signal)
    const { path, entry } = located.get(name)!
    parameters[name] = await readSafetensorsTensor(files, path, entry)
  }
  if (untied !== undefined) await checkTied(files, untied, parameters)
  return parameters
}

/** Every tensor of the folder by name. */
async function locate(files: Files, folder: string): Promise<Map<string, Located>> {
  const single = `${folder}/${weightsFile}`
  if (await files.exists(single)) return tensorsOf(files, [single])
  const index = `${folder}/${indexFile}`
  if (!(await files.exists(index))) {
    throw new GroundswellError(`The checkpoint “${folder}” has no ${weightsFile}.`, {
      code: 'checkpoint/incomplete',
      remedy: 'Convert PyTorch .bin files with transformers (save_pretrained), or copy the folder again.',
    })
  }
  const parsed = indexSchema.safeParse(await readJson(files, index, maxIndexBytes))
  if (!parsed.success) throw malformedIndex(index, 'has no weight_map from names to files')
  const shards = new Map(Object.entries(parsed.data.weight_map))
  const names = [...new Set(shards.values())].sort()
  // The index may come from anyone and must not reach outside its folder.
  const stray = names.find((name) => !/^[\w-][\w.-]*\.safetensors$/.test(name))
  if (stray !== undefined)
    throw malformedIndex(index, `names “${stray.slice(0, 120)}”, which is no file beside it`)
  const located = await tensorsOf(
    files,
    names.map((name) => `${folder}/${name}`),
  )
  for (const [name, shard] of shards) {
    const found = located.get(name)?.path
    if (found !== `${folder}/${shard}`) {
      throw malformedIndex(index, `places “${name.slice(0, 120)}” in ${shard}, which does not hold it`)
    }
  }
  return located
}

async function tensorsOf(files: Files, paths: readonly string[]): Promise<Map<string, Located>> {
  const located = new Map<string, Located>()
  for (const path of paths) {
    for (const entry of (await readSafetensorsHeader(files, path)).entries) {
      const other = located.get(entry.name)
      if (other !== undefined) {
        throw new GroundswellError(
          `Both “${other.path}” and “${path}” hold a tensor “${entry.name.slice(0, 120)}”.`,
          { code: 'checkpoint/malformed', remedy: 'Copy or download the checkpoint again.' },
        )
      }
      located.set(entry.name, { path, entry })
    }
  }
  return located
}

/** A tied checkpoint may spell out its output projection, if that says nothing new. */
async function checkTied(files: Files, output: Located, parameters: Parameters): Promise<void> {
  const { shape, data } = await readSafetensorsTensor(files, output.path, output.entry)
  const embedding = parameters[embeddingName]!
  if (shape.join() === embedding.shape.join() && data.every((value, i) => value === embedding.data[i])) return
  throw new GroundswellError(
    `“${output.path}” holds a ${outputName} of its own although its configuration ties it to ${embeddingName}.`,
    { code: 'model/parameters', remedy: 'Set "tie_word_embeddings": false in config.json if that is meant.' },
  )
}

function malformedIndex(path: string, what: string): GroundswellError {
  return new GroundswellError(`“${path}” is not a sound index: it ${what}.`, {
    code: 'checkpoint/malformed',
    remedy: 'Copy or download the checkpoint again.',
  })
}
