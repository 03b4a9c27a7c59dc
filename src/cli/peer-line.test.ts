import { expect, test } from 'vitest'
import { peerLine } from './peer-line.ts'

const looking = {
  ...({ phase: 'connecting', why: 'looking for the host', round: 0, lastRound: 0, step: 0 } as const),
  ...{ leaseSteps: 0, loss: null, tokensPerSecond: null, share: 0, lastAccepted: 0, lastVerdict: null },
  ...{ sentBytes: 0, receivedBytes: 1200 },
}
const training = { ...looking, phase: 'training', round: 3, lastRound: 9, step: 4, leaseSteps: 10 } as const

test('before the host has told of the run, a peer shows no round of it', () => {
  expect(peerLine(looking, undefined)).toBe('looking for the host  ·  sent 0 B, received 1.20 kB')
  expect(peerLine(training, undefined)).toBe(
    'round 3/9  ·  training, step 4/10  ·  loss –  ·  – tokens/s  ·  sent 0 B, received 1.20 kB  ·  nothing accepted yet',
  )
})

test('a lease that ran out and an update that was refused are named as in the status of the run', () => {
  const after = (outcome: 'expired' | 'rejected', reason: string): string =>
    peerLine(
      { ...training, lastAccepted: 1, lastVerdict: { round: 2, outcome, code: 'x', reason, remedy: '' } },
      undefined,
    )
  expect(after('expired', '')).toMatch(/last accepted: round 1; round 2 ran out$/)
  expect(after('rejected', 'It is not finite.')).toMatch(/round 1; round 2 refused: It is not finite\.$/)
})
