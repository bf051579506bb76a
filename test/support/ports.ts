// Ports that nobody listens on.
import { once } from 'node:events'
import { type AddressInfo, createServer, type Server } from 'node:net'

/**
 * Asks the kernel for `count` different free ports on 127.0.0.1. All are held until the last is known, so that
 * they differ; somebody else may still take one between the answer and its use.
 */
export async function freePorts(count: number): Promise<number[]> {
  const held: Server[] = []
  try {
    for (let n = 0; n < count; n++) {
      const server = createServer().listen(0, '127.0.0.1')
      held.push(server)
      await once(server, 'listening')
    }
    return held.map((server) => (server.address() as AddressInfo).port)
  } finally {
    await Promise.all(held.map((server) => new Promise((closed) => server.close(closed))))
  }
}
