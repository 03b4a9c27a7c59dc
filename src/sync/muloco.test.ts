import { expect, test } from 'vitest'
import { type DilocoOptions, diloco } from './diloco.ts'
import type { SyncMethod } from './method.ts'
import { runSyncMethodSuite } from './methods-suite.ts'
import { muloco } from './muloco.ts'
import { syncSettingsSchema } from './settings.ts'
import { ToySwarm } from './toy-swarm.ts'

const options: DilocoOptions = {
  ...{ innerSteps: 30, outerLearningRate: 0.7, outerMomentum: 0.6 },
  ...{ encoding: 'int2', errorFeedback: 0.95 },
}

runSyncMethodSuite({ name: 'MuLoCo', make: () => muloco(options) })

test('is DiLoCo with two bits and error feedback unless told otherwise', () => {
  expect(syncSettingsSchema.parse({ method: 'muloco' })).toEqual({ method: 'muloco', ...options })
  const trained = (method: SyncMethod): Float32Array => {
    const swarm = new ToySwarm(method, { peers: 3 })
    for (let round = 1; round <= 5; round++) swarm.round({ round })
    return method.parameters(swarm.peers[0]!.state)
  }
  expect(trained(muloco(options))).toEqual(trained(diloco(options)))
})
