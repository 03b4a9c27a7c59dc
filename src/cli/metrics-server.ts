/** Metrics over HTTP: `/metrics` for Prometheus, `/healthz` for whoever restarts processes. On loopback unless told. */
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { GroundswellError } from '../core/index.ts'
import { formatMetrics, type Metric } from './metrics.ts'

export interface MetricsServer extends AsyncDisposable {
  readonly url: string
}

const requestTimeoutMs = 5000
const maxConnections = 32

/**
 * @param at a port, or ADDRESS:PORT
 * @throws GroundswellError `network/port-in-use`, `network/address`; what the operating system says otherwise
 */
export async function startMetrics(at: string, read: () => readonly Metric[]): Promise<MetricsServer> {
  const colon = at.lastIndexOf(':')
  const host = colon < 0 ? '127.0.0.1' : at.slice(0, colon).replaceAll(/[[\]]/g, '')
  const port = Number(at.slice(colon + 1))
  const server = createServer({ requestTimeout: requestTimeoutMs }, (request, response) => {
    const path = request.url?.split('?')[0]
    const found = path === '/metrics' || path === '/healthz'
    const text = path === '/metrics' ? formatMetrics(read()) : found ? 'ok\n' : 'see /metrics\n'
    response.writeHead(found ? 200 : 404, {
      'content-type': `text/plain; ${path === '/metrics' ? 'version=0.0.4; ' : ''}charset=utf-8`,
    })
    response.end(request.method === 'HEAD' ? undefined : text)
  })
  server.maxConnections = maxConnections
  server.listen(port, host)
  try {
    await once(server, 'listening')
  } catch (cause) {
    const code = cause instanceof Error && 'code' in cause ? String(cause.code) : ''
    if (['ENOTFOUND', 'EAI_AGAIN', 'EADDRNOTAVAIL'].includes(code)) {
      throw new GroundswellError(`“${host}” for metrics is no address of this machine.`, {
        code: 'network/address',
        remedy: 'Give --metrics a port, or ADDRESS:PORT with one of its own; 0.0.0.0 means all of them.',
        cause,
      })
    }
    if (code !== 'EADDRINUSE') throw cause
    throw new GroundswellError(`The port ${port} for metrics is already in use.`, {
      code: 'network/port-in-use',
      remedy: 'Choose another with --metrics, or 0 for any free one.',
      cause,
    })
  }
  const { port: taken } = server.address() as AddressInfo
  return {
    url: `http://${host.includes(':') ? `[${host}]` : host}:${taken}/metrics`,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections()
      await new Promise<void>((resolve) => server.close(() => resolve()))
    },
  }
}
