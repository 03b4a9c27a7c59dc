/**
 * The output projection and the cross-entropy behind it as one block with a gradient written by hand. At a vocabulary
 * of some thousands the [rows, vocabulary] matrices are the largest of the whole step, so they are touched as rarely
 * as can be: one product, one softmax, and softmax − onehot(target) made of the probabilities in their own memory.
 */
import {
  cast,
  customGradient,
  div,
  equal,
  gatherElements,
  log,
  logicalNot,
  matmul,
  maximum,
  minimum,
  mul,
  neg,
  reshape,
  scatterElementsAdd,
  softmax,
  sub,
  sum,
  type Tensor,
  where,
} from '../tensor/index.ts'
import { transposedCopy } from './projection.ts'

/** The smallest normal float32: the loss of one token is at most −ln of it, 87.3 nats; its gradient has no bound. */
const smallest = 2 ** -126

export interface NextTokenLossOptions {
  /** Normalised last layer, [rows, hiddenSize]. */
  readonly hidden: Tensor
  /** [hiddenSize, vocabularySize], or if tied the embedding table, [vocabularySize, hiddenSize] */
  readonly outputWeight: Tensor
  readonly tied: boolean
  /** int32 [rows] */
  readonly targets: Tensor
  /** Targets that do not count. */
  readonly ignoreIndex: number
}

/** Mean cross-entropy in nats over the targets that count, a scalar. */
export function nextTokenLoss(options: NextTokenLossOptions): Tensor {
  const { hidden, outputWeight, tied, targets, ignoreIndex } = options
  const rows = targets.shape[0]!
  const counts = logicalNot(equal(targets, ignoreIndex))
  const column = reshape(where(counts, targets, 0), [rows, 1])
  const counted = reshape(cast(counts, 'float32'), [rows, 1])
  const shares = div(counted, maximum(sum(counted), 1)) // [rows, 1], what each row adds to the mean
  return customGradient(
    [hidden, outputWeight],
    (x, weight) => {
      const probabilities = softmax(matmul(x, weight, { transposeB: tied })) // [rows, vocabularySize]
      const chosen = gatherElements(probabilities, column, { axis: 1 }) // [rows, 1]
      const output = sum(mul(neg(log(maximum(chosen, smallest))), shares))
      return { output, saved: [probabilities, chosen] }
    },
    ({ inputs: [x, weight], saved: [probabilities, chosen], gradient }) => {
      // The minimum is zero. It makes the scattering wait for the reading above, so that it may happen in place.
      const minusOne = sub(minimum(chosen!, 0), 1)
      const dLogits = scatterElementsAdd(probabilities!, column, minusOne, { axis: 1 })
      const scales = mul(shares, gradient)
      const dHidden = mul(matmul(dLogits, weight!, { transposeB: !tied }), scales)
      const dWeight = matmul(transposedCopy(mul(x!, scales)), dLogits) // [hiddenSize, vocabularySize]
      return [dHidden, tied ? transposedCopy(dWeight) : dWeight]
    },
  )
}
