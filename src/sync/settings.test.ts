import { describe, expect, test } from 'vitest'
import { inTurns, joinPieces } from '../core/index.ts'
import { createSyncMethod, syncSettingsSchema } from './settings.ts'
import { toyModelLayout } from './toy-swarm.ts'
import { methodNumbers } from './wire.ts'

/** The number of the example in docs/adding-a-method.md is taken, but no run uses it. */
const runMethods = Object.keys(methodNumbers).filter((name) => name !== 'example')

describe('settings', () => {
  test.each(runMethods)('%s: the defaults make the method, and are all written out', (method) => {
    const settings = syncSettingsSchema.parse({ method })
    expect(syncSettingsSchema.parse(settings)).toEqual(settings)
    const made = createSyncMethod(settings)
    expect(made.id).toBe(`${method}/1`)
    expect(made.quantity === 'gradient' ? made.innerSteps : 1).toBe(1)
    const state = made.createState(toyModelLayout, new Float32Array(toyModelLayout.totalSize))
    expect(joinPieces(made.serialiseState(state)).byteLength).toBe(made.stateBytes(toyModelLayout))
  })

  test.each(runMethods)(
    '%s: encodes and merges tensor by tensor, with turns for others in between',
    async (method) => {
      const made = createSyncMethod(syncSettingsSchema.parse({ method }))
      const state = made.createState(toyModelLayout, new Float32Array(toyModelLayout.totalSize))
      const local = made.createLocal(toyModelLayout)
      const values = new Float32Array(toyModelLayout.totalSize).fill(0.01)
      let turns = 0
      const pause = async (): Promise<void> => {
        turns += 1
      }
      const input = { state, local, round: 1, values, learningRate: 1 }
      const { bytes } = await inTurns(pause, made.encodeUpdate, input, toyModelLayout)
      expect(turns).toBeGreaterThan(1)
      turns = 0
      const update = made.decodeUpdate(bytes, toyModelLayout)
      const context = { round: 1, seed: 'seed', learningRate: 1, clipToMedianNorm: false, self: null }
      await inTurns(pause, made.merge, state, [{ peer: 'peer', update, weight: 1 }], context)
      expect(turns).toBeGreaterThan(1)
    },
  )

  test.each([
    [{ method: 'streaming-diloco', innerSteps: 30, fragments: 4 }, 'innerSteps'],
    [{ method: 'streaming-diloco', innerSteps: 30, fragments: 30 }, 'overlapSteps'],
    [{ method: 'sparse-loco', kept: 5000 }, 'kept'],
    [{ method: 'data-parallel', optimiser: { kind: 'muon' } }, 'kind'],
    [{ method: 'distro', values: 'float16' }, undefined],
  ])('refuse %j', (given, at) => {
    const result = syncSettingsSchema.safeParse(given)
    expect(result.success).toBe(false)
    if (at !== undefined) expect(result.error!.issues[0]!.path.at(-1)).toBe(at)
  })
})
