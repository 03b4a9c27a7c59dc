/** Values as they are, little-endian. */
import type { Encoding } from './encodings.ts'
import { allWithin, largestMagnitude, readFloats, writeFloats } from './wire.ts'

export const float32: Encoding = {
  variant: 1,
  tensorBytes: (size) => 4 * size,
  encodeTensor: (values, target, byteOffset) => writeFloats(target, byteOffset, values),
  openTensor: (source, byteOffset, size) => {
    const values = readFloats(source, byteOffset, size)
    if (!allWithin(values, largestMagnitude)) return undefined
    return {
      addScaled: (target, weight) => {
        for (let i = 0; i < size; i++) target[i] = target[i]! + weight * values[i]!
      },
      squaredNorm: () => {
        let squares = 0
        for (let i = 0; i < size; i++) squares += values[i]! * values[i]!
        return squares
      },
    }
  },
}
