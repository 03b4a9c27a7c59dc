import { expect, test } from 'vitest'
import { PeerRecord } from './peer-record.ts'
import type { RunView } from './protocol.ts'
import { ada, ben, Story } from './story.ts'
import { Holders, viewFor } from './views.ts'

test('an accepted update is counted at once and once, on top of those of earlier processes of its peer', () => {
  const story = new Story().join(ada, ben).contribute(ada, ben).merge().contribute(ada, ben).merge()
  const seen = (): RunView =>
    viewFor(story.state, ada, story.member(ada), { merged: 2, nowMs: 0, holders: new Holders(), life: '' })
  const record = new PeerRecord({
    ledger: () => ({ sentBytes: 0, receivedBytes: 0 }),
    ...{ held: () => null, innerSteps: () => 10, onEvent: () => {} },
  })
  record.saw(seen())
  expect(record.status().contributions).toBe(2)
  record.began(seen().you.lease!)
  story.contribute(ada)
  record.accepted(3, 3, { steps: 10, tokens: 640 })
  expect(record.status().contributions).toBe(3)
  record.saw(seen())
  expect(record.status().contributions).toBe(3)
})
