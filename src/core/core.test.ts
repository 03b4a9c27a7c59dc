import fc from 'fast-check'
import { CID } from 'multiformats/cid'
import { describe, expect, test } from 'vitest'
import {
  cidOf,
  cidOfDigest,
  decodeCanonical,
  deriveSeed,
  ed25519Signer,
  encodeCanonical,
  GroundswellError,
  matchesCid,
  memoryFiles,
  openEnvelope,
  parseCid,
  permutation,
  sealEnvelope,
  seededRandom,
  VirtualClock,
} from './index.ts'

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text)

const codeOf = (action: () => unknown): string | undefined => {
  try {
    action()
  } catch (error) {
    return error instanceof GroundswellError ? error.code : 'not a GroundswellError'
  }
  return undefined
}

describe('names of content', () => {
  test('is CIDv1, raw, sha2-256 of the content (FIPS 180-2, example B.1)', async () => {
    const { bytes: named } = CID.parse(await cidOf(bytes('abc')))
    const hex = Array.from(named, (byte) => byte.toString(16).padStart(2, '0')).join('')
    expect(hex).toBe('01551220ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad')
  })

  test('a digest that was computed elsewhere gives the same name', async () => {
    const content = bytes('hello world')
    const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', content as Uint8Array<ArrayBuffer>))
    expect(cidOfDigest(digest)).toBe(await cidOf(content))
    expect(await matchesCid(content, cidOfDigest(digest))).toBe(true)
    expect(await matchesCid(bytes('hello'), cidOfDigest(digest))).toBe(false)
  })

  test.each([
    '',
    'QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbdG',
    'bafkreifzjut3te7nhyekklss27nh3k72ysco7y32koao5eei66wof36n5',
    '../../etc/passwd',
  ])('“%s” is not accepted as a name', (text) => {
    expect(codeOf(() => parseCid(text))).toBe('cid/invalid')
  })
})

describe('canonical bytes', () => {
  test('the order in which keys were written does not matter', () => {
    expect(encodeCanonical({ b: 1, aa: 2 })).toEqual(encodeCanonical({ aa: 2, b: 1 }))
  })

  test('any bytes either decode or give a typed error, and size is checked first', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), (noise) => {
        const code = codeOf(() => decodeCanonical(noise, 64))
        expect([undefined, 'message/malformed']).toContain(code)
      }),
    )
    expect(codeOf(() => decodeCanonical(new Uint8Array(65), 64))).toBe('message/oversized')
  })
})

describe('signed statements', () => {
  const signer = ed25519Signer(new Uint8Array(32).fill(7))
  const sealed = sealEnvelope('groundswell/test/1', { round: 3 }, signer)

  test('open to what was sealed, with the key of the maker', () => {
    const opened = openEnvelope('groundswell/test/1', sealed, 1024)
    expect(opened).toEqual({ content: { round: 3 }, publicKey: signer.publicKey })
  })

  test('do not open for another purpose', () => {
    expect(codeOf(() => openEnvelope('groundswell/other/1', sealed, 1024))).toBe('message/bad-signature')
  })

  test('one changed bit anywhere is noticed', () => {
    fc.assert(
      fc.property(fc.nat(sealed.byteLength - 1), fc.nat(7), (index, bit) => {
        const tampered = sealed.slice()
        tampered[index] = tampered[index]! ^ (1 << bit)
        expect(codeOf(() => openEnvelope('groundswell/test/1', tampered, 1024))).toMatch(/^message\//)
      }),
      { numRuns: 60 },
    )
  })
})

describe('seeded randomness', () => {
  test('the same parts give the same sequence, other parts another', () => {
    const sequence = (seed: string): number[] => {
      const random = seededRandom('test', seed)
      return Array.from({ length: 4 }, () => random.nextUint32())
    }
    expect(sequence('a')).toEqual(sequence('a'))
    expect(sequence('a')).not.toEqual(sequence('b'))
    expect(deriveSeed('ab', 'c')).not.toEqual(deriveSeed('a', 'bc'))
  })

  test('integers are unbiased and within bounds; a permutation loses nothing', () => {
    const random = seededRandom('bounds')
    const counts = new Array<number>(7).fill(0)
    for (let i = 0; i < 70_000; i++) counts[random.nextInt(7)]!++
    for (const count of counts) expect(Math.abs(count - 10_000)).toBeLessThan(500)
    expect([...permutation(100, random)].sort((a, b) => a - b)).toEqual(
      Array.from({ length: 100 }, (_, i) => i),
    )
  })

  test('normals have mean 0 and variance 1', () => {
    const random = seededRandom('normal')
    const values = Array.from({ length: 50_000 }, () => random.nextNormal())
    const mean = values.reduce((a, b) => a + b, 0) / values.length
    const variance = values.reduce((a, b) => a + (b - mean) ** 2, 0) / values.length
    expect(Math.abs(mean)).toBeLessThan(0.02)
    expect(Math.abs(variance - 1)).toBeLessThan(0.03)
  })
})

describe('a virtual clock', () => {
  test('wakes sleepers in order of their deadline and rejects the aborted', async () => {
    const clock = new VirtualClock(1000)
    const woken: string[] = []
    const abort = new AbortController()
    void clock.sleep(20).then(() => woken.push(`second at ${clock.now()}`))
    void clock.sleep(10).then(() => woken.push(`first at ${clock.now()}`))
    const aborted = clock.sleep(30, abort.signal).catch((reason: unknown) => woken.push(String(reason)))
    abort.abort('stopped')
    await aborted
    await clock.advance(50)
    expect(woken).toEqual(['stopped', 'first at 1010', 'second at 1020'])
    expect(clock.now()).toBe(1050)
  })

  test('that is set back or forward goes on steadily for whoever waits', async () => {
    const clock = new VirtualClock(1000)
    let woken = false
    void clock.sleep(10).then(() => {
      woken = true
    })
    clock.jump(-3_600_000)
    await clock.advance(9)
    expect([woken, clock.steady(), clock.now()]).toEqual([false, 9, 1009 - 3_600_000])
    clock.jump(7_200_000)
    expect(woken).toBe(false)
    await clock.advance(1)
    expect([woken, clock.steady(), clock.now()]).toEqual([true, 10, 1010 + 3_600_000])
  })
})

describe('files in memory', () => {
  test('list, read in ranges, replace and remove', async () => {
    const files = memoryFiles({ 'a/one.txt': '0123456789', 'a/b/two.txt': 'x', 'c.txt': 'y' })
    expect((await files.list('a')).map((entry) => entry.path)).toEqual(['a/b/two.txt', 'a/one.txt'])
    expect(new TextDecoder().decode(await files.read('a/one.txt', { offset: 2, length: 3 }))).toBe('234')
    await files.write('c.txt', [bytes('new '), bytes('text')])
    expect(new TextDecoder().decode(await files.read('c.txt'))).toBe('new text')
    await files.remove('a')
    expect(await files.exists('a/one.txt')).toBe(false)
    await expect(files.read('gone')).rejects.toMatchObject({ code: 'file/not-found' })
  })
})
