/**
 * The 16-bit floats that checkpoints come in, widened to float32, which holds every one of them exactly: IEEE 754
 * binary16 and bfloat16 (the upper half of a float32).
 */

/** Widens little-endian binary16 values. */
export function float16ToFloat32(halves: Uint16Array): Float32Array {
  const bits = new Uint32Array(halves.length)
  for (let i = 0; i < halves.length; i++) {
    const half = halves[i]!
    const sign = (half & 0x8000) << 16
    const exponent = (half >> 10) & 0x1f
    const fraction = half & 0x3ff
    if (exponent === 0x1f) {
      bits[i] = sign | 0x7f800000 | (fraction << 13) // infinity, or NaN with its payload
    } else if (exponent !== 0) {
      bits[i] = sign | ((exponent + 112) << 23) | (fraction << 13) // bias 15 becomes bias 127
    } else if (fraction === 0) {
      bits[i] = sign
    } else {
      // Subnormal: shift the leading one into the hidden bit; float32 has exponents to spare.
      const shift = Math.clz32(fraction) - 21
      bits[i] = sign | ((113 - shift) << 23) | (((fraction << shift) & 0x3ff) << 13)
    }
  }
  return new Float32Array(bits.buffer)
}

/** Widens little-endian bfloat16 values. */
export function bfloat16ToFloat32(halves: Uint16Array): Float32Array {
  const bits = new Uint32Array(halves.length)
  for (let i = 0; i < halves.length; i++) bits[i] = halves[i]! << 16
  return new Float32Array(bits.buffer)
}
