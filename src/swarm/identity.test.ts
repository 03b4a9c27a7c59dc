import { createPrivateKey, generateKeyPairSync } from 'node:crypto'
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { generateKeyPairFromSeed } from '@libp2p/crypto/keys'
import { peerIdFromPrivateKey } from '@libp2p/peer-id'
import * as fc from 'fast-check'
import { afterAll, describe, expect, test } from 'vitest'
import { openEnvelope, sealEnvelope } from '../core/index.ts'
import { identityFromPem, identityFromSeed, identityToPem } from './identity.ts'
import { createIdentity, loadIdentity, loadOrCreateIdentity } from './identity-file.ts'
import { parsePeerId, peerIdOf, publicKeyOf } from './peer-id.ts'

const seeds = fc.uint8Array({ minLength: 32, maxLength: 32 })

describe('a peer’s identity', () => {
  test('its PeerId is the one that libp2p gives to the key', async () => {
    const seed = Uint8Array.from({ length: 32 }, (_, i) => i)
    const theirs = peerIdFromPrivateKey(await generateKeyPairFromSeed('Ed25519', seed)).toString()
    expect(identityFromSeed(seed).peerId).toBe(theirs)
  })

  test('the PeerId of the specification’s test vector', () => {
    // https://github.com/libp2p/specs/blob/master/peer-ids/peer-ids.md: Ed25519 public key, as protobuf
    const key = '1ed1e8fae2c4a144b8be8fd4b47bf3d3b34b871c3cacf6010f0e42d474fce27e'
    const publicKey = Uint8Array.from(Buffer.from(key, 'hex'))
    expect(Buffer.from(publicKeyOf(peerIdOf(publicKey))).toString('hex')).toBe(key)
    expect(peerIdOf(publicKey)).toMatch(/^12D3KooW/)
  })

  test('a PeerId holds the key, so the maker of an envelope can be matched with it', () => {
    fc.assert(
      fc.property(seeds, (seed) => {
        const { peerId, signer } = identityFromSeed(seed)
        expect(publicKeyOf(peerId)).toEqual(signer.publicKey)
        const { publicKey } = openEnvelope('test/1', sealEnvelope('test/1', 'hello', signer), 1000)
        expect(peerIdOf(publicKey)).toBe(peerId)
      }),
      { numRuns: 10 },
    )
  })

  test.each([
    '',
    '12D3KooW',
    'QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N',
    '1'.repeat(52),
    'x'.repeat(100_000),
    '12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5Sl',
  ])('text that is no PeerId of an Ed25519 key: %.60s', (text) => {
    expect(() => parsePeerId(text)).toThrow(expect.objectContaining({ code: 'peer/invalid-id' }))
  })

  test('arbitrary text never passes for a PeerId, except by being one', () => {
    fc.assert(
      fc.property(fc.string({ maxLength: 80 }), (text) => {
        try {
          expect(peerIdOf(publicKeyOf(parsePeerId(text)))).toBe(text)
        } catch (thrown) {
          expect(thrown).toMatchObject({ code: 'peer/invalid-id' })
        }
      }),
    )
  })

  test('its PEM is what other tools read, and comes back as the same identity', () => {
    fc.assert(
      fc.property(seeds, (seed) => {
        const identity = identityFromSeed(seed)
        const pem = identityToPem(identity)
        const key = createPrivateKey(pem)
        expect(key.asymmetricKeyType).toBe('ed25519')
        expect(identityFromPem(pem, 'key').peerId).toBe(identity.peerId)
        expect(identityFromPem(key.export({ type: 'pkcs8', format: 'pem' }).toString(), 'key').seed).toEqual(
          seed,
        )
      }),
      { numRuns: 10 },
    )
  })
})

describe('the file of an identity', () => {
  const folder = mkdtempSync(join(tmpdir(), 'groundswell-identity-'))
  let files = 0
  const fresh = (): string => join(folder, `${files++}`, 'identity.pem')
  const random = (into: Uint8Array<ArrayBuffer>): Uint8Array => crypto.getRandomValues(into)
  afterAll(() => rmSync(folder, { recursive: true }))

  test('is made once, readable by its owner only, and read ever after', async () => {
    const path = fresh()
    const identity = await loadOrCreateIdentity(path, random)
    expect(statSync(path).mode & 0o777).toBe(0o600)
    expect((await loadOrCreateIdentity(path, random)).peerId).toBe(identity.peerId)
    expect((await loadIdentity(path)).peerId).toBe(identity.peerId)
    expect(readdirSync(join(path, '..'))).toEqual(['identity.pem'])
  })

  test('is never overwritten', async () => {
    const path = fresh()
    await createIdentity(path, random)
    const before = readFileSync(path)
    await expect(createIdentity(path, random)).rejects.toMatchObject({ code: 'identity/exists' })
    expect(readFileSync(path)).toEqual(before)
  })

  test('of two that make it in the same moment, both use the same', async () => {
    const path = fresh()
    const made = await Promise.all([loadOrCreateIdentity(path, random), loadOrCreateIdentity(path, random)])
    expect(made[0].peerId).toBe(made[1].peerId)
  })

  test('that is not there', async () => {
    await expect(loadIdentity(fresh())).rejects.toMatchObject({ code: 'identity/not-found' })
  })

  const valid = identityToPem(identityFromSeed(new Uint8Array(32)))
  const rsa = generateKeyPairSync('rsa', { modulusLength: 1024 }).privateKey
  test.each([
    ['empty', '', 'not a PEM file'],
    ['text', 'hello\n', 'not a PEM file'],
    ['cut off', valid.slice(0, 60), 'cut off'],
    ['damaged', valid.replace('MC4C', 'M!4C'), 'base64'],
    ['a certificate', valid.replaceAll('PRIVATE KEY', 'CERTIFICATE'), 'another kind'],
    ['an RSA key', rsa.export({ type: 'pkcs8', format: 'pem' }).toString(), 'Ed25519'],
  ])('that is %s is named with the reason and the way out', async (_, text, why) => {
    const path = join(folder, `bad-${files++}.pem`)
    writeFileSync(path, text, { mode: 0o600 })
    await expect(loadIdentity(path)).rejects.toMatchObject({
      code: 'identity/invalid',
      message: expect.stringMatching(new RegExp(`${path}.*${why}`)),
      remedy: expect.stringContaining('move it away'),
    })
  })

  test.skipIf(process.platform === 'win32')('that others may read is refused', async () => {
    const path = fresh()
    await createIdentity(path, random)
    chmodSync(path, 0o644)
    await expect(loadIdentity(path)).rejects.toMatchObject({
      code: 'identity/readable-by-others',
      remedy: expect.stringContaining('chmod 600'),
    })
  })
})
