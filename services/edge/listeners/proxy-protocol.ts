// The PROXY protocol: what a proxy in front says of the client that it forwards, before the first byte of the client's own.
//
//   version 1   PROXY TCP4 192.0.2.1 198.51.100.2 56324 5222\r\n                        107 bytes at most
//   version 2   \r\n\r\n\0\r\nQUIT\n  0x21  0x11  length  source destination ports  TLVs
//
// As haproxy.org/download/3.0/doc/proxy-protocol.txt has it; its sections are named here. A byte that cannot belong to a header
// ends the connection at once, and a header is bounded whatever it says of its own length.
import { isIPv4, isIPv6 } from 'node:net'
import { plainAddress } from '#core/network.ts'
import { addressOfBytes } from './address.ts'

export interface ProxyHeader {
  /**
   * The client's address; undefined where the proxy knows none (§2.1 UNKNOWN, §2.2 AF_UNSPEC and AF_UNIX), or speaks
   * for itself: the connection's own holds.
   */
  readonly address: string | undefined
  /** §2.2 LOCAL: no client is forwarded, it is the proxy that looks whether we live. */
  readonly local: boolean
  /** §2.2.6 PP2_CLIENT_SSL: the client came to the proxy by TLS. */
  readonly tls: boolean
}

/** What came is no header. */
export class ProxyHeaderError extends Error {}

/** §2.1: the longest line there is. */
const LINE_BYTES_MAX = 107
/** Of what follows the 16 bytes of version 2: addresses take 36 at most, the rest are TLVs. */
export const TAIL_BYTES_MAX = 4096

const LINE_START = Buffer.from('PROXY ')
const SIGNATURE = Buffer.from('\r\n\r\n\0\r\nQUIT\n')
const HEAD_BYTES = 16

/** Reads a header that comes in any pieces. */
export class ProxyHeaderReader {
  #bytes: Buffer = Buffer.alloc(0)
  #header: ProxyHeader | undefined

  /** Once `push` was given the last byte of it. */
  get header(): ProxyHeader | undefined {
    return this.#header
  }

  /** Returns what is behind the header, or undefined as long as more is needed. Throws ProxyHeaderError. */
  push(piece: Uint8Array): Buffer | undefined {
    const bytes = this.#bytes.length === 0 ? Buffer.from(piece) : Buffer.concat([this.#bytes, piece])
    const end = bytes[0] === SIGNATURE[0] ? endOfBinary(bytes) : endOfLine(bytes)
    if (end < 0) {
      this.#bytes = bytes
      return undefined
    }
    this.#bytes = Buffer.alloc(0)
    this.#header = bytes[0] === SIGNATURE[0] ? readBinary(bytes.subarray(0, end)) : readLine(bytes.subarray(0, end))
    return bytes.subarray(end)
  }
}

/** Whether the bytes are, or may become, what begins with these. */
function begins(bytes: Buffer, start: Buffer): boolean {
  const length = Math.min(bytes.length, start.length)
  return bytes.compare(start, 0, length, 0, length) === 0
}

// Version 1 ----------------------------------------------------------------------------------------------------------

/** -1 where it is cut off. */
function endOfLine(bytes: Buffer): number {
  if (!begins(bytes, LINE_START)) throw new ProxyHeaderError('neither version of a PROXY header')
  const feed = bytes.subarray(0, LINE_BYTES_MAX).indexOf('\n')
  if (feed >= 0) return feed + 1
  if (bytes.length >= LINE_BYTES_MAX) throw new ProxyHeaderError(`a line over ${LINE_BYTES_MAX} bytes`)
  return -1
}

/** §2.1: one space between the fields, and a carriage return before the line feed. */
function readLine(line: Buffer): ProxyHeader {
  const text = line.toString('latin1')
  if (/^PROXY UNKNOWN(?: [^\r\n]*)?\r\n$/.test(text)) return { address: undefined, local: false, tls: false }
  const match = /^PROXY TCP([46]) (\S+) (\S+) (\d{1,5}) (\d{1,5})\r\n$/.exec(text)
  if (match === null) throw new ProxyHeaderError('a malformed line')
  const [, family, source, destination, ...ports] = match as unknown as [string, string, string, string, string, string]
  const isAddress = family === '4' ? isIPv4 : (address: string) => isIPv6(address) && !address.includes('%')
  if (!isAddress(source) || !isAddress(destination)) throw new ProxyHeaderError('an address that is none')
  if (ports.some((port) => Number(port) > 65535)) throw new ProxyHeaderError('a port that is none')
  return { address: plainAddress(source), local: false, tls: false }
}

// Version 2 ----------------------------------------------------------------------------------------------------------

const LOCAL = 0x20
const PROXY = 0x21
/** §2.2: the family in the upper four bits of a byte, the transport in the lower. */
const ADDRESSES_BYTES: Readonly<Record<number, number>> = { 0: 0, 17: 12, 18: 12, 33: 36, 34: 36, 49: 216, 50: 216 }
const TCP_IPV4 = 0x11
const TCP_IPV6 = 0x21
const TLV_SSL = 0x20
const CLIENT_SSL = 0x01

/** -1 where it is cut off. */
function endOfBinary(bytes: Buffer): number {
  if (!begins(bytes, SIGNATURE)) throw new ProxyHeaderError('neither version of a PROXY header')
  const command = bytes[12]
  if (command !== undefined && command !== LOCAL && command !== PROXY) throw new ProxyHeaderError('an unknown command')
  if (bytes.length < HEAD_BYTES) return -1
  const length = bytes.readUInt16BE(14)
  if (length > TAIL_BYTES_MAX) throw new ProxyHeaderError(`a header over ${HEAD_BYTES + TAIL_BYTES_MAX} bytes`)
  return bytes.length < HEAD_BYTES + length ? -1 : HEAD_BYTES + length
}

function readBinary(header: Buffer): ProxyHeader {
  // §2.2: "The receiver must accept this connection as valid and must use the real connection endpoints and discard the protocol block".
  if (header[12] === LOCAL) return { address: undefined, local: true, tls: false }
  const kind = header[13]!
  const size = ADDRESSES_BYTES[kind]
  if (size === undefined || header.length < HEAD_BYTES + size)
    throw new ProxyHeaderError('addresses that are cut off, or of no kind')
  const tls = readTlvs(header.subarray(HEAD_BYTES + size))
  const address = kind === TCP_IPV4 ? header.subarray(16, 20) : kind === TCP_IPV6 ? header.subarray(16, 32) : undefined
  return { address: address && addressOfBytes(address), local: false, tls }
}

/** §2.2.6: type, length, value, to the very end. Whether the client came by TLS. */
function readTlvs(bytes: Buffer): boolean {
  let tls = false
  for (let at = 0; at < bytes.length; ) {
    if (at + 3 > bytes.length) throw new ProxyHeaderError('a TLV that is cut off')
    const length = bytes.readUInt16BE(at + 1)
    const value = bytes.subarray(at + 3, at + 3 + length)
    if (value.length < length) throw new ProxyHeaderError('a TLV that is cut off')
    // A byte of flags, then four that say whether a certificate of the client was good.
    if (bytes[at] === TLV_SSL) tls = length >= 5 && (value[0]! & CLIENT_SSL) !== 0
    at += 3 + length
  }
  return tls
}
