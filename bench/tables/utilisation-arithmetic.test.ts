/** The arithmetic of Table 3 against published rows and by its own properties. */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  catchUp,
  covenantAtItsCaps,
  type ExchangeCost,
  innerStepsFor,
  type PeerSettings,
  published,
  recomputed,
  stepSeconds,
  utilisationOf,
} from './utilisation-arithmetic.ts'

const free: ExchangeCost = {
  ...{ bitsPerParameter: 8, encode: 0, decode: 0, add: 0, outerStep: 0, stateBytesPerParameter: 0 },
}
const peer: PeerSettings = {
  ...{ parameters: 1e9, stepSeconds: 10, innerSteps: 30, overlapSteps: 0, peers: 5 },
  ...{ upBitsPerSecond: 20e6, downBitsPerSecond: 100e6, sessionSeconds: 86_400 },
}

describe('the share of time spent computing', () => {
  test('is computing over computing and communicating, as the published rows have it', () => {
    for (const row of published) expect(recomputed(row)).toBeCloseTo(row.stated, 2)
    const [usa] = published
    // 8e9 bits up at 20 Mb/s are 400 s, four times as many down at 100 Mb/s 320 s.
    const { upSeconds, downSeconds, steady } = utilisationOf(free, peer)
    expect([upSeconds, downSeconds]).toEqual([400, 320])
    expect(steady).toBeCloseTo(300 / 1020, 12)
    expect(recomputed(usa!)).toBeCloseTo(2280 / 2383, 12)
  })

  test('depends on tokens per step and speed, not on the size of the model', () => {
    const cost = { ...free, encode: 4e-8, decode: 1e-9, add: 1e-9, outerStep: 1e-8 }
    const shares = [1e8, 1e9, 1e10].map((parameters) => {
      const seconds = stepSeconds(parameters, 393_216, 66e12)
      return utilisationOf(cost, { ...peer, parameters, stepSeconds: seconds }).steady
    })
    expect(shares[1]).toBeCloseTo(shares[0]!, 12)
    expect(shares[2]).toBeCloseTo(shares[0]!, 12)
  })

  test('counts the codec once for the update that is made and once for each that is merged', () => {
    const cost = { ...free, bitsPerParameter: 0, encode: 1e-9, decode: 2e-9, add: 3e-9, outerStep: 4e-9 }
    expect(utilisationOf(cost, peer).codecSeconds).toBeCloseTo(1 + 4 * 2 + 5 * 3 + 4, 9)
    expect(utilisationOf(cost, peer).linesAlone).toBe(1)
  })

  test('decodes all updates but the last while others are on the line', () => {
    // 320 s on the line; 4 · 40 s of decoding, of which 40 s come after it.
    expect(utilisationOf({ ...free, decode: 4e-8 }, peer).steady).toBeCloseTo(300 / (300 + 720 + 40), 12)
    // 4 · 200 s, of which the line hides its own time.
    expect(utilisationOf({ ...free, decode: 2e-7 }, peer).steady).toBeCloseTo(300 / (300 + 720 + 480), 12)
  })

  test('hides fetching, decoding and merging behind the steps that overlap, never encoding and sending', () => {
    // 320 s of fetching, of which 20 steps of 10 s hide 200; 40 steps would hide more than there is.
    expect(utilisationOf(free, { ...peer, overlapSteps: 20 }).steady).toBeCloseTo(300 / (300 + 400 + 120), 12)
    const overlapped = { ...peer, overlapSteps: 40 }
    expect(utilisationOf(free, overlapped).steady).toBeCloseTo(300 / 700, 12)
    expect(utilisationOf({ ...free, encode: 3e-7 }, overlapped).steady).toBeCloseTo(0.3, 12)
    // 5 · 10 s of adding up and 30 s of an outer step come to the 320 s: all 400 s are hidden.
    const merged = { ...free, add: 1e-8, outerStep: 3e-8 }
    expect(utilisationOf(merged, overlapped).steady).toBeCloseTo(300 / 700, 12)
    expect(utilisationOf(merged, { ...peer, overlapSteps: 39 }).steady).toBeCloseTo(300 / 710, 12)
  })

  test('hides no more than fetching where lines alone are asked about', () => {
    const cost = { ...free, encode: 3e-7, add: 1e-7 }
    expect(utilisationOf(cost, { ...peer, overlapSteps: 100 }).linesAlone).toBeCloseTo(300 / 700, 12)
    expect(utilisationOf(cost, { ...peer, overlapSteps: 20 }).linesAlone).toBeCloseTo(300 / 820, 12)
  })

  test('falls by what joining costs, and grows with H', () => {
    fc.assert(
      fc.property(
        fc.record({
          bitsPerParameter: fc.double({ min: 0.01, max: 32, noNaN: true }),
          encode: fc.double({ min: 0, max: 1e-7, noNaN: true }),
          decode: fc.double({ min: 0, max: 1e-8, noNaN: true }),
          add: fc.double({ min: 0, max: 1e-8, noNaN: true }),
          outerStep: fc.double({ min: 0, max: 1e-7, noNaN: true }),
          stateBytesPerParameter: fc.double({ min: 0, max: 12, noNaN: true }),
        }),
        fc.integer({ min: 1, max: 1000 }),
        fc.integer({ min: 0, max: 50 }),
        (cost, innerSteps, overlapSteps) => {
          const fewer = utilisationOf(cost, { ...peer, overlapSteps, innerSteps })
          const more = utilisationOf(cost, { ...peer, overlapSteps, innerSteps: innerSteps + 1 })
          expect(fewer.overall).toBeLessThanOrEqual(fewer.steady)
          expect(more.steady).toBeGreaterThanOrEqual(fewer.steady)
          expect(fewer.steady).toBeLessThanOrEqual(fewer.linesAlone)
        },
      ),
    )
  })

  test('finds the fewest inner steps that reach a target', () => {
    const least = innerStepsFor(0.9, free, peer)!
    expect(utilisationOf(free, { ...peer, innerSteps: least }).overall).toBeGreaterThanOrEqual(0.9)
    expect(utilisationOf(free, { ...peer, innerSteps: least - 1 }).overall).toBeLessThan(0.9)
    // A joiner that needs longer than it stays never does.
    expect(innerStepsFor(0.9, { ...free, stateBytesPerParameter: 4e3 }, peer)).toBeUndefined()
  })
})

describe('catching up', () => {
  test('is the state and a geometric series of what is merged meanwhile', () => {
    let waiting = 100
    let total = 0
    for (let i = 0; i < 200; i++) {
      total += waiting
      waiting = (waiting / 50) * 20
    }
    expect(catchUp(100, 50, 20)).toBeCloseTo(total, 9)
  })

  test('never ends where merging takes as long as a round', () => {
    expect(catchUp(100, 50, 50)).toBe(Number.POSITIVE_INFINITY)
  })
})

test('Covenant-72B’s 70 s are not possible at its caps, were they each peer’s', () => {
  const { updateBytes, upSeconds, downSeconds } = covenantAtItsCaps()
  expect(updateBytes / 1e9).toBeCloseTo(1.99, 2)
  expect(upSeconds).toBeCloseTo(145, 0)
  expect(downSeconds).toBeCloseTo(636, 0)
})
