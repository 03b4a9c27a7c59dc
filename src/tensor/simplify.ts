/**
 * Rewrites a graph into an equal one that costs less. Every node is interned: two nodes of one operation with
 * equal attributes and equal inputs become one (common-subexpression elimination), and a node that a rule
 * knows better becomes what the rule says. What no output needs is never visited.
 */
import { topologicalOrder } from './graph.ts'
import { fusionRules } from './rewrites/fusion.ts'
import { identityRules } from './rewrites/identities.ts'
import type { Rule } from './rewrites/rule.ts'
import type { Operation, Tensor } from './tensor.ts'

export function simplify(roots: readonly Tensor[]): Tensor[] {
  return rewrite(rewrite(roots, identityRules), fusionRules)
}

function rewrite(roots: readonly Tensor[], rules: readonly Rule[]): Tensor[] {
  const order = topologicalOrder(roots)
  const uses = new Map<Tensor, number>()
  for (const tensor of [...roots, ...order.flatMap(({ inputs }) => inputs)]) {
    uses.set(tensor, (uses.get(tensor) ?? 0) + 1)
  }
  const intern = interner()
  const results = new Map<Tensor, Tensor>()
  const usesOf = new Map<Tensor, number>()
  const context = { usesOf: (tensor: Tensor) => usesOf.get(tensor) ?? 0 }
  const settle = (node: Tensor): Tensor => {
    if (intern.has(node)) return node
    const ready = { ...node, inputs: node.inputs.map(settle) }
    for (const rule of rules) {
      const better = rule(ready, context)
      if (better !== undefined) return settle(better)
    }
    return intern.node(ready)
  }
  for (const node of order) {
    const inputs = node.inputs.map((input) => results.get(input)!)
    const result = settle({ ...node, inputs })
    results.set(node, result)
    usesOf.set(result, (usesOf.get(result) ?? 0) + (uses.get(node) ?? 0))
  }
  return roots.map((root) => results.get(root)!)
}

interface Interner {
  node(tensor: Tensor): Tensor
  has(tensor: Tensor): boolean
}

function interner(): Interner {
  const operations = new Map<Operation, number>()
  const numbers = new Map<Tensor, number>()
  const byKey = new Map<string, Tensor>()
  const numberOf = <K>(map: Map<K, number>, key: K): number => {
    if (!map.has(key)) map.set(key, map.size)
    return map.get(key)!
  }
  return {
    has: (tensor) => numbers.has(tensor),
    node: (tensor) => {
      if (numbers.has(tensor)) return tensor
      const { op, attributes, inputs } = tensor
      const own = op.key === undefined ? JSON.stringify(attributes) : op.key(attributes)
      const key = `${numberOf(operations, op)} ${inputs.map((input) => numberOf(numbers, input)).join(',')} ${own}`
      const known = byKey.get(key)
      if (known !== undefined) return known
      numberOf(numbers, tensor)
      byKey.set(key, tensor)
      return tensor
    },
  }
}
