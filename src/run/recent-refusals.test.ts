import { afterEach, describe, expect, test } from 'vitest'
import type { LedgerEntry, LedgerPage } from './protocol.ts'
import { RecentRefusals } from './recent-refusals.ts'
import { ada, cid } from './story.ts'
import { ToySwarm } from './swarm-fixture.ts'

const entry = (position: number, type: LedgerEntry['type']): LedgerEntry => ({
  ...{ position, atMs: 0, type, round: 1, leaseRound: 1, peer: ada, update: cid(position), steps: 1 },
  ...{ tokens: 1, loss: 1, bytes: 0, outcome: 'rejected', code: '', reason: '', report: new Uint8Array(1) },
})

/** A log of which each page looks at a hundred entries; those at `refused` are refusals, and between them are others. */
class Ledger {
  length = 0
  refused: number[] = []
  readonly asked: number[] = []
  readonly refusals = new RecentRefusals((from) => this.page(from))

  private async page(from: number): Promise<LedgerPage> {
    this.asked.push(from)
    const next = Math.max(from, Math.min(this.length, from + 100))
    const entries = this.refused.flatMap((position) => [
      entry(position, 'rejected'),
      entry(position + 1, 'contributed'),
    ])
    const within = ({ position }: LedgerEntry): boolean => position >= from && position < next
    return { entries: entries.filter(within), next, length: this.length }
  }

  /** The positions of what was refused lately. */
  async look(version = this.length): Promise<number[]> {
    this.asked.length = 0
    return (await this.refusals.upTo(version)).map(({ position }) => position)
  }
}

describe('what was refused lately', () => {
  test('is asked for from where the last answer ended, and not at all while the log does not grow', async () => {
    const ledger = new Ledger()
    Object.assign(ledger, { length: 250, refused: [3, 120] })
    expect(await ledger.look()).toEqual([3, 120])
    expect(ledger.asked).toEqual([0, 100, 200])
    expect(await ledger.look()).toEqual([3, 120])
    expect(ledger.asked).toEqual([])
    Object.assign(ledger, { length: 260, refused: [3, 120, 255] })
    expect(await ledger.look()).toEqual([3, 120, 255])
    expect(ledger.asked).toEqual([250])
    // The answer may go beyond what the status knew of.
    ledger.length = 270
    await ledger.look(265)
    expect(await ledger.look()).toEqual([3, 120, 255])
    expect(ledger.asked).toEqual([])
  })

  test('is of the newest 2048 entries, at the first look as at a later one', async () => {
    const ledger = new Ledger()
    Object.assign(ledger, { length: 3000, refused: [900, 1000] })
    expect(await ledger.look()).toEqual([1000])
    expect(ledger.asked[0]).toBe(3000 - 2048)
    Object.assign(ledger, { length: 3100, refused: [900, 1000, 3050] })
    expect(await ledger.look()).toEqual([3050])
    Object.assign(ledger, { length: 9000, refused: [3050, 8999] })
    expect(await ledger.look()).toEqual([8999])
    expect(ledger.asked[0]).toBe(9000 - 2048)
  })

  test('is what a log says that has lost its end', async () => {
    const ledger = new Ledger()
    Object.assign(ledger, { length: 50, refused: [10, 40] })
    expect(await ledger.look()).toEqual([10, 40])
    Object.assign(ledger, { length: 30, refused: [10] })
    expect(await ledger.look()).toEqual([10])
    Object.assign(ledger, { length: 60, refused: [10, 35] })
    expect(await ledger.look()).toEqual([10, 35])
    expect(ledger.asked).toEqual([30])
  })

  test('is asked for once when a host says nothing of what it claims to have', async () => {
    const ledger = new Ledger()
    expect(await ledger.look(10)).toEqual([])
    expect(ledger.asked).toEqual([0])
  })
})

describe('a host', () => {
  let swarm: ToySwarm
  afterEach(() => swarm.stop())

  test('whose run stands still is asked for one page of its ledger, however often somebody looks', async () => {
    swarm = await ToySwarm.start()
    const onlooker = await swarm.client(51)
    let pages = 0
    const refusals = new RecentRefusals((from) => {
      pages += 1
      return onlooker.ledger({ from })
    })
    for (let look = 0; look < 5; look++) {
      const { version } = await onlooker.status()
      expect(await refusals.upTo(version)).toEqual([])
    }
    expect(pages).toBe(1)
  })
})
