/**
 * The identity of a peer in a file that only its owner may read. It is written whole or not at all and never over
 * another one: whoever loses this key is somebody else to every run.
 */
import { link, mkdir, open, readFile, rm, stat } from 'node:fs/promises'
import { dirname } from 'node:path'
import { GroundswellError } from '../core/index.ts'
import { type Identity, identityFromPem, identityFromSeed, identityToPem, seedBytes } from './identity.ts'

/**
 * Makes a new identity and keeps it in a file that must not exist yet.
 * @param randomBytes a cryptographic source, such as `crypto.getRandomValues`
 * @throws GroundswellError `identity/exists`
 */
export async function createIdentity(
  path: string,
  randomBytes: (into: Uint8Array<ArrayBuffer>) => Uint8Array,
): Promise<Identity> {
  const identity = identityFromSeed(randomBytes(new Uint8Array(seedBytes)))
  await mkdir(dirname(path), { recursive: true })
  const temporary = `${path}.${identity.peerId.slice(-8)}.unfinished`
  try {
    {
      await using file = await open(temporary, 'wx', 0o600)
      await file.writeFile(identityToPem(identity))
      await file.sync()
    }
    await link(temporary, path) // unlike rename, fails if somebody was faster
  } catch (cause) {
    if (codeOf(cause) === 'EEXIST') {
      throw new GroundswellError(`There is an identity at “${path}” already.`, {
        code: 'identity/exists',
        remedy: 'Use it, or name another file.',
        cause,
      })
    }
    throw cause
  } finally {
    await rm(temporary, { force: true })
  }
  return identity
}

/** @throws GroundswellError `identity/not-found`, `identity/invalid` or `identity/readable-by-others` */
export async function loadIdentity(path: string): Promise<Identity> {
  const text = await readFile(path, 'utf8').catch((cause: unknown) => {
    if (codeOf(cause) !== 'ENOENT') throw cause
    throw new GroundswellError(`There is no identity at “${path}”.`, { code: 'identity/not-found', cause })
  })
  const { mode } = await stat(path)
  if (process.platform !== 'win32' && (mode & 0o077) !== 0) {
    throw new GroundswellError(`Others on this machine may read the identity “${path}”.`, {
      code: 'identity/readable-by-others',
      remedy: `Run “chmod 600 ${path}”.`,
    })
  }
  return identityFromPem(text, path)
}

/** The identity in this file, made on the first use. */
export async function loadOrCreateIdentity(
  path: string,
  randomBytes: (into: Uint8Array<ArrayBuffer>) => Uint8Array,
): Promise<Identity> {
  try {
    return await loadIdentity(path)
  } catch (thrown) {
    if (!(thrown instanceof GroundswellError) || thrown.code !== 'identity/not-found') throw thrown
  }
  try {
    return await createIdentity(path, randomBytes)
  } catch (thrown) {
    if (!(thrown instanceof GroundswellError) || thrown.code !== 'identity/exists') throw thrown
    return loadIdentity(path) // another process made it in this very moment
  }
}

function codeOf(thrown: unknown): string | undefined {
  return thrown instanceof Error && 'code' in thrown ? String(thrown.code) : undefined
}
