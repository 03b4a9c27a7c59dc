import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { type Document, heldOut, splitHeldOut } from './index.ts'

const documentsOf = (count: number, length = 40): Document[] =>
  Array.from({ length: count }, (_, i) => ({ path: `${i}`, text: `document ${i} `.padEnd(length, 'x') }))

describe('held-out text', () => {
  test('the hash of the text and the seed decide, and about the fraction is held out', () => {
    const documents = documentsOf(4000)
    const held = documents.filter((document) => heldOut(document, { seed: 1, fraction: 0.1 }))
    expect(held.length).toBeGreaterThan(320)
    expect(held.length).toBeLessThan(480)
    const other = documents.filter((document) => heldOut(document, { seed: 2, fraction: 0.1 }))
    expect(other).not.toEqual(held)
    expect(held.every((document) => heldOut(document, { seed: 1, fraction: 0.2 }))).toBe(true)
  })

  test('of many documents each stays whole, and adding one moves none of the others', () => {
    const rule = { seed: 3, fraction: 0.1 }
    const before = splitHeldOut(documentsOf(200), rule)
    const after = splitHeldOut([...documentsOf(200), { path: 'new', text: 'a new one' }], rule)
    expect([...before.train, ...before.validation].sort()).toEqual(
      documentsOf(200)
        .map((d) => d.text)
        .sort(),
    )
    expect(after.validation).toEqual(expect.arrayContaining([...before.validation]))
    expect(after.train).toEqual(expect.arrayContaining([...before.train]))
  })

  test('a single file is cut at line ends into text for both sides, and nothing is lost', () => {
    const lines = Array.from({ length: 4000 }, (_, i) => `line ${i} of a long file\n`)
    const text = lines.join('')
    const { train, validation } = splitHeldOut([{ path: 'one', text }], { seed: 0, fraction: 0.05 })
    for (const run of [...train, ...validation]) expect(run).toMatch(/^line \d.*\n$/s)
    const back = [...train, ...validation].flatMap((run) => run.split(/(?<=\n)/))
    expect(back.sort()).toEqual(lines.sort())
    const share = validation.join('').length / text.length
    expect(share).toBeGreaterThan(0.02)
    expect(share).toBeLessThan(0.1)
  })

  test('there is always text on both sides, and no unit is on both', () => {
    const documents = fc.uniqueArray(fc.string({ minLength: 1, maxLength: 20 }), {
      minLength: 2,
      maxLength: 6,
    })
    const fraction = fc.double({ min: 0.001, max: 0.999, noNaN: true })
    fc.assert(
      fc.property(documents, fraction, fc.nat(), (texts, share, seed) => {
        const split = splitHeldOut(
          texts.map((text) => ({ path: '', text })),
          { seed, fraction: share },
        )
        expect(split.train.length).toBeGreaterThan(0)
        expect(split.validation.length).toBeGreaterThan(0)
        expect([...split.train, ...split.validation].sort()).toEqual([...texts].sort())
      }),
    )
  })

  test('equal blocks of one file share one fate; if all are equal, places decide', () => {
    const text = 'the same line again\n'.repeat(2000)
    const { train, validation } = splitHeldOut([{ path: '', text }], { seed: 0, fraction: 0.1 })
    expect(validation).toHaveLength(1)
    expect(validation[0]! + train[0]!).toBe(text)
  })

  test('characters are never cut, and text without lines or spaces is divided too', () => {
    const { train, validation } = splitHeldOut([{ path: '', text: 'x😀'.repeat(9000) }], {
      seed: 0,
      fraction: 0.1,
    })
    expect([...train, ...validation].every((run) => run.isWellFormed())).toBe(true)
    expect(validation.length).toBeGreaterThan(0)
  })

  test('a fraction of 0 holds nothing out; impossible ones and a text too short are refused', () => {
    const documents = documentsOf(3)
    expect(splitHeldOut(documents, { seed: 0, fraction: 0 }).validation).toEqual([])
    expect(() => splitHeldOut(documents, { seed: 0, fraction: 1 })).toThrow(/must lie in \[0, 1\), got 1/)
    expect(() => splitHeldOut(documents.slice(1, 2), { seed: 0, fraction: 0.1 })).toThrow(/too little text/)
  })
})
