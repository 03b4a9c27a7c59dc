/**
 * Row lengths that a processor's cache cannot hold. ONNX Runtime packs the right factor of a product and reads the
 * left one where it lies, a dozen rows at a time. Rows that begin a multiple of 4 KiB apart have their columns in the
 * same few places of the first cache, where they drive each other out: [2048, k]·[k, 384] runs at 127-140 GFLOP/s with
 * k = 1024, 2048 or 3072 and at 179-192 with 16 more, while k = 256, 512, 768 or 1536 lose nothing (two cores of an AMD
 * EPYC). In WebAssembly a step loses a tenth. So graphs for processors have such rows longer by a cache line of zeros.
 */
import type { Place } from '../runtime/index.ts'

/** 4 KiB and 64 bytes of float32 values. */
const page = 1024
const cacheLine = 16

/** Whether rows of so many float32 values collide in the cache where a product reads them as its left factor. */
export function collide(rowLength: number, place: Place): boolean {
  return place === 'processor' && rowLength % page === 0
}

/** How many values such rows are to be longer; 0 where they do not collide. */
export function spareColumns(rowLength: number, place: Place): number {
  return collide(rowLength, place) ? cacheLine : 0
}
