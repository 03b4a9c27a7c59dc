import { cp, mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Scratch, scratch } from '../../test/cli-process.ts'
import { cidOf, type Files } from '../core/index.ts'
import {
  byteTokenizer,
  type CheckpointContent,
  initialParameters,
  llamaConfig,
  readCheckpoint,
} from '../model/index.ts'
import { nodeFiles } from '../run/index.ts'
import { trainingStateFile } from '../train/index.ts'
import { cidOfFile } from './disk.ts'
import { freeFolder, putCheckpoint, requireOwn, runLeftIn } from './host-out.ts'

const config = llamaConfig({
  ...{ vocabularySize: 256, hiddenSize: 16, intermediateSize: 24, layers: 1 },
  ...{ attentionHeads: 2, keyValueHeads: 1, eosTokenId: 0 },
})
const content = (seed: number): CheckpointContent => ({
  ...{ config, tokenizer: byteTokenizer(), parameters: initialParameters(config, seed) },
})
const run = await cidOf(Uint8Array.of(1), 'dag-cbor')
const otherRun = await cidOf(Uint8Array.of(2), 'dag-cbor')
const occupied = { code: 'usage/out-occupied', remedy: expect.stringContaining('--out') }

let folder: Scratch
const files = nodeFiles()
beforeAll(async () => {
  folder = await scratch()
})
afterAll(() => folder[Symbol.asyncDispose]())

/** A home and an output folder of this name. */
async function place(name: string): Promise<{ home: string; out: string }> {
  const [home, out] = [join(folder.path, name, 'home'), join(folder.path, name, 'out')]
  await mkdir(home, { recursive: true })
  return { home, out }
}

describe('a host writes its checkpoint', () => {
  test('where there is nothing, and once more over its own', async () => {
    const at = await place('own')
    expect(await runLeftIn(files, at)).toBeUndefined()
    await mkdir(at.out)
    expect(await runLeftIn(files, at)).toBeUndefined()
    const weights = await putCheckpoint(files, { ...at, run }, content(1))
    expect(weights).toBe(await cidOfFile(join(at.out, 'model.safetensors')))
    expect(await runLeftIn(files, at)).toBe(run)
    expect(await putCheckpoint(files, { ...at, run }, content(1))).toBe(weights)
    expect((await readCheckpoint(files, at.out)).parameters).toEqual(content(1).parameters)
  })

  test('whichever file it was writing when it was stopped', async () => {
    for (let writes = 1; writes <= 6; writes++) {
      const at = await place(`stopped-${writes}`)
      let left = writes
      const stopping: Files = {
        ...files,
        write: (path, chunks) =>
          left-- > 0 ? files.write(path, chunks) : Promise.reject(new Error('stopped')),
      }
      const stopped = putCheckpoint(stopping, { ...at, run }, content(1))
      if (writes < 6) await expect(stopped).rejects.toThrow('stopped')
      else await stopped
      expect(await runLeftIn(files, at)).toBe(writes === 1 ? undefined : run)
    }
  })

  test('never over what somebody else left', async () => {
    const at = await place('foreign')
    await putCheckpoint(files, { ...at, run }, content(1))
    const elsewhere = await place('elsewhere')
    await expect(runLeftIn(files, { ...elsewhere, out: at.out })).rejects.toMatchObject(occupied)
    await expect(putCheckpoint(files, { ...at, run: otherRun }, content(2))).rejects.toMatchObject(occupied)
    await writeFile(join(at.out, trainingStateFile), '')
    await expect(runLeftIn(files, at)).rejects.toMatchObject(occupied)
  })

  test('and neither over what came there while the run went on', async () => {
    const [at, lone] = [await place('meanwhile'), await place('lone')]
    expect(await runLeftIn(files, at)).toBeUndefined()
    await putCheckpoint(files, { ...lone, run: otherRun }, content(2))
    await cp(lone.out, at.out, { recursive: true })
    await expect(putCheckpoint(files, { ...at, run }, content(1))).rejects.toMatchObject(occupied)
    // A second host of the run brings the same.
    await putCheckpoint(files, { ...at, run }, content(2))
  })
})

test('the checkpoint that a host has found in its folder must be of its run', () => {
  requireOwn(undefined, { out: 'out', run })
  requireOwn(run, { out: 'out', run })
  expect(() => requireOwn(otherRun, { out: 'out', run })).toThrow(/“out” holds something/)
})

test('a free folder is the first with nothing in it', async () => {
  const { home, out } = await place('free')
  expect(await freeFolder(files, out)).toBe(out)
  await writeFile(join(home, 'note'), 'x')
  expect(await freeFolder(files, home)).toBe(`${home}-2`)
})
