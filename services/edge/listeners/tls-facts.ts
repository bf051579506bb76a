// What TLS knows of the client, once it is up: what ties a login to the connection, and whom a certificate names.
import type { TLSSocket } from 'node:tls'
import type { ChannelBindingType, Connection } from './connection.ts'
import { alternativeNames } from './x509.ts'

export const NO_BINDINGS: readonly ChannelBindingType[] = []
const EXPORTER: readonly ChannelBindingType[] = ['tls-exporter']
export const END_POINT: readonly ChannelBindingType[] = ['tls-server-end-point']
const BOTH: readonly ChannelBindingType[] = [...EXPORTER, ...END_POINT]

/** Which of them there are, without the work of making one. `endPoint`: the hash of the certificate that was shown. */
export function bindingsOf(socket: TLSSocket, endPoint: Uint8Array | undefined): readonly ChannelBindingType[] {
  if (hasExporter(socket)) return endPoint === undefined ? EXPORTER : BOTH
  return endPoint === undefined ? NO_BINDINGS : END_POINT
}

/** RFC 9266 §2: of TLS 1.3 only; in 1.2 it would take an extension that Node does not tell of (§4.2). */
function hasExporter(socket: TLSSocket): boolean {
  return socket.getProtocol() === 'TLSv1.3'
}

/** Of each connection its own. */
export function exporterOf(socket: TLSSocket): Uint8Array | undefined {
  if (!hasExporter(socket)) return undefined
  return socket.exportKeyingMaterial(32, 'EXPORTER-Channel-Binding', Buffer.alloc(0))
}

/**
 * COMPAT: slixmpp, at least up to 1.8, binds by `tls-unique` wherever it sees a -PLUS, whatever is offered, and by nothing else
 * once that has failed. TLS 1.3 has no such thing (RFC 8446 §C.5, RFC 9266 §3); what Python gives it for one is the client's
 * Finished message. In TLS 1.3 that is an HMAC over the whole handshake, key shares and certificate included, by a key that only
 * its two ends have (RFC 8446 §4.4.4), so one in the middle has two that differ, as he has two exporters. Not so in TLS 1.2, where
 * two can be made the same (RFC 7627 §1), nor in a session that is resumed, where Python gives the server's message.
 */
export function finishedOf(socket: TLSSocket): Uint8Array | undefined {
  if (socket.getProtocol() !== 'TLSv1.3' || socket.isSessionReused()) return undefined
  return socket.getPeerFinished()
}

/** The host that the client has named (RFC 6066 §3). */
export function hostOf(socket: TLSSocket): string | false {
  return (socket as { readonly servername?: string | false | null }).servername ?? false
}

/** XEP-0178 §2. Undefined where the client has shown none, or none that our authorities vouch for. */
export function verifiedCertificate(socket: TLSSocket): Connection['clientCertificate'] {
  const certificate = socket.getPeerX509Certificate()
  if (certificate === undefined) return undefined
  // Node says `authorized` on sockets of a tls.Server only; this is what it asks for that. Without it nobody is verified.
  const { _handle } = socket as unknown as { readonly _handle?: { verifyError?(): Error | null } }
  if (_handle?.verifyError === undefined || _handle.verifyError() !== null) return undefined
  try {
    return { xmppAddrs: alternativeNames(certificate).xmppAddrs }
  } catch {
    return undefined // malformed, whoever signed it
  }
}
