/** A pass over all parameters of a model, tensor by tensor, with turns for others in between (core/in-parts.ts). */
import type { Parts } from '../core/index.ts'
import type { TensorLayout } from './method.ts'

export function* tensorByTensor({ entries }: TensorLayout, work: (index: number) => void): Parts<void> {
  for (const { offset, size } of entries) {
    for (let i = offset; i < offset + size; i++) work(i)
    yield
  }
}
