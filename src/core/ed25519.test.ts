import { ed25519 } from '@noble/curves/ed25519.js'
import * as fc from 'fast-check'
import { base16 } from 'multiformats/bases/base16'
import { describe, expect, test } from 'vitest'
import { type Ed25519, nativeEd25519, portableEd25519 } from './ed25519.ts'

const native = nativeEd25519()!
const implementations: [string, Ed25519][] = [
  ['portable', portableEd25519],
  ['native', native],
]

const { Point } = ed25519
type Bytes = Uint8Array
const bytesOf = (hexadecimal: string): Bytes => base16.baseDecode(hexadecimal)
// a point of order 8, from the list of https://eprint.iacr.org/2020/1244, table 1
const generator = Point.fromHex('c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a')
const weakKeys = Array.from({ length: 8 }, (_, i) =>
  i === 0 ? Point.ZERO.toBytes() : generator.multiplyUnsafe(BigInt(i)).toBytes(),
)

describe.each(implementations)('Ed25519, %s', (_, { publicKey, signerOf, verify }) => {
  // RFC 8032 §7.1, tests 1 and 3
  test.each([
    [
      '9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60',
      'd75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a',
      '',
      'e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b',
    ],
    [
      'c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7',
      'fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025',
      'af82',
      '6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a',
    ],
  ])('agrees with RFC 8032 for the seed %s', (...fields) => {
    const [seed, key, message, signature] = fields.map(bytesOf) as [Bytes, Bytes, Bytes, Bytes]
    expect(publicKey(seed)).toEqual(key)
    expect(signerOf(seed)(message)).toEqual(signature)
    expect(verify(signature, message, key)).toBe(true)
  })

  test('refuses a key of small order, with which one signature fits every message', () => {
    expect(new Set(weakKeys.map((key) => base16.baseEncode(key))).size).toBe(8)
    for (const key of weakKeys) {
      // 0 = S · B = R + h · A for an A of order 1, and for the others by luck
      const signature = new Uint8Array(64)
      signature.set(Point.ZERO.toBytes())
      for (let n = 0; n < 16; n++) expect(verify(signature, Uint8Array.of(n), key)).toBe(false)
    }
  })

  test('refuses keys outside the field, and what is no key and no signature', () => {
    const signature = signerOf(new Uint8Array(32))(Uint8Array.of(1))
    for (let y = 0xed; y <= 0xff; y++) {
      for (const last of [0x7f, 0xff]) {
        const key = new Uint8Array(32).fill(0xff)
        key[0] = y
        key[31] = last
        expect(verify(signature, Uint8Array.of(1), key)).toBe(false)
      }
    }
    const key = publicKey(new Uint8Array(32))
    expect(verify(signature, Uint8Array.of(1), key)).toBe(true)
    expect(verify(signature.subarray(1), Uint8Array.of(1), key)).toBe(false)
    expect(verify(signature, Uint8Array.of(1), key.subarray(1))).toBe(false)
    // S and S + L are the same scalar: only the smaller one is a signature
    const twin = signature.slice()
    let s = 0n
    for (let i = 63; i >= 32; i--) s = (s << 8n) | BigInt(twin[i]!)
    s += Point.Fn.ORDER
    for (let i = 32; i < 64; i++, s >>= 8n) twin[i] = Number(s & 0xffn)
    expect(verify(twin, Uint8Array.of(1), key)).toBe(false)
  })
})

test('both implementations sign alike and judge a changed signature, message or key alike', () => {
  const bytes = (length: number): fc.Arbitrary<Uint8Array> =>
    fc.uint8Array({ minLength: length, maxLength: length })
  fc.assert(
    fc.property(
      bytes(32),
      fc.uint8Array({ maxLength: 200 }),
      fc.constantFrom('signature', 'message', 'key', 'nothing'),
      fc.nat(511),
      (seed, message, part, bit) => {
        const key = portableEd25519.publicKey(seed)
        const signature = portableEd25519.signerOf(seed)(message)
        expect(native.publicKey(seed)).toEqual(key)
        expect(native.signerOf(seed)(message)).toEqual(signature)
        const changed = {
          signature: signature.slice(),
          message: message.slice(),
          key: key.slice(),
          nothing: new Uint8Array(),
        }
        const target = changed[part]
        if (target.length > 0) target[(bit >> 3) % target.length]! ^= 1 << (bit & 7)
        const verdicts = [portableEd25519, native].map(({ verify }) =>
          verify(changed.signature, changed.message, changed.key),
        )
        expect(verdicts[0]).toBe(target.length === 0)
        expect(verdicts[1]).toBe(verdicts[0])
      },
    ),
    { numRuns: 60 },
  )
})
