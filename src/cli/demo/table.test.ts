import { expect, test } from 'vitest'
import { type PeerRow, renderSwarm, type SwarmView, summariseSwarm } from './table.ts'

const peer = (over: Partial<PeerRow>): PeerRow => ({
  name: 'ada',
  phase: 'training',
  step: 120,
  loss: 2.3456,
  tokensPerSecond: 1234.5,
  bytesUp: 3_400_000,
  bytesDown: 12_000,
  lastAccepted: 11,
  ...over,
})

const view: SwarmView = {
  round: 12,
  rounds: 48,
  elapsedSeconds: 61,
  secondsLeft: 95,
  validation: [
    { round: 0, loss: 5.55 },
    { round: 8, loss: 3.21 },
  ],
  peers: [
    peer({}),
    peer({
      name: 'lin\u001b[2J',
      phase: 'killed',
      loss: undefined,
      tokensPerSecond: undefined,
      lastAccepted: 0,
    }),
  ],
  news: ['lin was killed', 'eve joins late'],
}

test('one row per peer, aligned, with nothing that could move a cursor', () => {
  expect(renderSwarm(view)).toBe(
    [
      'round 12/48  ·  1 min 1 s  ·  about 1 min 35 s left  ·  validation loss 5.550 → 3.210',
      '',
      'peer     phase     step   loss  tokens/s     sent  received  last accepted',
      'ada      training   120  2.346     1,235  3.40 MB   12.0 kB  round 11',
      'lin�[2J  killed     120      –         –  3.40 MB   12.0 kB  –',
      '',
      'lin was killed',
      'eve joins late',
    ].join('\n'),
  )
})

test('one line where nobody watches', () => {
  expect(summariseSwarm(view)).toContain('round 12/48')
  expect(summariseSwarm(view).split('\n')).toHaveLength(1)
})
