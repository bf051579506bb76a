// Below XMPP: WebSocket frames that are none (RFC 6455 §5), requests that are none, and peers that stop in the middle.
import { randomBytes } from 'node:crypto'
import { connect, type Socket } from 'node:net'
import { expect } from 'vitest'
import { HOST, OPEN } from './peer.ts'
import type { Attack, Target } from './target.ts'

const PATIENCE_MS = 20_000
/** uWebSockets.js gives a request half a minute. */
const UNFINISHED_PATIENCE_MS = 45_000

/** A socket that keeps what comes. */
class Raw {
  received = Buffer.alloc(0)
  gone = false
  readonly socket: Socket

  constructor(port: number) {
    this.socket = connect(port, HOST)
    this.socket.on('data', (bytes) => {
      this.received = Buffer.concat([this.received, bytes]).subarray(-100_000)
    })
    this.socket.on('error', () => {})
    this.socket.on('close', () => {
      this.gone = true
    })
  }

  async until(holds: () => boolean, what: string, patienceMs = PATIENCE_MS): Promise<void> {
    const deadline = performance.now() + patienceMs
    while (!holds()) {
      if (performance.now() > deadline)
        throw new Error(`${what} did not come, but ${this.received.toString('latin1').slice(-500)}`)
      await new Promise((resolve) => setTimeout(resolve, 10))
    }
  }

  /** All that came before the server ended it. */
  async end(): Promise<string> {
    await this.until(() => this.gone, 'the end')
    return this.received.toString('latin1')
  }
}

async function upgraded(target: Target): Promise<Raw> {
  const raw = new Raw(target.ports.websocket)
  raw.socket.write(
    `GET /xmpp-websocket HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n` +
      `Sec-WebSocket-Key: ${randomBytes(16).toString('base64')}\r\nSec-WebSocket-Protocol: xmpp\r\n\r\n`,
  )
  await raw.until(() => raw.received.includes('\r\n\r\n'), 'the upgrade')
  expect(raw.received.toString('latin1')).toMatch(/^HTTP\/1\.1 101 /)
  raw.received = Buffer.alloc(0)
  return raw
}

interface FrameOptions {
  readonly opcode?: number
  readonly fin?: boolean
  readonly masked?: boolean
  readonly reserved?: number
  /** What the header says, where it is not the truth. */
  readonly claimed?: bigint
}

const TEXT = 1
const PING = 9

function frame(
  payload: string | Uint8Array,
  { opcode = TEXT, fin = true, masked = true, reserved = 0, claimed }: FrameOptions = {},
): Buffer {
  const bytes = Buffer.from(payload as string)
  const length = claimed ?? BigInt(bytes.length)
  const head = [(fin ? 0x80 : 0) | (reserved << 4) | opcode]
  const mask = masked ? 0x80 : 0
  if (length < 126n) head.push(mask | Number(length))
  else if (length < 65_536n) head.push(mask | 126, Number(length >> 8n), Number(length & 255n))
  else {
    head.push(mask | 127)
    for (let shift = 56n; shift >= 0n; shift -= 8n) head.push(Number((length >> shift) & 255n))
  }
  if (!masked) return Buffer.concat([Buffer.from(head), bytes])
  const key = Buffer.from([1, 2, 3, 4])
  return Buffer.concat([Buffer.from(head), key, bytes.map((byte, i) => byte ^ key[i & 3]!)])
}

/** RFC 6455 §7.1.5: the code of the close frame in what came; 0 where it was closed without one. */
function closeCode(bytes: Buffer): number {
  for (let at = 0; at + 4 <= bytes.length; at++) if (bytes[at] === 0x88 && bytes[at + 1]! >= 2) return bytes.readUInt16BE(at + 2)
  return 0
}

const WRONG_FRAMES: readonly (readonly [string, Buffer, readonly number[]])[] = [
  ['a frame without a mask', frame(OPEN, { masked: false }), [1002]],
  ['reserved bits', frame(OPEN, { reserved: 7 }), [1002]],
  ['an unknown opcode', frame('x', { opcode: 5 }), [1002]],
  ['a continuation of nothing', frame('x', { opcode: 0 }), [1002]],
  ['a ping in fragments', frame('x', { opcode: PING, fin: false }), [1002]],
  ['a ping of 126 bytes', frame('x'.repeat(126), { opcode: PING }), [1002]],
  ['a length of 2^63', frame('', { claimed: 1n << 63n }), [1002, 1009]],
  ['a length of 1 TB', frame('', { claimed: 1n << 40n }), [1009]],
  ['a message over the limit', frame('x'.repeat(300_000)), [1009]],
  ['binary', frame(randomBytes(100), { opcode: 2 }), [1003]],
  ['a text frame within a fragmented one', Buffer.concat([frame('<a', { fin: false }), frame('x')]), [1002]],
]

export const FRAMES: readonly Attack[] = [
  {
    name: 'frames that RFC 6455 forbids',
    async run(target) {
      for (const [name, bytes, codes] of WRONG_FRAMES) {
        const raw = await upgraded(target)
        raw.socket.write(bytes)
        await raw.until(() => raw.gone || closeCode(raw.received) !== 0, 'the close')
        const code = closeCode(raw.received)
        raw.socket.destroy()
        // The native driver closes without a word where the protocol was broken.
        expect([name, [0, ...codes].includes(code)], `${code}`).toEqual([name, true])
      }
    },
  },
  {
    name: 'a message in 100 000 fragments without an end',
    async run(target) {
      const raw = await upgraded(target)
      const fragments = [
        frame('<open ', { fin: false }),
        ...Array.from({ length: 1_000 }, () => frame('x'.repeat(10), { opcode: 0, fin: false })),
      ]
      const thousand = Buffer.concat(fragments.slice(1))
      raw.socket.write(fragments[0]!)
      for (let i = 0; i < 100 && !raw.gone; i++) await new Promise((resolve) => raw.socket.write(thousand, resolve))
      await raw.end()
    },
  },
  {
    name: 'a message in a million empty fragments',
    async run(target) {
      const raw = await upgraded(target)
      const thousand = Buffer.concat(Array.from({ length: 1_000 }, () => frame('', { opcode: 0, fin: false })))
      raw.socket.write(frame('<open ', { fin: false }))
      for (let i = 0; i < 1_000 && !raw.gone; i++) await new Promise((resolve) => raw.socket.write(thousand, resolve))
      await raw.end()
    },
  },
  {
    name: '100 000 pings of WebSocket whose pongs are not read',
    async run(target) {
      const raw = await upgraded(target)
      raw.socket.pause()
      const thousand = Buffer.concat(Array.from({ length: 1_000 }, () => frame('x'.repeat(125), { opcode: PING })))
      for (let i = 0; i < 100 && !raw.gone; i++) {
        const taken = new Promise((resolve) => raw.socket.write(thousand, resolve))
        await Promise.race([taken, new Promise((resolve) => setTimeout(resolve, 300))])
      }
      raw.socket.destroy()
    },
  },
  {
    name: 'requests that are none, to the ports of WebSocket and HTTP',
    async run(target) {
      const requests = [
        randomBytes(10_000),
        'GET / HTTP/1.1\r\n\r\n\r\n',
        `GET /${'a'.repeat(100_000)} HTTP/1.1\r\nHost: x\r\n\r\n`,
        `GET / HTTP/1.1\r\nHost: x\r\n${Array.from({ length: 3_000 }, (_, i) => `h${i}: v\r\n`).join('')}\r\n`,
        `GET / HTTP/1.1\r\nHost: x\r\nX: ${'y'.repeat(200_000)}\r\n\r\n`,
        'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /evil HTTP/1.1\r\n\r\n',
        'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n',
        'GET /../../../../etc/passwd HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n',
        'GET /%2e%2e/%2e%2e/etc/passwd HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n',
        'GET / HTTP/1.1\r\nHost: x\r\nA\0: b\r\n\r\n',
        'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
      ]
      for (const port of [target.ports.websocket, target.ports.http]) {
        for (const request of requests) {
          const raw = new Raw(port)
          raw.socket.end(request)
          const answer = await raw.end()
          expect(answer).not.toContain('root:')
          if (answer !== '') expect(answer).toMatch(/^HTTP\/1\.1 [2345]\d\d /)
        }
      }
    },
  },
  {
    name: '200 requests that are never finished: each is cut off, and others are answered meanwhile',
    async run(target) {
      const raws: Raw[] = []
      for (const port of [target.ports.websocket, target.ports.http]) {
        for (let i = 0; i < 100; i++) {
          const raw = new Raw(port)
          raw.socket.write(i % 2 === 0 ? 'GET / HTTP/1.1\r\nHost: x\r\nX: ' : 'GET')
          raws.push(raw)
        }
      }
      const good = new Raw(target.ports.http)
      good.socket.write('GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n')
      expect(await good.end()).toMatch(/^HTTP\/1\.1 200 /)
      for (const raw of raws) await raw.until(() => raw.gone, 'the end of a request that is none', UNFINISHED_PATIENCE_MS)
      for (const { received } of raws) expect(received.toString('latin1')).toMatch(/^(?:$|HTTP\/1\.1 4\d\d )/)
    },
  },
]
