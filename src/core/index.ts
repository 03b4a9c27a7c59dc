/** Floor 0: names of content, signed statements, seeded randomness, time, errors, files. */
export * from './canonical.ts'
export * from './cid.ts'
export * from './clock.ts'
export { pkcs8Prefix } from './ed25519.ts'
export * from './envelope.ts'
export * from './errors.ts'
export * from './files.ts'
export * from './random.ts'
