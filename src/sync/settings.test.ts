import { describe, expect, test } from 'vitest'
import { joinPieces } from '../core/index.ts'
import { createSyncMethod, syncSettingsSchema } from './settings.ts'
import { toyModelLayout } from './toy-swarm.ts'
import { methodNumbers } from './wire.ts'

describe('settings', () => {
  // The number of the example in docs/adding-a-method.md is taken, but no run uses it.
  test.each(Object.keys(methodNumbers).filter((name) => name !== 'example'))(
    '%s: the defaults make the method, and are all written out',
    (method) => {
      const settings = syncSettingsSchema.parse({ method })
      expect(syncSettingsSchema.parse(settings)).toEqual(settings)
      const made = createSyncMethod(settings)
      expect(made.id).toBe(`${method}/1`)
      expect(made.quantity === 'gradient' ? made.innerSteps : 1).toBe(1)
      const state = made.createState(toyModelLayout, new Float32Array(toyModelLayout.totalSize))
      expect(joinPieces(made.serialiseState(state)).byteLength).toBe(made.stateBytes(toyModelLayout))
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
