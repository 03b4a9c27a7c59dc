import { expect, test } from 'vitest'
import { systemClock, takingTurns, VirtualClock } from './clock.ts'

test('long work that takes turns lets timers run in its midst', async () => {
  let ticks = 0
  const timer = setInterval(() => ticks++, 1)
  const pause = takingTurns(systemClock(), 5)
  for (let part = 0; part < 5; part++) {
    const until = performance.now() + 10
    while (performance.now() < until);
    await pause()
  }
  clearInterval(timer)
  expect(ticks).toBeGreaterThan(0)
})

test('and works on at once while little time has passed', async () => {
  const clock = new VirtualClock()
  const pause = takingTurns(clock)
  for (let part = 0; part < 3; part++) await pause() // would wait for ever otherwise, as nobody moves the clock
  await clock.advance(50)
  let waits = true
  const turn = pause().then(() => {
    waits = false
  })
  await Promise.resolve()
  expect(waits).toBe(true)
  await clock.advance(0)
  await turn
})
