import { expect, test } from 'vitest'
import type { PeerId } from '../swarm/index.ts'
import { swarmTable } from './swarm-table.ts'

test('what a host calls refused are updates, not the broken messages of peers that died', () => {
  const told = { peer: '12D3KooWAda' as PeerId, name: 'ada', progress: null, lastRound: 3 } as const
  const status = {
    ...({ round: 4, lastRound: 9, phase: 'training', loss: 2.5 } as const),
    refused: { 'request-broken': 7 },
  }
  const headline = (...rejected: number[]): string =>
    swarmTable(
      { ...status, members: rejected.map((each) => ({ ...told, status: 'active', rejected: each })) },
      undefined,
    )[0]!
  expect(headline(0)).toBe('round 4/9  ·  training  ·  1 peer  ·  loss 2.500  ·  validation –')
  expect(headline(0, 1)).toMatch(/2 peers .* 1 update refused$/)
  expect(headline(2, 1)).toMatch(/3 updates refused$/)
})
