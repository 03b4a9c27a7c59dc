/**
 * Cutting a model into P fragments of layers, as Streaming DiLoCo does: strided, layer l into fragment l mod P, which
 * that paper found at least as good as consecutive layers. What lies outside the layers goes with its end of the
 * model: the final norm and the output matrix into the last fragment, the embedding and everything else into the first.
 */
import { GroundswellError } from '../core/index.ts'
import type { TensorEntry, TensorLayout } from './method.ts'

const layerName = /^model\.layers\.(\d{1,6})\./
const atTheEnd = new Set(['model.norm.weight', 'lm_head.weight'])

export function fragmentOf(name: string, fragments: number): number {
  const layer = layerName.exec(name)?.[1]
  if (layer !== undefined) return Number(layer) % fragments
  return atTheEnd.has(name) ? fragments - 1 : 0
}

/** The entries of each fragment, in the order of the layout. */
export function fragmentsOf(layout: TensorLayout, fragments: number): readonly (readonly TensorEntry[])[] {
  const parts: TensorEntry[][] = Array.from({ length: fragments }, () => [])
  for (const entry of layout.entries) parts[fragmentOf(entry.name, fragments)]!.push(entry)
  return parts
}

/** @throws GroundswellError `sync/too-many-fragments` when a fragment would hold nothing */
export function requireFragments(layout: TensorLayout, fragments: number): void {
  const empty = fragmentsOf(layout, fragments).findIndex((part) => part.length === 0)
  if (empty === -1) return
  throw new GroundswellError(`Fragment ${empty} of ${fragments} would hold no layer of this model.`, {
    code: 'sync/too-many-fragments',
    remedy: 'Choose at most as many fragments as the model has layers.',
  })
}
