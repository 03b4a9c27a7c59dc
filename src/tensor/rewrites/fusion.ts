/**
 * Rewrites that join an operation with the product it follows. They pay only if nobody else needs the bare
 * product, so they run after equal nodes have been merged and uses can be counted.
 */
import { addOperation, subOperation } from '../operations/elementwise.ts'
import {
  type GemmAttributes,
  gemmOperation,
  type MatmulAttributes,
  matmulOperation,
} from '../operations/matmul.ts'
import { apply, isOf, type Tensor } from '../tensor.ts'
import { factorOf } from './identities.ts'
import type { Rule, RuleContext } from './rule.ts'

/** (alpha·A·B)·c = (alpha·c)·A·B */
const factorIntoProduct: Rule = (node, context) => {
  const scaled = factorOf(node)
  if (scaled === undefined || !isOf(scaled.x, matmulOperation) || context.usesOf(scaled.x) !== 1)
    return undefined
  const { attributes, inputs } = scaled.x
  const alpha = Math.fround((attributes.alpha as number) * scaled.factor)
  return { ...scaled.x, inputs, attributes: { ...attributes, alpha } }
}

/** A·B + c in one Gemm, for a row c that is added to every row of a matrix. */
const addendIntoProduct: Rule = (node, context) => {
  if (!isOf(node, addOperation)) return undefined
  const [a, b] = node.inputs as [Tensor, Tensor]
  return withAddend(b, a, 1, context) ?? withAddend(a, b, 1, context)
}

/** A·B − c likewise. */
const subtrahendIntoProduct: Rule = (node, context) =>
  isOf(node, subOperation) ? withAddend(node.inputs[0]!, node.inputs[1]!, -1, context) : undefined

function withAddend(product: Tensor, c: Tensor, beta: number, { usesOf }: RuleContext): Tensor | undefined {
  const isMatrixProduct =
    isOf(product, matmulOperation) && product.inputs.every(({ shape }) => shape.length === 2)
  if (!isMatrixProduct || usesOf(product) !== 1 || !fitsAsAddend(c, product)) return undefined
  const attributes: GemmAttributes = { ...(product.attributes as unknown as MatmulAttributes), beta }
  return apply(gemmOperation, [...product.inputs, c], attributes)
}

/**
 * Rows only: an addend of the product's own shape is cheaper in an Add of its own, because ONNX Runtime's CPU kernel
 * copies C into the result on one thread before it multiplies (13M parameters: a training step of 756 ms with such
 * addends in the product, 741 ms without).
 */
function fitsAsAddend(c: Tensor, product: Tensor): boolean {
  return c.shape.length === 1 && c.shape[0] === product.shape[1]
}

export const fusionRules: readonly Rule[] = [factorIntoProduct, addendIntoProduct, subtrahendIntoProduct]
