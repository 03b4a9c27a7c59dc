/**
 * Cross-entropy of next-token prediction, and the log-probabilities that scoring and preference losses need.
 */
import { sum } from '../operations/broadcast.ts'
import { customGradient } from '../operations/control.ts'
import { cast, div, equal, exp, logicalNot, maximum, mul, neg, where } from '../operations/elementwise.ts'
import { gatherElements, scatterElementsAdd } from '../operations/indexing.ts'
import { reshape } from '../operations/shape.ts'
import { logSoftmax } from '../operations/softmax.ts'
import { requireDType, shapeError } from '../rules.ts'
import { sameShape, type Tensor } from '../tensor.ts'

/**
 * log p(target) for each position: logits [..., vocabulary], targets [...]. The gradient of the logits is
 * g·(onehot(target) − p), written as one pass over p and one addition per position.
 */
export function tokenLogProbabilities(logits: Tensor, targets: Tensor): Tensor {
  requireDType('tokenLogProbabilities', [targets], 'int32')
  if (!sameShape(logits.shape.slice(0, -1), targets.shape)) {
    throw shapeError('tokenLogProbabilities', 'needs one target for each position', [logits, targets])
  }
  const vocabulary = logits.shape.at(-1)!
  const column = reshape(targets, [-1, 1])
  const chosen = customGradient(
    [reshape(logits, [-1, vocabulary])],
    (rows) => {
      const logProbabilities = logSoftmax(rows)
      return {
        output: gatherElements(logProbabilities, column, { axis: 1 }),
        saved: [logProbabilities, column],
      }
    },
    ({ saved: [logProbabilities, index], gradient }) => {
      const spread = mul(exp(logProbabilities!), neg(gradient))
      return [scatterElementsAdd(spread, index!, gradient, { axis: 1 })]
    },
  )
  return reshape(chosen, targets.shape)
}

export interface CrossEntropyOptions {
  /** Positions with this target do not count; −100 as in PyTorch. */
  readonly ignoreIndex?: number
  /** `mean` over the positions that count; `none` gives each position's loss, 0 where it does not count. */
  readonly reduction?: 'mean' | 'sum' | 'none'
}

/** −log p(target), logits [..., vocabulary] and int32 targets [...]. */
export function crossEntropy(logits: Tensor, targets: Tensor, options: CrossEntropyOptions = {}): Tensor {
  const { ignoreIndex = -100, reduction = 'mean' } = options
  requireDType('crossEntropy', [targets], 'int32')
  if (!sameShape(logits.shape.slice(0, -1), targets.shape)) {
    throw shapeError('crossEntropy', 'needs one target for each position', [logits, targets])
  }
  const counts = logicalNot(equal(targets, ignoreIndex))
  const weights = cast(counts, 'float32')
  const losses = neg(mul(tokenLogProbabilities(logits, where(counts, targets, 0)), weights))
  if (reduction === 'none') return losses
  return reduction === 'sum' ? sum(losses) : div(sum(losses), maximum(sum(weights), 1))
}
