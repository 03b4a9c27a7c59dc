/** Typed arrays that double when they are full. */

export function growInt32(array: Int32Array, needed: number): Int32Array {
  if (needed <= array.length) return array
  const larger = new Int32Array(Math.max(needed, array.length * 2))
  larger.set(array)
  return larger
}

export function growUint8(array: Uint8Array, needed: number): Uint8Array {
  if (needed <= array.length) return array
  const larger = new Uint8Array(Math.max(needed, array.length * 2))
  larger.set(array)
  return larger
}

export function growFloat64(array: Float64Array, needed: number): Float64Array {
  if (needed <= array.length) return array
  const larger = new Float64Array(Math.max(needed, array.length * 2))
  larger.set(array)
  return larger
}
