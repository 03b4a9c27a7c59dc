import { EventEmitter } from 'node:events'
import { expect, test } from 'vitest'
import { listenForInterrupt } from './interrupt.ts'

/** A process that takes signals and notes its exit, with a clock that is told the time. */
function listening() {
  const exits: number[] = []
  const process = Object.assign(new EventEmitter(), { exit: (code: number) => exits.push(code) })
  const clock = { now: 0 }
  let asked = 0
  const interruption = listenForInterrupt(
    process as unknown as NodeJS.Process,
    () => asked++,
    () => clock.now,
  )
  const press = (at: number, signal = 'SIGINT'): void => {
    clock.now = at
    process.emit(signal)
  }
  return { interruption, press, exits, asked: () => asked }
}

test('the first Ctrl-C asks for a clean stop, the second leaves at once', () => {
  const { interruption, press, exits, asked } = listening()
  press(1_000)
  expect(interruption.signal.aborted).toBe(true)
  expect([asked(), exits]).toEqual([1, []])
  press(1_400)
  expect([asked(), exits]).toEqual([1, [130]])
})

test('one press that a terminal and a parent both pass on is one', () => {
  const { press, exits, asked } = listening()
  press(1_000)
  press(1_003)
  expect([asked(), exits]).toEqual([1, []])
  press(2_000, 'SIGTERM')
  expect(exits).toEqual([130])
})

test('after a stop for another reason the first Ctrl-C is still the first', () => {
  const { interruption, press, exits } = listening()
  interruption.stop(new Error('the reader left'))
  press(1_000)
  expect(exits).toEqual([])
})
