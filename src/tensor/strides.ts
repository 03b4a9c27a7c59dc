/** Index arithmetic of row-major arrays, for the reference interpreter. */
import { type Shape, sizeOf } from './tensor.ts'

/** How far apart neighbours along each axis lie. */
export function stridesOf(shape: Shape): number[] {
  const strides = new Array<number>(shape.length)
  let stride = 1
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    strides[axis] = stride
    stride *= shape[axis]!
  }
  return strides
}

/**
 * Strides with which an array of `shape` is read as if it had the shape `target` (0 along broadcast axes).
 */
export function broadcastStrides(shape: Shape, target: Shape): number[] {
  const own = stridesOf(shape)
  const missing = target.length - shape.length
  return target.map((_, axis) => (axis < missing || shape[axis - missing] === 1 ? 0 : own[axis - missing]!))
}

/**
 * For each element of an array of `shape`, in order, where it lies in an array read with `strides` from
 * `start`.
 */
export function offsetsOf(shape: Shape, strides: readonly number[], start = 0): Int32Array {
  const offsets = new Int32Array(sizeOf(shape))
  const position = new Array<number>(shape.length).fill(0)
  let offset = start
  for (let i = 0; i < offsets.length; i++) {
    offsets[i] = offset
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      offset += strides[axis]!
      if (++position[axis]! < shape[axis]!) break
      offset -= strides[axis]! * shape[axis]!
      position[axis] = 0
    }
  }
  return offsets
}
