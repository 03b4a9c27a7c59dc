import { tmpdir } from 'node:os'
import { describe, expect, test } from 'vitest'
import { GroundswellError } from '../core/index.ts'
import { syncSettingsSchema } from '../sync/index.ts'
import { checkRoom } from './disk.ts'
import { homeError, roundsFor } from './host-run.ts'

test('a run has as many rounds as its steps need, whatever the method calls a round', () => {
  const streaming = syncSettingsSchema.parse({ method: 'streaming-diloco', innerSteps: 6, fragments: 2 })
  expect(roundsFor(20, streaming)).toBe(7) // rounds of three steps
  expect(roundsFor(20, syncSettingsSchema.parse({ method: 'diloco', innerSteps: 6 }))).toBe(4)
  expect(roundsFor(20, syncSettingsSchema.parse({ method: 'data-parallel' }))).toBe(20)
})

describe('trouble with the home folder names it, and the option for another one', () => {
  test.each([
    ['run/other-run', '“runs/x” holds another run: '],
    ['blob/not-found', '“runs/x” lacks a part of its run: Something.'],
  ])('%s', (code, message) => {
    const told = homeError(new GroundswellError('Something.', { code, remedy: 'None.' }), 'runs/x')
    expect(told).toMatchObject({
      code,
      message: expect.stringContaining(message),
      remedy: expect.stringContaining('--home'),
    })
  })

  test('a full disk', async () => {
    await expect(checkRoom(tmpdir(), 1e18, '--home')).rejects.toMatchObject({
      code: 'file/disk-full',
      remedy: expect.stringContaining('--home'),
    })
  })

  test('but no other trouble', () => {
    const other = new GroundswellError('Something.', { code: 'log/damaged' })
    expect(homeError(other, 'runs/x')).toBe(other)
  })
})
