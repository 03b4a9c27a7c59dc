/**
 * Batches as a pure function of seed, step and replica, or of seed and number where a swarm leases them one by one. The tokens are one row of windows of `sequenceLength`, each with
 * one token more for the last target. A shuffle deals the windows out: replica r of R owns those at the places r, r + R,
 * r + 2R, … and so never sees another's. Each replica goes through its share once per epoch, in an order that every
 * epoch draws afresh; nothing is remembered between steps.
 */
import { GroundswellError } from '../core/index.ts'
import type { Dataset } from './dataset.ts'
import { type Shuffle, shuffle } from './shuffle.ts'

export interface BatchOptions {
  readonly seed: number
  /** Counted from 0. */
  readonly step: number
  /** Which share of the windows, from 0. */
  readonly replica: number
  readonly replicas: number
  readonly batchSize: number
  readonly sequenceLength: number
}

type Tokens = Dataset['trainTokens']

/**
 * The tokens of one step, [batchSize, sequenceLength + 1] row by row.
 * @throws GroundswellError `data/too-small` when a replica has no window
 */
export function batchAt(dataset: Pick<Dataset, 'trainTokens'>, options: BatchOptions): Int32Array {
  const { batchSize, sequenceLength } = options
  const windows = batchWindows(dataset.trainTokens.length, options)
  const batch = new Int32Array(batchSize * (sequenceLength + 1))
  for (const [row, window] of windows.entries()) {
    copyWindow(dataset.trainTokens, window, sequenceLength, batch, row)
  }
  return batch
}

export interface NumberedBatchOptions {
  readonly seed: number
  /** Counted from 0 over all epochs: a swarm trains each number once. */
  readonly batch: number
  readonly batchSize: number
  readonly sequenceLength: number
}

/**
 * The tokens of batch 0, 1, 2, … of all the training text, [batchSize, sequenceLength + 1] row by row. Every epoch goes
 * through all windows once, in an order of its own; a batch may end one epoch and begin the next. Whoever trains alone
 * with the same seed (`batchAt`, replica 0 of 1) sees the same batches in this order.
 * @throws GroundswellError `data/too-small` when there is no window
 */
export function batchNumbered(
  dataset: Pick<Dataset, 'trainTokens'>,
  { seed, batch, batchSize, sequenceLength }: NumberedBatchOptions,
): Int32Array {
  return batchAt(dataset, { seed, step: batch, replica: 0, replicas: 1, batchSize, sequenceLength })
}

/** Which windows a batch consists of; window w begins at token w · sequenceLength. */
export function batchWindows(tokens: number, options: BatchOptions): number[] {
  const { seed, step, replica, replicas, batchSize, sequenceLength } = options
  checkWhole({ step, replica }, 0)
  checkWhole({ replicas, batchSize, sequenceLength }, 1)
  if (replica >= replicas) throw new RangeError(`replica ${replica} is not below ${replicas}`)
  const windows = windowCount(tokens, sequenceLength)
  if (windows < replicas) {
    throw tooSmall(
      'training',
      tokens,
      sequenceLength,
      `${replicas} ${replicas === 1 ? 'replica' : 'replicas'}`,
    )
  }
  const share = Math.floor((windows - replica - 1) / replicas) + 1
  const deal = shuffle(windows, 'deal', seed)
  let epoch = -1
  let order: Shuffle | undefined
  return Array.from({ length: batchSize }, (_, row) => {
    const position = step * batchSize + row
    if (!Number.isSafeInteger(position)) throw new RangeError(`step ${step} is beyond what can be counted`)
    const rowEpoch = Math.floor(position / share)
    if (order === undefined || rowEpoch !== epoch) {
      epoch = rowEpoch
      order = shuffle(share, 'epoch', seed, replica, epoch)
    }
    return deal(order(position % share) * replicas + replica)
  })
}

/** How many whole windows the tokens make. */
export function windowCount(tokens: number, sequenceLength: number): number {
  return Math.max(0, Math.floor((tokens - 1) / sequenceLength))
}

export interface ValidationOptions {
  readonly batchSize: number
  readonly sequenceLength: number
  /** Default: all. */
  readonly maxBatches?: number
}

/**
 * Always the same batches in the same order: windows at even distances over all validation text, as many as make whole
 * batches. If there is not one batch of them, they repeat until there is.
 * @throws GroundswellError `data/too-small` when the validation text does not fill one window
 */
export function validationBatches(
  dataset: Pick<Dataset, 'validationTokens'>,
  options: ValidationOptions,
): Int32Array[] {
  const { batchSize, sequenceLength } = options
  const maxBatches = options.maxBatches ?? Number.MAX_SAFE_INTEGER
  checkWhole({ batchSize, sequenceLength, maxBatches }, 1)
  const tokens = dataset.validationTokens
  const windows = windowCount(tokens.length, sequenceLength)
  if (windows === 0) throw tooSmall('validation', tokens.length, sequenceLength, 'validation')
  const batches = Math.min(maxBatches, Math.max(1, Math.floor(windows / batchSize)))
  const used = Math.min(batches * batchSize, windows)
  return Array.from({ length: batches }, (_, b) => {
    const batch = new Int32Array(batchSize * (sequenceLength + 1))
    for (let row = 0; row < batchSize; row++) {
      const place = (b * batchSize + row) % used
      copyWindow(tokens, Math.floor((place * windows) / used), sequenceLength, batch, row)
    }
    return batch
  })
}

function copyWindow(
  tokens: Tokens,
  window: number,
  sequenceLength: number,
  batch: Int32Array,
  row: number,
): void {
  const start = window * sequenceLength
  batch.set(tokens.subarray(start, start + sequenceLength + 1), row * (sequenceLength + 1))
}

function checkWhole(values: Record<string, number>, least: number): void {
  for (const [name, value] of Object.entries(values)) {
    if (!Number.isSafeInteger(value) || value < least) {
      throw new RangeError(`${name} must be a whole number of at least ${least}, got ${value}`)
    }
  }
}

function tooSmall(half: string, tokens: number, sequenceLength: number, need: string): GroundswellError {
  const windows = windowCount(tokens, sequenceLength)
  return new GroundswellError(
    `The ${half} data has ${tokens} tokens, which makes ${windows} windows of ${sequenceLength} + 1; ${need} must have at least one each.`,
    { code: 'data/too-small', remedy: 'Give more text, or choose a shorter sequence length.' },
  )
}
