import { expect, test } from 'vitest'
import { formatMetrics, relayMetrics } from './metrics.ts'
import { startMetrics } from './metrics-server.ts'

const line = /^([a-z_]+)(?:\{((?:[a-z_]+="(?:[^"\\\n]|\\["\\n])*",?)+)\})? (\S+)$/

/** A small parser of the format: every sample after HELP and TYPE of its name. */
function parse(text: string): Map<string, number> {
  const found = new Map<string, number>()
  const described = new Set<string>()
  for (const each of text.trimEnd().split('\n')) {
    const [, kind, name] = /^# (HELP|TYPE) (\S+) /.exec(each) ?? []
    if (kind === 'TYPE') described.add(name!)
    if (kind !== undefined) continue
    const match = line.exec(each)
    expect(match, each).not.toBeNull()
    expect(described).toContain(match![1])
    found.set(`${match![1]}{${match![2] ?? ''}}`, Number(match![3]))
  }
  return found
}

test('what a relay does, in the text format', () => {
  const parsed = parse(
    formatMetrics(
      relayMetrics({
        ...{ reservations: 2, circuits: 1, relayedBytes: 1234, byPeer: new Map() },
        refusals: { 'quota-used-up': 3 },
      }),
    ),
  )
  expect(parsed.get('groundswell_relay_bytes_total{}')).toBe(1234)
  expect(parsed.get('groundswell_relay_refused_total{reason="quota-used-up"}')).toBe(3)
})

test('labels from strangers cannot break out of their quotes', () => {
  const labels = { name: 'a"} 1\nfake\\' }
  const text = formatMetrics([{ name: 'x', help: 'h', type: 'gauge', samples: [{ labels, value: 1 }] }])
  expect(parse(text).size).toBe(1)
})

test('is served on loopback, with a health check', async () => {
  await using server = await startMetrics('0', () => [
    { name: 'x', help: 'h', type: 'gauge', samples: [{ value: 7 }] },
  ])
  expect(server.url).toMatch(/^http:\/\/127\.0\.0\.1:\d+\/metrics$/)
  const answer = await fetch(server.url)
  expect(answer.headers.get('content-type')).toContain('version=0.0.4')
  expect(parse(await answer.text()).get('groundswell_x{}')).toBe(7)
  expect((await fetch(server.url.replace('metrics', 'healthz'))).status).toBe(200)
  expect((await fetch(server.url.replace('metrics', 'other'))).status).toBe(404)
  await expect(startMetrics(new URL(server.url).port, () => [])).rejects.toMatchObject({
    code: 'network/port-in-use',
  })
  for (const elsewhere of ['nowhere.invalid:0', '192.0.2.1:0']) {
    await expect(startMetrics(elsewhere, () => [])).rejects.toMatchObject({
      code: 'network/address',
      message: expect.stringMatching(/^“(nowhere\.invalid|192\.0\.2\.1)” for metrics is no address/),
    })
  }
})
