// IP addresses of clients, out of bytes. See core/network.ts.

/** Four bytes or sixteen as text, in the form of `plainAddress`; '' for any other number. */
export function addressOfBytes(octets: Buffer): string {
  if (octets.length === 4) return octets.join('.')
  if (octets.length !== 16) return ''
  if (octets.readBigUInt64BE(0) === 0n && octets.readUInt32BE(8) === 0xffff) return octets.subarray(12).join('.')
  const groups = octets.toString('hex').match(/..../g)!.join(':')
  return new URL(`http://[${groups}]`).hostname.slice(1, -1)
}
