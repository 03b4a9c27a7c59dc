import { expect, test } from 'vitest'
import { cidOf, memoryFiles } from '../core/index.ts'
import { keepStartLoss, startLossOf } from './start-loss.ts'

test('a home knows the loss that its run began with, and no other run’s', async () => {
  const files = memoryFiles()
  const run = await cidOf(Uint8Array.of(1), 'dag-cbor')
  const other = await cidOf(Uint8Array.of(2), 'dag-cbor')
  expect(await startLossOf(files, { home: 'home', run })).toBeUndefined()
  await keepStartLoss(files, { home: 'home', run }, 5.5)
  expect(await startLossOf(files, { home: 'home', run })).toBe(5.5)
  expect(await startLossOf(files, { home: 'home', run: other })).toBeUndefined()
  await files.write('home/start-loss.json', [new TextEncoder().encode('{"run"')])
  expect(await startLossOf(files, { home: 'home', run })).toBeUndefined()
})
