import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { type ProxyHeader, ProxyHeaderError, ProxyHeaderReader, TAIL_BYTES_MAX } from './proxy-protocol.ts'

const SIGNATURE = Buffer.from('0d0a0d0a000d0a515549540a', 'hex')

/** Version 2: `command` and `family` as the bytes they are. */
function binary(command: number, family: number, tail: Buffer, length = tail.length): Buffer {
  const head = Buffer.from([command, family, length >> 8, length & 0xff])
  return Buffer.concat([SIGNATURE, head, tail])
}

function tlv(type: number, value: Buffer, length = value.length): Buffer {
  return Buffer.concat([Buffer.from([type, length >> 8, length & 0xff]), value])
}

const PORTS = [0xdc, 0x04, 0x14, 0x66]
const IPV4 = Buffer.from([192, 0, 2, 1, 198, 51, 100, 2, ...PORTS])
const IPV6 = Buffer.concat([
  Buffer.from('20010db8000000000000000000000001', 'hex'),
  Buffer.from('20010db8000000000000000000000002', 'hex'),
  Buffer.from(PORTS),
])
const MAPPED = Buffer.concat([Buffer.from('00000000000000000000ffffc0000201', 'hex'), IPV6.subarray(16)])
const TLS = tlv(0x20, Buffer.concat([Buffer.from([0x01, 0, 0, 0, 0]), tlv(0x21, Buffer.from('TLSv1.3'))]))
const NOT_TLS = tlv(0x20, Buffer.from([0x00, 0, 0, 0, 0]))

const GOOD: readonly (readonly [string, Buffer, ProxyHeader])[] = [
  ['§2.1 TCP4', line('TCP4 192.0.2.1 198.51.100.2 56324 5222'), from('192.0.2.1')],
  ['§2.1 TCP6', line('TCP6 2001:db8::1 2001:db8::2 56324 5222'), from('2001:db8::1')],
  ['§2.1 TCP6 for IPv4', line('TCP6 ::ffff:192.0.2.1 ::1 1 2'), from('192.0.2.1')],
  ['§2.1 UNKNOWN', line('UNKNOWN'), from(undefined)],
  ['§2.1 UNKNOWN, with what is to be ignored', line('UNKNOWN ffff:f...f ffff:f...f 65535 65535'), from(undefined)],
  ['§2.2 TCP over IPv4', binary(0x21, 0x11, IPV4), from('192.0.2.1')],
  ['§2.2 TCP over IPv6', binary(0x21, 0x21, IPV6), from('2001:db8::1')],
  ['§2.2 TCP over IPv6, for IPv4', binary(0x21, 0x21, MAPPED), from('192.0.2.1')],
  ['§2.2 UNSPEC', binary(0x21, 0x00, Buffer.alloc(0)), from(undefined)],
  ['§2.2 a UNIX socket', binary(0x21, 0x31, Buffer.alloc(216, 'x')), from(undefined)],
  ['§2.2 LOCAL', binary(0x20, 0x00, Buffer.alloc(0)), { address: undefined, local: true, tls: false }],
  ['§2.2 LOCAL, with what is to be ignored', binary(0x20, 0x11, IPV4), { address: undefined, local: true, tls: false }],
  ['§2.2.6 a client that came by TLS', binary(0x21, 0x11, Buffer.concat([IPV4, TLS])), from('192.0.2.1', true)],
  ['§2.2.6 one that did not', binary(0x21, 0x11, Buffer.concat([IPV4, NOT_TLS])), from('192.0.2.1')],
  [
    '§2.2.6 types that are not known here',
    binary(0x21, 0x11, Buffer.concat([IPV4, tlv(0xea, Buffer.from('vpce-1')), TLS, tlv(0x04, Buffer.alloc(0))])),
    from('192.0.2.1', true),
  ],
  [
    '§2.2 as long as it may be',
    binary(0x21, 0x11, Buffer.concat([IPV4, tlv(0x04, Buffer.alloc(TAIL_BYTES_MAX - IPV4.length - 3))])),
    from('192.0.2.1'),
  ],
]

function from(address: string | undefined, tls = false): ProxyHeader {
  return { address, local: false, tls }
}

function line(text: string): Buffer {
  return Buffer.from(`PROXY ${text}\r\n`)
}

/** What the reader makes of the pieces: the header and what is behind it. */
function read(pieces: readonly Buffer[]): { header: ProxyHeader | undefined; rest: string } {
  const reader = new ProxyHeaderReader()
  let rest = ''
  for (const piece of pieces) {
    if (reader.header === undefined) rest = reader.push(piece)?.toString('latin1') ?? ''
    else rest += piece.toString('latin1')
  }
  return { header: reader.header, rest }
}

describe('a header', () => {
  test.each(GOOD)('%s', (_, bytes, header) => {
    expect(read([Buffer.concat([bytes, Buffer.from('<?xml')])])).toEqual({ header, rest: '<?xml' })
  })

  test('cut at any byte, and at all of them, it is the same header', () => {
    for (const [name, bytes, header] of GOOD.slice(0, -1)) {
      const whole = Buffer.concat([bytes, Buffer.from('\r\nPROXY ')])
      for (let cut = 0; cut <= whole.length; cut++)
        expect(read([whole.subarray(0, cut), whole.subarray(cut)]), `${name} at ${cut}`).toEqual({ header, rest: '\r\nPROXY ' })
      expect(read([...whole].map((byte) => Buffer.of(byte))), name).toEqual({ header, rest: '\r\nPROXY ' })
    }
  })

  test('in any pieces it is the same header', () => {
    fc.assert(
      fc.property(fc.constantFrom(...GOOD), fc.array(fc.nat(300), { maxLength: 8 }), ([, bytes, header], cuts) => {
        const whole = Buffer.concat([bytes, Buffer.from('rest')])
        const places = [0, ...cuts.map((cut) => Math.min(cut, whole.length)).sort((a, b) => a - b), whole.length]
        const pieces = places.slice(1).map((end, n) => whole.subarray(places[n], end))
        expect(read(pieces)).toEqual({ header, rest: 'rest' })
      }),
    )
  })
})

describe('what is none', () => {
  test.each([
    ['a stream', Buffer.from('<')],
    ['a TLS hello', Buffer.from([0x16, 0x03, 0x01])],
    ['an HTTP request', Buffer.from('PRI * HTTP')],
    ['nearly the signature', Buffer.from('\r\n\r\n\0\r\nQUIP')],
    ['lower case', Buffer.from('proxy')],
    ['another version', binary(0x31, 0x11, IPV4)],
    ['another command', binary(0x22, 0x11, IPV4)],
    ['another family', binary(0x21, 0x41, IPV4)],
    ['another transport', binary(0x21, 0x13, IPV4)],
    ['an address of IPv4 that is cut off', binary(0x21, 0x11, IPV4.subarray(0, 11))],
    ['an address of IPv6 that is cut off', binary(0x21, 0x21, IPV6.subarray(0, 35))],
    ['a TLV that is cut off in its head', binary(0x21, 0x11, Buffer.concat([IPV4, Buffer.from([0x04, 0])]))],
    ['a TLV that is cut off in its value', binary(0x21, 0x11, Buffer.concat([IPV4, tlv(0x04, Buffer.alloc(3), 4)]))],
    ['one that claims to be longer than any', binary(0x21, 0x11, Buffer.alloc(0), TAIL_BYTES_MAX + 1)],
    ['one that claims to be as long as can be', binary(0x20, 0x00, Buffer.alloc(0), 0xffff)],
    ['a line without its carriage return', Buffer.from('PROXY UNKNOWN\n')],
    ['a line over 107 bytes', Buffer.from(`PROXY UNKNOWN ${'x'.repeat(107)}`)],
    ['a family that is none', line('TCP5 192.0.2.1 198.51.100.2 1 2')],
    ['two spaces', line('TCP4  192.0.2.1 198.51.100.2 1 2')],
    ['no ports', line('TCP4 192.0.2.1 198.51.100.2')],
    ['a port that is none', line('TCP4 192.0.2.1 198.51.100.2 65536 2')],
    ['a name for an address', line('TCP4 localhost 198.51.100.2 1 2')],
    ['an octal address', line('TCP4 0300.0.2.1 198.51.100.2 1 2')],
    ['IPv6 where IPv4 is said', line('TCP4 ::1 ::1 1 2')],
    ['a zone', line('TCP6 fe80::1%eth0 ::1 1 2')],
  ])('%s is refused', (_, bytes) => {
    expect(() => read([bytes])).toThrow(ProxyHeaderError)
  })

  test('is refused at the byte that makes it none, and not waited for', () => {
    const reader = new ProxyHeaderReader()
    expect(reader.push(SIGNATURE)).toBeUndefined()
    expect(() => reader.push(Buffer.from([0x11]))).toThrow('an unknown command')
  })

  test('any bytes are a header, need more of it, or are refused; nothing else happens, and little is kept', () => {
    const start = fc.constantFrom(Buffer.alloc(0), SIGNATURE, binary(0x21, 0x11, IPV4), Buffer.from('PROXY '), GOOD[0]![1])
    fc.assert(
      fc.property(start, fc.uint8Array({ maxLength: 200 }), fc.nat(40), (before, bytes, drop) => {
        const whole = Buffer.concat([before.subarray(0, Math.max(0, before.length - drop)), bytes])
        const reader = new ProxyHeaderReader()
        try {
          const rest = reader.push(whole)
          expect(rest === undefined).toBe(reader.header === undefined)
          if (rest !== undefined) expect(whole.subarray(whole.length - rest.length).equals(rest)).toBe(true)
        } catch (error) {
          expect(error).toBeInstanceOf(ProxyHeaderError)
        }
      }),
      { numRuns: 2000 },
    )
  })
})
