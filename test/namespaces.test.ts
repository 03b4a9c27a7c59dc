/** Two peers that cannot reach each other, as behind two routers, meet through a relay that both reach. */
import { execFileSync } from 'node:child_process'
import { describe, expect, test } from 'vitest'
import { makeNamespaces, namespacesMissing } from './namespaces.ts'
import { startNode } from './swarm-process.ts'

const sizeBytes = 5 * 1024 * 1024
const missing = namespacesMissing()
if (missing !== undefined) process.stderr.write(`Skipped: peers behind routers (${missing}).\n`)

describe.skipIf(missing !== undefined)('peers behind routers', () => {
  test.each([
    { family: 'ipv4', mtuBytes: 1500, listen: '/ip4' },
    { family: 'ipv6', mtuBytes: 1280, listen: '/ip6' },
  ] as const)(
    'fetch through a relay what they cannot fetch directly: $family, packets of $mtuBytes bytes',
    async ({ family, mtuBytes, listen }) => {
      await using spaces = makeNamespaces({ family, mtuBytes })
      const { a, b, r } = spaces
      const port = { tcp: '/tcp/0', public: `${listen}/${r.address}` }
      await using relay = await startNode(
        { role: 'relay', name: 'relay', listen: [`${port.public}${port.tcp}`] },
        r.prefix,
      )
      await using host = await startNode(
        {
          role: 'serve',
          name: 'host',
          sizeBytes,
          listen: [`${listen}/${a.address}${port.tcp}`],
          relays: relay.said.addresses!,
        },
        a.prefix,
      )
      const isRelayed = (address: string): boolean => address.includes('/p2p-circuit')
      const job = { role: 'fetch', name: 'peer', root: host.said.root!, maxBytes: sizeBytes } as const
      const direct = host.said.addresses!.filter((address) => !isRelayed(address))
      expect(direct).toHaveLength(1)
      await using outside = await startNode({ ...job, from: direct, dialTimeoutMs: 1500 }, b.prefix)
      expect(outside.said.error).toMatch(/Dialling|reached/)

      const relayed = host.said.addresses!.filter(isRelayed)
      expect(relayed).toEqual([expect.stringContaining(port.public)])
      await using peer = await startNode({ ...job, from: relayed }, b.prefix)
      expect(peer.said).toMatchObject({ sizeBytes, failures: 0 })
      // What failed between the houses works within one, so the wall is what kept them apart.
      await using neighbour = await startNode({ ...job, from: direct }, a.prefix)
      expect(neighbour.said).toMatchObject({ sizeBytes, failures: 0 })
    },
  )

  test('are removed at the end, also after a failure', async () => {
    const own = (): string[] =>
      execFileSync('ip', ['netns', 'list'], { encoding: 'utf8' })
        .split('\n')
        .filter((name) => name.startsWith(`groundswell-${process.pid}-`))
    await expect(
      (async () => {
        await using spaces = makeNamespaces()
        expect(own()).toHaveLength(3)
        throw new Error(`failed beside ${spaces.r.address}`)
      })(),
    ).rejects.toThrow('failed beside')
    expect(own()).toEqual([])
    expect(() => makeNamespaces({ mtuBytes: -1 })).toThrow('mtu')
    expect(own()).toEqual([])
  })
})
