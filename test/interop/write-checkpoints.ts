/**
 * Writes checkpoints as training does, for check.py to hand to the Python libraries:
 * `node test/interop/write-checkpoints.ts FOLDER` makes FOLDER/{bytes-untied,bpe-tied}, with random weights that are
 * spread widely enough to make every part of the model matter.
 */

import { seededRandom } from '../../src/core/index.ts'
import {
  byteTokenizer,
  defaultGenerationConfig,
  initialParameters,
  isNormalization,
  type LlamaSettings,
  llamaConfig,
  type Parameters,
  trainBytePairEncoding,
  writeCheckpoint,
} from '../../src/model/index.ts'
import { nodeFiles } from '../../src/run/node-files.ts'

const folder = process.argv[2]
if (folder === undefined) throw new Error('usage: write-checkpoints.ts FOLDER')
const files = nodeFiles()

const shape = { hiddenSize: 64, intermediateSize: 172, layers: 3, attentionHeads: 4, initializerRange: 0.2 }

/** Norms away from one, so that a norm left out or swapped would show. */
function parametersOf(settings: LlamaSettings): Parameters {
  const parameters = initialParameters(llamaConfig(settings), 'interop')
  const random = seededRandom('interop-norms')
  for (const [name, { data }] of Object.entries(parameters)) {
    if (isNormalization(name)) for (let i = 0; i < data.length; i++) data[i] = 0.5 + random.nextFloat()
  }
  return parameters
}

const untied: LlamaSettings = { ...shape, vocabularySize: 256, maxPositionEmbeddings: 512, eosTokenId: 0 }
await writeCheckpoint(files, `${folder}/bytes-untied`, {
  config: llamaConfig(untied),
  parameters: parametersOf(untied),
  tokenizer: byteTokenizer(),
})

const corpus =
  'The quick brown fox jumps over the lazy dog, and the dog does not mind. Größe, naïve, 東京, 42 and 1999! '
const tokenizer = trainBytePairEncoding([corpus.repeat(20)], { vocabularySize: 320 })
const tied: LlamaSettings = {
  ...shape,
  vocabularySize: 320,
  keyValueHeads: 2,
  ropeTheta: 500_000,
  tieWordEmbeddings: true,
  maxPositionEmbeddings: 512,
  bosTokenId: tokenizer.endOfTextId,
  eosTokenId: tokenizer.endOfTextId,
}
const config = llamaConfig(tied)
await writeCheckpoint(files, `${folder}/bpe-tied`, {
  config,
  parameters: parametersOf(tied),
  tokenizer,
  generationConfig: { ...defaultGenerationConfig(config), sampling: { temperature: 0.8, topP: 0.95 } },
})
