/**
 * Bounds that the WebSocket listener of js-libp2p (10.1.21) lacks: it waits for ever for the first byte of a socket,
 * counts no such socket, and on closing waits for them all. Here a silent socket is closed after a while, the number
 * of sockets is limited, and those that are left are closed with the listener.
 */
import type { Server, Socket } from 'node:net'
import type { Transport } from '@libp2p/interface'

export interface SocketLimits {
  readonly maxSockets: number
  readonly silenceMs: number
}

type Factory<Components> = (components: Components) => Transport

/** The same transport, whose listeners keep to the limits. */
export function guardListeners<Components>(
  factory: Factory<Components>,
  limits: SocketLimits,
): Factory<Components> {
  return (components) => {
    const transport = factory(components)
    const createListener = transport.createListener.bind(transport)
    transport.createListener = (options) => {
      const listener = createListener(options)
      const { server } = listener as unknown as { server: Server }
      const sockets = new Set<Socket>()
      server.maxConnections = limits.maxSockets
      server.on('connection', (socket) => {
        sockets.add(socket)
        // The WebSocket takes its own timeout once the upgrade is through.
        socket.setTimeout(limits.silenceMs, () => socket.destroy())
        socket.once('close', () => sockets.delete(socket))
      })
      const close = listener.close.bind(listener)
      listener.close = async () => {
        const closed = close()
        for (const socket of sockets) socket.destroy()
        await closed
      }
      return listener
    }
    return transport
  }
}
