// The socket under a NATS connection, with two faults of the client library mended.
import { checkServerIdentity, type PeerCertificate } from 'node:tls'
import { type NodeConnectionOptions, setTransportFactory } from '@nats-io/transport-node'
import { NodeTransport, nodeResolveHost } from '@nats-io/transport-node/lib/node_transport.js'

export interface TransportOptions extends NodeConnectionOptions {
  /** Told of each socket before it is dialled: the first, and one per try to reconnect. */
  onTransport?: (transport: BusTransport) => void
}

export class BusTransport extends NodeTransport {
  /** Bytes that were written and that the kernel has not taken. */
  get backlogBytes(): number {
    return this.socket?.writableLength ?? 0
  }

  /**
   * COMPAT @nats-io/transport-node 3.4: without a name (a server given by its IP address) it asks for a certificate of
   * "localhost". Here the certificate must be for the address that was dialled.
   */
  override async connect(server: Parameters<NodeTransport['connect']>[0], options: TransportOptions): Promise<void> {
    const host = server.tlsName || server.hostname
    const identity = { checkServerIdentity: (_: string, certificate: PeerCertificate) => checkServerIdentity(host, certificate) }
    options.onTransport?.(this)
    await super.connect(server, options.tls ? { ...options, tls: { ...options.tls, ...identity } } : options)
  }

  /**
   * COMPAT @nats-io/transport-node 3.4: it waits until all that was written has left, and so never gives up a peer that takes
   * nothing: the network is cut, or the server is frozen. This is called where pings were not answered: nothing will leave.
   */
  override disconnect(): void {
    void this.close()
  }
}

/** Every connection of this process that is dialled from now on has such a transport. */
export function useBusTransport(): void {
  setTransportFactory({ factory: () => new BusTransport(), dnsResolveFn: nodeResolveHost })
}
