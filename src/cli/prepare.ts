/**
 * From a run file to what training starts from: documents, tokenizer, dataset, model shape and first parameters.
 * `train` and `host` both begin here, so that a run begins alike whether it is one machine's or a swarm's.
 */
import { type Cid, inTurns, takingTurnsUntil } from '../core/index.ts'
import {
  type BuiltDataset,
  buildDataset,
  type Corpus,
  type Dataset,
  loadDocuments,
  openDataset,
  splitHeldOut,
} from '../data/index.ts'
import {
  type BytePairTokenizer,
  byteTokenizer,
  initialParameters,
  type LlamaConfig,
  llamaConfig,
  type Parameters,
  readCheckpoint,
  trainBytePairEncoding,
} from '../model/index.ts'
import { absolute, type CommandContext } from './context.ts'
import { usageError } from './failures.ts'
import { counted, formatBytes, formatCount } from './format.ts'
import type { RunFile } from './run-file-schema.ts'

export interface PreparedRun {
  readonly built: BuiltDataset
  readonly dataset: Dataset
  readonly tokenizer: BytePairTokenizer
  readonly config: LlamaConfig
  readonly parameters: Parameters
}

/** @param fits throws where this machine has no place for the model; asked before the parameters are made */
export async function prepareRun(
  context: CommandContext,
  run: RunFile,
  fits: (config: LlamaConfig) => Promise<void> = async () => {},
): Promise<PreparedRun> {
  const { files, output, signal } = context
  const { path, field, heldOutFraction } = run.data
  if (path === undefined) {
    throw usageError('no-data', 'The run file names no data.', 'Set data.path, or give --data.')
  }
  const corpus = await loadDocuments(files, path, { field, signal })
  const start = await startingPoint(context, run, corpus)
  await fits(start.config)
  const parameters = await start.parameters()
  const built = await buildDataset({
    documents: corpus.documents,
    tokenizer: start.tokenizer,
    heldOutFraction,
    seed: run.seed,
    signal,
  })
  const dataset = await openDataset(built.manifestBytes, (cid: Cid) => built.shards.get(cid), { signal })
  const { train, validation } = built.manifest
  output.line(
    `Data: ${counted(corpus.documents.length, 'document')}, ${formatBytes(corpus.textBytes)}; ` +
      `${formatCount(train.tokens)} tokens to train on, ${formatCount(validation.tokens)} held out`,
  )
  output.event({
    event: 'data',
    path: absolute(context, path),
    documents: corpus.documents.length,
    leftOut: corpus.leftOut,
    textBytes: corpus.textBytes,
    trainTokens: train.tokens,
    validationTokens: validation.tokens,
    vocabularySize: start.tokenizer.vocabularySize,
    manifestCid: built.manifestCid,
  })
  return { built, dataset, ...start, parameters }
}

type StartingPoint = Pick<PreparedRun, 'tokenizer' | 'config'> & {
  readonly parameters: () => Promise<Parameters>
}

/** A checkpoint to go on from, or a new model of the shape that the run file gives. */
async function startingPoint(context: CommandContext, run: RunFile, corpus: Corpus): Promise<StartingPoint> {
  const { checkpoint, keyValueHeads, ...shape } = run.model
  if (checkpoint !== undefined) {
    const { tokenizer, config, parameters } = await readCheckpoint(context.files, checkpoint, {
      signal: context.signal,
    })
    if (run.training.sequenceLength > config.maxPositionEmbeddings) {
      throw usageError(
        'sequence-length',
        `A sequence of ${run.training.sequenceLength} tokens does not fit the ${config.maxPositionEmbeddings} positions of “${checkpoint}”.`,
        'Lower training.sequenceLength.',
      )
    }
    return { tokenizer, config, parameters: async () => parameters }
  }
  const tokenizer =
    run.tokenizer.kind === 'bytes'
      ? byteTokenizer()
      : await inTurns(
          takingTurnsUntil(context.signal),
          trainBytePairEncoding,
          // not on what is held out, which is to stay unseen
          splitHeldOut(corpus.documents, { fraction: run.data.heldOutFraction, seed: run.seed }).train,
          { vocabularySize: run.tokenizer.vocabularySize },
        )
  const config = llamaConfig({
    ...shape,
    ...(keyValueHeads === undefined ? {} : { keyValueHeads }),
    vocabularySize: tokenizer.vocabularySize,
    bosTokenId: tokenizer.endOfTextId,
    eosTokenId: tokenizer.endOfTextId,
  })
  return {
    ...{ tokenizer, config },
    parameters: () => inTurns(takingTurnsUntil(context.signal), initialParameters, config, run.seed),
  }
}
