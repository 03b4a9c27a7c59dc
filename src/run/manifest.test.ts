import { describe, expect, test } from 'vitest'
import { decodeCanonical, encodeCanonical } from '../core/index.ts'
import { encodeRunManifest, parseRunManifest, runIdOf } from './manifest.ts'
import { exampleManifest } from './swarm-fixture.ts'

const example = await exampleManifest()

describe('the manifest', () => {
  test('comes back from its bytes, which are always the same', () => {
    const bytes = encodeRunManifest(example)
    expect(parseRunManifest(bytes)).toEqual(example)
    expect(encodeRunManifest(parseRunManifest(bytes))).toEqual(bytes)
  })

  test('names the run: any change makes another run', async () => {
    const changed = [
      { ...example, seed: 8 },
      { ...example, model: { ...example.model, ropeTheta: 20_000 } },
      { ...example, rounds: { ...example.rounds, graceMs: 1 } },
      { ...example, sync: { ...example.sync, outerMomentum: 0.5 } },
      { ...example, inner: { ...example.inner, optimiser: { ...example.inner.optimiser, weightDecay: 0 } } },
    ]
    const ids = await Promise.all([example, ...changed].map(runIdOf))
    expect(new Set(ids).size).toBe(1 + changed.length)
  })

  type Fields = Record<string, unknown>
  test.each<[string, (fields: Fields) => unknown, RegExp]>([
    ['an unknown key', (fields) => ({ ...fields, extra: 1 }), /extra/],
    ['another format', (fields) => ({ ...fields, format: 'groundswell/manifest/2' }), /format/],
    ['something that is no CID', (fields) => ({ ...fields, data: 'data' }), /data: not a CID/],
    [
      'an impossible model',
      ({ model, ...rest }) => ({ ...rest, model: { ...(model as Fields), hidden_size: 7 } }),
      /divide/,
    ],
    [
      'a value left to a default',
      (fields) => ({ ...fields, sync: { method: 'diloco' } }),
      /written out in full/,
    ],
    ['a name that moves the cursor', (fields) => ({ ...fields, name: 'run\u001b[2J' }), /name/],
    ['something else', () => 'hello', /not valid/],
  ])('with %s is refused', (_, change, message) => {
    const fields = decodeCanonical(encodeRunManifest(example), 1 << 20) as Fields
    expect(() => parseRunManifest(encodeCanonical(change(fields)))).toThrow(message)
  })
})
