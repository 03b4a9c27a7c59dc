import { expect, test } from 'vitest'
import { syncSettingsSchema } from '../../src/sync/index.ts'
import { methodBits } from './method-bits.ts'
import { methodCase, methodNames } from './settings.ts'

test('the numbers of every method are these, on every machine', () => {
  const bits = methodNames.map((name) => [name, methodBits(methodCase(name).sync)])
  // Who changes one on purpose has cells of tables 1 and 4 to measure again.
  expect(Object.fromEntries(bits)).toMatchInlineSnapshot(`
    {
      "data-parallel": "664a71b7256a",
      "decoupled": "edf6a133c8a9",
      "demo": "e5507ba5c399",
      "diloco": "d3278d6c3036",
      "distro": "19192c52295a",
      "muloco": "36506a17077d",
      "muon": "dfad30cf6ed6",
      "noloco": "4caf74588c19",
      "sparse-loco": "99a5ccfa6737",
      "sparse-muon": "99a5ccfa6737",
      "sparse-overlap": "18b0e69b6870",
      "streaming-diloco": "c6069909e1e4",
      "streaming-muon": "312e2bfdef7b",
    }
  `)
})

test('another setting gives other numbers, the same settings the same', () => {
  const of = (outerLearningRate: number): string =>
    methodBits(syncSettingsSchema.parse({ method: 'diloco', outerLearningRate }))
  expect(of(0.7)).toBe(of(0.7))
  expect(of(0.7)).not.toBe(of(0.6))
})
