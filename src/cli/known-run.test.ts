import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { nodeFiles, publishRun, roundPolicySchema, runIdOf } from '../run/index.ts'
import { type Blobs, memoryBlobs } from '../swarm/index.ts'
import type { CommandContext } from './context.ts'
import { recallRun, rememberRun } from './known-run.ts'
import { createOutput } from './output.ts'
import { prepareRun } from './prepare.ts'
import { parseRunFile } from './run-file.ts'
import type { RunFile } from './run-file-schema.ts'

const settings = (text: string, seed = 1): RunFile => {
  const run = parseRunFile(
    JSON.stringify({
      model: { layers: 1, hiddenSize: 16, intermediateSize: 32, attentionHeads: 2 },
      training: { steps: 8, batchSize: 1, sequenceLength: 16 },
      data: { path: text },
      seed,
    }),
    'run.yaml',
  )
  return run
}

async function withHome(
  check: (given: { context: CommandContext; home: string; text: string; blobs: Blobs }) => Promise<void>,
): Promise<void> {
  const home = await mkdtemp(join(tmpdir(), 'groundswell-known-'))
  const text = join(home, 'text.txt')
  const silent = { isTTY: false, columns: 80, write: () => true }
  const context: CommandContext = {
    output: createOutput({ json: true }, { stdout: silent, stderr: silent } as never),
    signal: new AbortController().signal,
    files: nodeFiles(),
    workingFolder: home,
  }
  await writeFile(text, Array.from({ length: 200 }, (_, i) => `Line ${i} of the swell.`).join('\n\n'))
  try {
    await check({ context, home, text, blobs: memoryBlobs() })
  } finally {
    await rm(home, { recursive: true })
  }
}

async function publish(context: CommandContext, home: string, blobs: Blobs, run: RunFile): Promise<string> {
  const { built, config, parameters } = await prepareRun(context, run)
  const { sync, seed, training } = run
  const rounds = roundPolicySchema.parse({ rounds: 2, minimumPeers: 1 })
  const inner = training
  const { steps, batchSize, sequenceLength, gradientAccumulation, optimiser, schedule } = inner
  const manifest = await publishRun(blobs, {
    ...{ name: 'known', dataset: built, model: config, parameters, sync, seed, rounds },
    inner: { steps, batchSize, sequenceLength, gradientAccumulation, optimiser, schedule },
  })
  await rememberRun(context, { home, blobs, run, manifest })
  return runIdOf(manifest)
}

test('a home gives back the run that it holds, however the host is reached now', () =>
  withHome(async ({ context, home, text, blobs }) => {
    const run = settings(text)
    expect(await recallRun(context, { home, blobs, run })).toBeUndefined()
    const id = await publish(context, home, blobs, run)
    const elsewhere = { ...run, run: { ...run.run, port: 4001 } }
    const known = await recallRun(context, { home, blobs, run: elsewhere })
    expect(await runIdOf(known!)).toBe(id)
  }))

test('another setting, other data or a missing blob make it prepare again', () =>
  withHome(async ({ context, home, text, blobs }) => {
    const run = settings(text)
    await publish(context, home, blobs, run)
    expect(await recallRun(context, { home, blobs, run: settings(text, 2) })).toBeUndefined()
    const known = (await recallRun(context, { home, blobs, run }))!
    const tokenizer = (await blobs.get(known.tokenizer))!
    await blobs.delete(known.tokenizer)
    expect(await recallRun(context, { home, blobs, run })).toBeUndefined()
    await blobs.put(tokenizer, { expected: known.tokenizer })
    expect(await recallRun(context, { home, blobs, run })).toBeDefined()
    await writeFile(text, 'Something else was written here.\n\nAnd here.')
    expect(await recallRun(context, { home, blobs, run })).toBeUndefined()
  }))
