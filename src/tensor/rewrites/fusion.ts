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
import { apply, isOf, sameShape, type Tensor } from '../tensor.ts'
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

/** A·B + C in one Gemm, on matrices. */
const addendIntoProduct: Rule = (node, context) => {
  if (!isOf(node, addOperation)) return undefined
  const [a, b] = node.inputs as [Tensor, Tensor]
  return withAddend(b, a, 1, context) ?? withAddend(a, b, 1, context)
}

/** A·B − C likewise. */
const subtrahendIntoProduct: Rule = (node, context) =>
  isOf(node, subOperation) ? withAddend(node.inputs[0]!, node.inputs[1]!, -1, context) : undefined

function withAddend(product: Tensor, c: Tensor, beta: number, { usesOf }: RuleContext): Tensor | undefined {
  const isMatrixProduct =
    isOf(product, matmulOperation) && product.inputs.every(({ shape }) => shape.length === 2)
  if (!isMatrixProduct || usesOf(product) !== 1 || !fitsAsAddend(c, product)) return undefined
  const attributes: GemmAttributes = { ...(product.attributes as unknown as MatmulAttributes), beta }
  return apply(gemmOperation, [...product.inputs, c], attributes)
}

function fitsAsAddend(c: Tensor, product: Tensor): boolean {
  return sameShape(c.shape, product.shape) || (c.shape.length === 1 && c.shape[0] === product.shape[1])
}

export const fusionRules: readonly Rule[] = [factorIntoProduct, addendIntoProduct, subtrahendIntoProduct]
