/** The key that a command line names, which is to be the same everywhere: a mistyped name must not pass for it. */
import { type Identity, loadOrCreateIdentity } from '../swarm/index.ts'
import type { CommandContext } from './context.ts'

/** The identity in this file, made if there is none, and then said so. */
export async function openIdentity({ files, output }: CommandContext, path: string): Promise<Identity> {
  const isNew = !(await files.exists(path))
  const identity = await loadOrCreateIdentity(path, (into) => crypto.getRandomValues(into))
  if (isNew) {
    output.event({ event: 'identity', created: path, peer: identity.peerId })
    output.line(`There was no identity at “${path}”: made a new one, ${identity.peerId}.`)
  }
  return identity
}
