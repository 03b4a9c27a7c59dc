/**
 * A rewrite looks at one node, whose inputs are rewritten already, and may name a better one of equal value.
 */
import { isOf, type Operation, type Tensor } from '../tensor.ts'

export interface RuleContext {
  /** How many nodes and outputs use a tensor. */
  readonly usesOf: (tensor: Tensor) => number
}

export type Rule = (node: Tensor, context: RuleContext) => Tensor | undefined

/** A rule for nodes of one operation. */
export function ruleFor<A>(
  operation: Operation<A>,
  rule: (node: Tensor, attributes: A, context: RuleContext) => Tensor | undefined,
): Rule {
  return (node, context) =>
    isOf(node, operation) ? rule(node, node.attributes as unknown as A, context) : undefined
}
