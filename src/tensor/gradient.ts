/**
 * Reverse-mode differentiation: from the loss back to its inputs each node turns the gradient of its output
 * into gradients of its inputs, and a tensor used several times receives their sum. The result is an ordinary
 * graph, so it can be differentiated again.
 */

import { topologicalOrder } from './graph.ts'
import { add } from './operations/elementwise.ts'
import { scatterAddOperation, scatterElementsAddOperation } from './operations/indexing.ts'
import { parameterOperation, scalar, uniformValue, zeros } from './operations/leaves.ts'
import { concat, padOperation } from './operations/shape.ts'
import { shapeError } from './rules.ts'
import { apply, isOf, sameShape, type Tensor } from './tensor.ts'

/**
 * Gradients of a scalar loss, one for each tensor of `withRespectTo`; zeros where the loss does not depend on
 * it.
 */
export function grad(loss: Tensor, withRespectTo: readonly Tensor[]): Tensor[] {
  if (loss.dtype !== 'float32' || loss.shape.length !== 0) {
    throw shapeError('grad', 'the loss must be a float32 scalar; sum or mean it first', [loss])
  }
  const gradients = propagate(loss, scalar(1), withRespectTo)
  return gradients.map((gradient, i) => gradient ?? zeros(withRespectTo[i]!.shape))
}

/**
 * The vector-Jacobian product of `output` with `cotangent`, for each tensor; `undefined` where none flows.
 */
export function propagate(
  output: Tensor,
  cotangent: Tensor,
  withRespectTo: readonly Tensor[],
): (Tensor | undefined)[] {
  const order = topologicalOrder([output])
  const wanted = new Set(withRespectTo.map(identityOf))
  const depends = new Set<Tensor>()
  for (const node of order) {
    if (wanted.has(identityOf(node)) || node.inputs.some((input) => depends.has(input))) depends.add(node)
  }
  const arriving = new Map<Tensor | string, Tensor[]>([[identityOf(output), [cotangent]]])
  const total = new Map<Tensor | string, Tensor>()
  for (const node of order.reverse()) {
    const identity = identityOf(node)
    const parts = arriving.get(identity)
    if (parts === undefined || !depends.has(node)) continue
    const gradient = accumulate(parts)
    total.set(identity, gradient)
    if (!node.inputs.some((input) => depends.has(input))) continue
    const flows = node.op.gradient?.({ node, inputs: node.inputs, attributes: node.attributes, gradient })
    flows?.forEach((flow, i) => {
      const input = node.inputs[i]!
      if (flow === undefined || input.dtype !== 'float32' || !depends.has(input)) return
      if (!sameShape(flow.shape, input.shape)) {
        throw shapeError(`gradient of ${node.op.name}`, `input ${i} and its gradient differ in shape`, [
          input,
          flow,
        ])
      }
      const list = arriving.get(identityOf(input))
      if (list === undefined) arriving.set(identityOf(input), [flow])
      else list.push(flow)
    })
  }
  return withRespectTo.map((tensor) => total.get(identityOf(tensor)))
}

/** Placeholders of one name are one tensor, however often they were written down. */
function identityOf(tensor: Tensor): Tensor | string {
  return isOf(tensor, parameterOperation) ? (tensor.attributes.name as string) : tensor
}

/**
 * The sum of gradients that arrive at one tensor, written so that it costs least: slices that were cut from
 * it are joined again instead of padded and added, and scattered rows are added onto the rest instead of onto
 * zeros.
 */
function accumulate(parts: readonly Tensor[]): Tensor {
  if (parts.length === 1) return parts[0]!
  const isScatter = (part: Tensor): boolean =>
    (isOf(part, scatterAddOperation) || isOf(part, scatterElementsAddOperation)) &&
    uniformValue(part.inputs[0]!) === 0
  const [joined, others] = joinSlices(parts)
  const dense = others.filter((part) => !isScatter(part))
  const scattered = others.filter(isScatter)
  const addends = joined === undefined ? dense : [joined, ...dense]
  let sum: Tensor | undefined
  for (const part of addends) sum = sum === undefined ? part : add(sum, part)
  for (const part of scattered) {
    sum = sum === undefined ? part : apply(part.op, [sum, ...part.inputs.slice(1)], part.attributes)
  }
  return sum!
}

/** Padded pieces along one axis that do not overlap become one concatenation; the rest is handed back. */
function joinSlices(parts: readonly Tensor[]): [Tensor | undefined, readonly Tensor[]] {
  const pads = parts.filter((part) => isOf(part, padOperation))
  const axis = pads[0]?.attributes.axis as number | undefined
  if (axis === undefined) return [undefined, parts]
  const startOf = (pad: Tensor): number => pad.attributes.before as number
  const sorted = pads.filter((pad) => pad.attributes.axis === axis).sort((a, b) => startOf(a) - startOf(b))
  const chosen: Tensor[] = []
  const pieces: Tensor[] = []
  const shape = sorted[0]!.shape
  const gap = (length: number): Tensor => zeros(shape.map((own, i) => (i === axis ? length : own)))
  let end = 0
  for (const pad of sorted) {
    if (startOf(pad) < end) continue
    if (startOf(pad) > end) pieces.push(gap(startOf(pad) - end))
    pieces.push(pad.inputs[0]!)
    chosen.push(pad)
    end = startOf(pad) + pad.inputs[0]!.shape[axis]!
  }
  if (chosen.length < 2) return [undefined, parts]
  if (end < shape[axis]!) pieces.push(gap(shape[axis]! - end))
  return [concat(pieces, { axis }), parts.filter((part) => !chosen.includes(part))]
}
