import { expect, test } from 'vitest'
import { syncSettingsSchema } from '../sync/index.ts'
import { roundsFor } from './host-run.ts'

test('a run has as many rounds as its steps need, whatever the method calls a round', () => {
  const streaming = syncSettingsSchema.parse({ method: 'streaming-diloco', innerSteps: 6, fragments: 2 })
  expect(roundsFor(20, streaming)).toBe(7) // rounds of three steps
  expect(roundsFor(20, syncSettingsSchema.parse({ method: 'diloco', innerSteps: 6 }))).toBe(4)
  expect(roundsFor(20, syncSettingsSchema.parse({ method: 'data-parallel' }))).toBe(20)
})
