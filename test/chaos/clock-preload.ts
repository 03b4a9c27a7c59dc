/**
 * Loaded into a process before its program (`node --import`): its wall clock is ahead of the machine's by the milliseconds
 * that a file says, read again whenever it changes. What counts time itself, such as timers and `performance.now`, goes on
 * undisturbed, as it does when a machine's clock is set.
 */
import { readFileSync } from 'node:fs'

const readEveryMs = 100
const file = process.env.CHAOS_CLOCK_OFFSET_FILE
if (file !== undefined) {
  const realDate = Date
  const realNow = Date.now.bind(Date)
  let offsetMs = 0
  const read = (): void => {
    try {
      const value = Number(readFileSync(file, 'utf8'))
      if (Number.isFinite(value)) offsetMs = value
    } catch {
      // Not written yet, or being replaced: the offset stays as it is.
    }
  }
  read()
  setInterval(read, readEveryMs).unref()
  globalThis.Date = new Proxy(realDate, {
    construct: (target, given, self) =>
      Reflect.construct(target, given.length === 0 ? [realNow() + offsetMs] : given, self) as Date,
    apply: () => new realDate(realNow() + offsetMs).toString(),
    get: (target, property) =>
      property === 'now' ? () => realNow() + offsetMs : (Reflect.get(target, property) as unknown),
  })
}
