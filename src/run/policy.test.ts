import { expect, test } from 'vitest'
import { defaultVanishAfterMs, roundPolicySchema } from './policy.ts'

test('a larger model may keep its peers silent for longer, an hour at most, and the policy allows it', () => {
  expect(defaultVanishAfterMs(0)).toBe(15_000)
  expect(defaultVanishAfterMs(85_330_176)).toBe(15_000 + 17_066)
  expect(defaultVanishAfterMs(1e12)).toBe(3_600_000)
  for (const parameters of [0, 3_295_488, 1e12]) {
    const vanishAfterMs = defaultVanishAfterMs(parameters)
    expect(roundPolicySchema.parse({ rounds: 1, vanishAfterMs }).vanishAfterMs).toBe(vanishAfterMs)
  }
})
