/**
 * Checkpoints: folders that `transformers` loads as they are (AutoModelForCausalLM and AutoTokenizer), with
 * `config.json`, `model.safetensors`, `tokenizer.json`, `tokenizer_config.json` and `generation_config.json`.
 *
 * Each file is replaced as a whole, but a folder is several files. So `config.json`, without which nobody takes the
 * folder for a checkpoint, is written last, and taken away first if what it describes will change. New weights under
 * the same description, as a training run writes them again and again, replace one file and nothing else: a reader
 * finds the old checkpoint or the new one at any moment.
 */
import { type Files, fileNotFound, GroundswellError } from '../core/index.ts'
import { jsonBytes, readJson, readText } from './checkpoint-json.ts'
import { readWeights, weightsFile } from './checkpoint-weights.ts'
import { type LlamaConfig, llamaConfigToJson, parseLlamaConfig } from './config.ts'
import {
  defaultGenerationConfig,
  type GenerationConfig,
  generationConfigToJson,
  parseGenerationConfig,
} from './generation-config.ts'
import { checkParameters, type Parameters, parameterSpecs } from './parameters.ts'
import { writeSafetensors } from './safetensors.ts'
import {
  type BytePairTokenizer,
  parseTokenizerJson,
  type Tokenizer,
  tokenizerToJson,
} from './tokenizer/index.ts'

/** A model without its tokenizer. */
export interface Model {
  readonly config: LlamaConfig
  readonly parameters: Parameters
  readonly generationConfig: GenerationConfig
}

export interface Checkpoint extends Model {
  readonly tokenizer: BytePairTokenizer
}

export interface ReadOptions {
  readonly signal?: AbortSignal
}

const configFile = 'config.json'
const tokenizerFile = 'tokenizer.json'
const generationFile = 'generation_config.json'
const maxConfigBytes = 2 ** 20
const maxTokenizerBytes = 128 * 2 ** 20

/**
 * Reads a checkpoint folder, ours or one that others wrote.
 * @throws GroundswellError that names the file or the tensor at fault: `file/not-found`, `checkpoint/…`, `model/…`,
 * `safetensors/…`, `tokenizer/…`
 */
export async function readCheckpoint(
  files: Files,
  folder: string,
  options: ReadOptions = {},
): Promise<Checkpoint> {
  const root = withoutSlash(folder)
  const config = await readConfig(files, root)
  const tokenizer = await readTokenizer(files, root)
  checkVocabulary(tokenizer, config, root)
  return { ...(await readDescribed(files, root, config, options)), tokenizer }
}

/** Reads a checkpoint folder whose tokenizer is missing or not needed. */
export async function readModel(files: Files, folder: string, options: ReadOptions = {}): Promise<Model> {
  const root = withoutSlash(folder)
  return readDescribed(files, root, await readConfig(files, root), options)
}

/** Reads `config.json` alone: what kind of model a folder holds, at no cost. */
export async function readConfig(files: Files, folder: string): Promise<LlamaConfig> {
  const root = withoutSlash(folder)
  const path = `${root}/${configFile}`
  if (!(await files.exists(path))) throw await noCheckpoint(files, root)
  return parseLlamaConfig(await readJson(files, path, maxConfigBytes), `“${path}”`)
}

export interface CheckpointContent {
  readonly config: LlamaConfig
  readonly parameters: Parameters
  readonly tokenizer: BytePairTokenizer
  /** Default: the special tokens of `config`, and greedy. */
  readonly generationConfig?: GenerationConfig
}

/**
 * Writes a checkpoint folder, over an older one if it is there.
 * @throws GroundswellError `model/parameters` or `checkpoint/tokenizer` when its parts do not belong together
 */
export async function writeCheckpoint(
  files: Files,
  folder: string,
  content: CheckpointContent,
): Promise<void> {
  const root = withoutSlash(folder)
  const { config, parameters, tokenizer } = content
  checkParameters(parameters, parameterSpecs(config), `The model for “${root}”`)
  checkVocabulary(tokenizer, config, root)
  const generationConfig = content.generationConfig ?? defaultGenerationConfig(config)
  const description: [string, Uint8Array][] = [
    [tokenizerFile, new TextEncoder().encode(tokenizerToJson(tokenizer))],
    ['tokenizer_config.json', jsonBytes(tokenizerConfig(tokenizer, config, generationConfig))],
    [generationFile, jsonBytes(generationConfigToJson(generationConfig))],
  ]
  const configBytes = jsonBytes(llamaConfigToJson(config))
  const whole: [string, Uint8Array][] = [...description, [configFile, configBytes]]
  const kept = await Promise.all(whole.map(([name, bytes]) => holds(files, `${root}/${name}`, bytes)))
  if (kept.every(Boolean)) return writeSafetensors(files, `${root}/${weightsFile}`, parameters)

  const configPath = `${root}/${configFile}`
  if (await files.exists(configPath)) await files.remove(configPath)
  for (const [name, bytes] of description) await files.write(`${root}/${name}`, [bytes])
  await writeSafetensors(files, `${root}/${weightsFile}`, parameters)
  await files.write(configPath, [configBytes])
}

async function readDescribed(
  files: Files,
  root: string,
  config: LlamaConfig,
  { signal }: ReadOptions,
): Promise<Model> {
  const path = `${root}/${generationFile}`
  const generationConfig = (await files.exists(path))
    ? parseGenerationConfig(await readJson(files, path, maxConfigBytes), `“${path}”`)
    : defaultGenerationConfig(config)
  return { config, generationConfig, parameters: await readWeights(files, root, config, signal) }
}

async function readTokenizer(files: Files, root: string): Promise<BytePairTokenizer> {
  const path = `${root}/${tokenizerFile}`
  if (!(await files.exists(path))) {
    throw new GroundswellError(`The checkpoint “${root}” has no ${tokenizerFile}.`, {
      code: 'checkpoint/incomplete',
      remedy: 'Copy the tokenizer.json that belongs to the model into the folder.',
    })
  }
  return parseTokenizerJson(await readText(files, path, maxTokenizerBytes), path)
}

function checkVocabulary(tokenizer: Tokenizer, config: LlamaConfig, root: string): void {
  if (tokenizer.vocabularySize <= config.vocabularySize) return
  throw new GroundswellError(
    `The tokenizer of “${root}” has ${tokenizer.vocabularySize} tokens, its model only ${config.vocabularySize}.`,
    { code: 'checkpoint/tokenizer', remedy: 'Use the tokenizer that the model was trained with.' },
  )
}

/** The error for a folder without `config.json`, by what else is there. */
async function noCheckpoint(files: Files, root: string): Promise<GroundswellError> {
  if (!(await files.exists(root))) return fileNotFound(root)
  if (await files.exists(`${root}/${weightsFile}`)) {
    return new GroundswellError(
      `The checkpoint “${root}” is unfinished: it has weights but no ${configFile}.`,
      {
        code: 'checkpoint/unfinished',
        remedy: 'Use another checkpoint; this one was being written when its program ended.',
      },
    )
  }
  return new GroundswellError(`“${root}” is no checkpoint: it has no ${configFile}.`, {
    code: 'checkpoint/incomplete',
    remedy: 'Give the folder that holds config.json and model.safetensors.',
  })
}

/** What AutoTokenizer needs beside `tokenizer.json`: which class runs it, and which tokens play which part. */
function tokenizerConfig(
  tokenizer: Tokenizer,
  config: LlamaConfig,
  generationConfig: GenerationConfig,
): Record<string, unknown> {
  // Only special tokens: named here, a plain one would become special and be cut out of texts that spell it.
  const named = (key: string, id: number | null | undefined): Record<string, string> => {
    const token = [...tokenizer.specialTokens].find(([, specialId]) => specialId === id)
    return token === undefined ? {} : { [key]: token[0] }
  }
  return {
    ...named('bos_token', generationConfig.bosTokenId),
    clean_up_tokenization_spaces: false,
    ...named('eos_token', generationConfig.eosTokenIds[0]),
    model_max_length: config.maxPositionEmbeddings,
    ...named('pad_token', generationConfig.padTokenId),
    tokenizer_class: 'PreTrainedTokenizerFast',
  }
}

async function holds(files: Files, path: string, bytes: Uint8Array): Promise<boolean> {
  if (!(await files.exists(path))) return false
  if ((await files.list(path))[0]?.sizeBytes !== bytes.byteLength) return false
  const found = await files.read(path)
  return found.every((byte, i) => byte === bytes[i])
}

function withoutSlash(folder: string): string {
  return folder.length > 1 ? folder.replace(/\/+$/, '') : folder
}
