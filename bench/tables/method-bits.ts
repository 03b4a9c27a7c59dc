/**
 * What a method's code comes to: a digest of all that it sends, keeps and merges, bit for bit, in a small swarm of which everything
 * is fixed. Cells of tables are known by it, so that they outlive changes that leave the numbers alone, and no others.
 */
import { createHash } from 'node:crypto'
import { seededRandom } from '../../src/core/index.ts'
import { layoutOf, llamaConfig } from '../../src/model/index.ts'
import { createSyncMethod, type SyncSettings } from '../../src/sync/index.ts'

/** Whole tiles, tiles at edges, two layers for fragments, vectors, an embedding. */
const layout = layoutOf(
  llamaConfig({
    ...{ vocabularySize: 18, hiddenSize: 66, intermediateSize: 10, layers: 2, attentionHeads: 1 },
  }),
)
const peers = ['a', 'b', 'c']
const rounds = 4

export function methodBits(sync: SyncSettings): string {
  const method = createSyncMethod(sync)
  const hash = createHash('sha256')
  const random = seededRandom('method bits')
  const drawn = Float32Array.from({ length: layout.totalSize }, () => random.nextNormal())
  let turns = 0
  /** The same values in another order each time. */
  const normals = (scale: number): Float32Array => {
    turns += 1
    return drawn.map((_, i) => scale * drawn[(i + 7919 * turns) % drawn.length]!)
  }
  const start = method.createState(layout, normals(0.02))
  const swarm = peers.map((name) => ({ name, state: start, local: method.createLocal(layout) }))
  // A host where peers differ: it merges for nobody in particular.
  let watched = start
  let own: (Float32Array | undefined)[] = peers.map(() => undefined)
  for (let round = 1; round <= rounds; round++) {
    const learningRate = 1e-3 * round
    const values = swarm.map(({ state, local }, i) => {
      const moved = normals(0.003)
      const handedIn = own[i]
      // As if it had gone on a little meanwhile.
      const from = method.startRound(
        state,
        local,
        handedIn && { handedIn, now: handedIn.map((value) => 1.01 * value) },
      )
      return method.quantity === 'gradient' ? moved : moved.map((value, at) => from[at]! + value)
    })
    if (method.quantity === 'parameters') own = values
    const contributions = swarm.map((peer, i) => {
      const input = { state: peer.state, local: peer.local, round, values: values[i]!, learningRate }
      const { bytes, local } = method.encodeUpdate(input, layout)
      peer.local = local
      hash.update(bytes)
      for (const piece of method.serialiseLocal(local)) hash.update(piece)
      return { peer: peer.name, update: method.decodeUpdate(bytes, layout), weight: 1 + i }
    })
    const context = { round, seed: `${round}`, learningRate, clipToMedianNorm: round % 2 === 0 }
    watched = method.merge(watched, contributions, { ...context, self: null })
    for (const piece of method.serialiseState(watched)) hash.update(piece)
    for (const peer of swarm) {
      peer.state = method.replicated
        ? watched
        : method.merge(peer.state, contributions, { ...context, self: peer.name })
      if (!method.replicated) for (const piece of method.serialiseState(peer.state)) hash.update(piece)
    }
  }
  return hash.digest('hex').slice(0, 12)
}
