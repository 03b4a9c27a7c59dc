/**
 * What a host remembers of the run in its home folder, so that it can go on without reading and cutting up the data
 * again: the run's manifest, for as long as the run file and the data are those from which it was made. Data counts as
 * the same when its files have the same paths, sizes and times of change, as with make and git.
 */
import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { type Cid, cidOf, GroundswellError } from '../core/index.ts'
import { parseManifest } from '../data/index.ts'
import { cidSchema, encodeRunManifest, type Manifest, parseRunManifest } from '../run/index.ts'
import { artifactBlobs, type Blobs, needBlob } from '../swarm/index.ts'
import type { CommandContext } from './context.ts'
import { readNote, writeNote } from './notes.ts'
import type { RunFile } from './run-file-schema.ts'

const fileName = 'prepared.json'
/** How the host is reached decides nothing about the run; a name missing here costs one preparation. */
const reached = new Set('host port listen announce relays also up down log owners metrics'.split(' '))
const format = { schema: z.strictObject({ madeFrom: cidSchema, run: cidSchema }), maxBytes: 4096 }

/** The run that this home holds, if it is still the one that the run file means and all of it is there. */
export async function recallRun(
  context: CommandContext,
  { home, blobs, run }: { readonly home: string; readonly blobs: Blobs; readonly run: RunFile },
): Promise<Manifest | undefined> {
  const known = await readNote(context.files, join(home, fileName), format)
  if (known === undefined) return undefined
  try {
    if (known.madeFrom !== (await originOf(context, run))) return undefined
    const manifest = parseRunManifest(await needBlob(blobs, known.run))
    return (await isWhole(blobs, manifest)) ? manifest : undefined
  } catch (thrown) {
    // Damaged, or not all there: it is made anew.
    if (thrown instanceof GroundswellError || thrown instanceof SyntaxError) return undefined
    throw thrown
  }
}

/** To be called when all that the manifest names is in the blobs. */
export async function rememberRun(
  context: CommandContext,
  {
    home,
    blobs,
    run,
    manifest,
  }: { readonly home: string; readonly blobs: Blobs; readonly run: RunFile; readonly manifest: Manifest },
): Promise<void> {
  const known = {
    madeFrom: await originOf(context, run),
    run: await blobs.put(encodeRunManifest(manifest), { codec: 'dag-cbor' }),
  }
  await writeNote(context.files, join(home, fileName), known)
}

/** A name for everything that the manifest of a run file is made from. */
async function originOf({ files }: CommandContext, run: RunFile): Promise<Cid> {
  const { model, tokenizer, data, training, sync, seed } = run
  const rules = Object.entries(run.run).filter(([name]) => !reached.has(name))
  const listings: unknown[] = []
  for (const path of [data.path, model.checkpoint]) {
    if (path === undefined) continue
    for (const file of await files.list(path)) {
      const { mtimeMs, ctimeMs } = await stat(file.path)
      listings.push([file.path, file.sizeBytes, mtimeMs, ctimeMs])
    }
  }
  const text = JSON.stringify({ model, tokenizer, data, training, sync, seed, rules, listings })
  return cidOf(new TextEncoder().encode(text))
}

async function isWhole(blobs: Blobs, manifest: Manifest): Promise<boolean> {
  const { train, validation } = parseManifest(await needBlob(blobs, manifest.data))
  const here = new Set((await blobs.list()).map(({ cid }) => cid))
  for (const { cid } of [...train.shards, ...validation.shards]) if (!here.has(cid)) return false
  const roots = [manifest.tokenizer, manifest.initialCheckpoint, ...Object.values(manifest.programs)]
  for (const root of roots) {
    const named = await artifactBlobs(blobs, root, { maxBytes: Number.MAX_SAFE_INTEGER })
    if (named.some((cid) => !here.has(cid))) return false
  }
  return true
}
