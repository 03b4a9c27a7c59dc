import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { type Files, GroundswellError, memoryFiles } from '../core/index.ts'
import type { Parameters } from './parameters.ts'
import { readSafetensors, safetensorsChunks, writeSafetensors } from './safetensors.ts'

const path = 'model.safetensors'
const f32 = (...values: number[]): Float32Array => Float32Array.from(values)

/** A file with this header and this many bytes after it. */
function fileOf(header: string | object, dataBytes = 0, claimedHeaderBytes?: bigint): Uint8Array {
  const json = new TextEncoder().encode(typeof header === 'string' ? header : JSON.stringify(header))
  const file = new Uint8Array(8 + json.byteLength + dataBytes)
  new DataView(file.buffer).setBigUint64(0, claimedHeaderBytes ?? BigInt(json.byteLength), true)
  file.set(json, 8)
  return file
}

const read = (bytes: Uint8Array): ReturnType<typeof readSafetensors> =>
  readSafetensors(memoryFiles({ [path]: bytes }), path)

describe('safetensors', () => {
  const tensor: fc.Arbitrary<{ shape: number[]; data: Float32Array }> = fc
    .array(fc.nat(4), { maxLength: 3 })
    .chain((shape) => {
      const length = shape.reduce((product, dimension) => product * dimension, 1)
      const data = fc.float32Array({ minLength: length, maxLength: length })
      return data.map((values) => ({ shape, data: values }))
    })

  test('whatever is written is read, bit for bit', async () => {
    await fc.assert(
      fc.asyncProperty(fc.dictionary(fc.string(), tensor), async (tensors) => {
        const files = memoryFiles()
        await writeSafetensors(files, path, tensors, { format: 'pt', note: 'schön' })
        const found = await readSafetensors(files, path)
        expect(found.tensors).toEqual(tensors)
        expect(found.metadata).toEqual({ format: 'pt', note: 'schön' })
      }),
    )
  })

  test('the bytes are those of the Python library', () => {
    // safetensors.torch.save({"b": arange(3.), "a.10": ones(2, 2), "a.9": tensor(5.), "empty": zeros(0, 4)},
    //                        metadata={"format": "pt"}) with safetensors 0.8.0
    const expected =
      '08010000000000007b225f5f6d657461646174615f5f223a7b22666f726d6174223a227074227d2c22612e3130223a7b22647479' +
      '7065223a22463332222c227368617065223a5b322c325d2c22646174615f6f666673657473223a5b302c31365d7d2c22612e3922' +
      '3a7b226474797065223a22463332222c227368617065223a5b5d2c22646174615f6f666673657473223a5b31362c32305d7d2c22' +
      '62223a7b226474797065223a22463332222c227368617065223a5b335d2c22646174615f6f666673657473223a5b32302c33325d' +
      '7d2c22656d707479223a7b226474797065223a22463332222c227368617065223a5b302c345d2c22646174615f6f666673657473' +
      '223a5b33322c33325d7d7d200000803f0000803f0000803f0000803f0000a040000000000000803f00000040'
    const tensors: Parameters = {
      b: { shape: [3], data: f32(0, 1, 2) },
      'a.10': { shape: [2, 2], data: f32(1, 1, 1, 1) },
      'a.9': { shape: [], data: f32(5) },
      empty: { shape: [0, 4], data: f32() },
    }
    const bytes = safetensorsChunks(tensors).flatMap((chunk) => [...chunk])
    expect(bytes.map((byte) => byte.toString(16).padStart(2, '0')).join('')).toBe(expected)
  })

  test('tensors start at multiples of eight bytes, whatever the names', () => {
    for (let length = 1; length < 12; length++) {
      const [head] = safetensorsChunks({ ['x'.repeat(length)]: { shape: [1], data: f32(1) } })
      expect(head!.byteLength % 8).toBe(0)
    }
  })

  test('F16 and BF16 are widened', async () => {
    const file = fileOf(
      {
        half: { dtype: 'F16', shape: [2], data_offsets: [0, 4] },
        brain: { dtype: 'BF16', shape: [1, 2], data_offsets: [4, 8] },
      },
      8,
    )
    file.set([0x00, 0x3c, 0x00, 0xc0, 0x80, 0x3f, 0x00, 0xc0], file.byteLength - 8)
    const { tensors } = await read(file)
    expect(tensors).toEqual({
      half: { shape: [2], data: f32(1, -2) },
      brain: { shape: [1, 2], data: f32(1, -2) },
    })
  })

  test('a view into a larger buffer, at an odd address, is read all the same', async () => {
    const whole = memoryFiles()
    await writeSafetensors(whole, path, { x: { shape: [3], data: f32(1, 2, 3) } })
    const files: Files = {
      ...whole,
      read: async (name, range) => {
        const bytes = await whole.read(name, range)
        const shifted = new Uint8Array(bytes.byteLength + 3)
        shifted.set(bytes, 3)
        return shifted.subarray(3)
      },
    }
    expect((await readSafetensors(files, path)).tensors.x!.data).toEqual(f32(1, 2, 3))
  })

  const good = { dtype: 'F32', shape: [2], data_offsets: [0, 8] }
  test.each<[string, Uint8Array, string, RegExp]>([
    ['an empty file', new Uint8Array(), 'truncated', /0 bytes/],
    ['less than a length', new Uint8Array(7), 'truncated', /7 bytes/],
    ['a header longer than the file', fileOf({}, 0, 1000n), 'truncated', /1000 bytes/],
    ['a header of 2⁶³ bytes', fileOf({}, 0, 2n ** 63n), 'malformed', /above 100000000/],
    ['a header that is not JSON', fileOf('{"x": '), 'malformed', /not JSON/],
    ['a header that is not UTF-8', fileOf('{}  ').with(9, 0xff), 'malformed', /not JSON/],
    ['a header that is a list', fileOf('[]'), 'malformed', /not a JSON object/],
    ['a tensor without a shape', fileOf({ x: { ...good, shape: undefined } }, 8), 'malformed', /“x”/],
    ['a tensor with an extra field', fileOf({ x: { ...good, scale: 1 } }, 8), 'malformed', /“x”/],
    ['a tensor that is null', fileOf({ x: null }, 8), 'malformed', /“x”/],
    ['a negative dimension', fileOf({ x: { ...good, shape: [-2] } }, 8), 'malformed', /“x”/],
    ['a broken dimension', fileOf({ x: { ...good, shape: [0.5, 4] } }, 8), 'malformed', /“x”/],
    ['an unknown type', fileOf({ x: { ...good, dtype: 'F31' } }, 8), 'malformed', /unknown type F31/],
    [
      'a type from the prototype',
      fileOf({ x: { ...good, dtype: 'toString' } }, 8),
      'malformed',
      /unknown type/,
    ],
    [
      'offsets that run backwards',
      fileOf({ x: { ...good, data_offsets: [8, 0] } }, 8),
      'malformed',
      /-8 bytes/,
    ],
    [
      'offsets that do not match the shape',
      fileOf({ x: { ...good, shape: [3] } }, 8),
      'malformed',
      /takes 12/,
    ],
    [
      'a shape whose product overflows',
      fileOf({ x: { ...good, shape: Array.from({ length: 32 }, () => 2 ** 40) } }, 8),
      'malformed',
      /“x”/,
    ],
    ['data cut short', fileOf({ x: good }, 7), 'truncated', /inside tensor “x”, which reaches to/],
    ['data left over', fileOf({ x: good }, 9), 'malformed', /1 bytes after its last tensor/],
    ['two tensors in one place', fileOf({ x: good, y: good }, 8), 'malformed', /“y” that overlaps/],
    ['a gap', fileOf({ x: { ...good, data_offsets: [4, 12] } }, 12), 'malformed', /“x” that leaves a gap/],
    ['metadata that is not text', fileOf({ __metadata__: { a: 1 } }), 'malformed', /metadata/],
    ['a type that is sound but not read', fileOf({ x: { ...good, dtype: 'I32' } }, 8), 'unsupported', /I32/],
  ])('%s is refused in one sentence that names the file', async (_what, bytes, code, message) => {
    const error: unknown = await read(bytes).catch((thrown: unknown) => thrown)
    expect(error).toBeInstanceOf(GroundswellError)
    const { code: found, message: text } = error as GroundswellError
    expect(found).toBe(`safetensors/${code}`)
    expect(text).toMatch(message)
    expect(text).toContain(path)
  })

  test('bytes at random never do worse than be refused', async () => {
    const start = safetensorsChunks({ x: { shape: [2], data: f32(1, 2) }, y: { shape: [1], data: f32(3) } })
    const sound = Uint8Array.from(start.flatMap((chunk) => [...chunk]))
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.nat(sound.byteLength - 1), fc.nat(255)), { minLength: 1, maxLength: 8 }),
        fc.nat(sound.byteLength),
        async (changes, cut) => {
          const broken = sound.slice()
          for (const [at, byte] of changes) broken[at] = byte
          const outcome = await read(broken.subarray(0, broken.byteLength - (cut % 5))).catch(
            (thrown: unknown) => thrown,
          )
          if (outcome instanceof Error) expect(outcome).toBeInstanceOf(GroundswellError)
        },
      ),
      { numRuns: 500 },
    )
  })

  test('a file that is not there is named', async () => {
    await expect(readSafetensors(memoryFiles(), 'nowhere.safetensors')).rejects.toThrow(/nowhere.safetensors/)
  })
})
