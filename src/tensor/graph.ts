/** Walks over the graph of tensors. Iterative, since a deep model is a deep graph. */
import type { Tensor } from './tensor.ts'

/** Every node that the roots need, inputs before their users, in an order that depends only on the graph. */
export function topologicalOrder(roots: readonly Tensor[]): Tensor[] {
  const order: Tensor[] = []
  const finished = new Set<Tensor>()
  const stack: { node: Tensor; next: number }[] = []
  for (const root of roots) {
    if (finished.has(root)) continue
    stack.push({ node: root, next: 0 })
    while (stack.length > 0) {
      const top = stack.at(-1)!
      const input = top.node.inputs[top.next++]
      if (input === undefined) {
        stack.pop()
        if (!finished.has(top.node)) {
          finished.add(top.node)
          order.push(top.node)
        }
      } else if (!finished.has(input)) {
        stack.push({ node: input, next: 0 })
      }
    }
  }
  return order
}
