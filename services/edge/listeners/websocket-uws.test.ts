// The driver on uWebSockets.js, on a library that is told what happens: what clients cannot be made to do on time.
import { describe, expect, test } from 'vitest'
import { testProcess } from '../edge.fixture.ts'
import type { Tls } from './certificates.ts'
import { testDoor } from './door.fixture.ts'
import { clientFinder } from './websocket.ts'
import type { WebSocketOptions } from './websocket-driver.ts'
import { listenUws, type UwsLibrary } from './websocket-uws.ts'

interface Behaviour {
  upgrade(response: object, request: object, context: object): void
  open(socket: object): void
  message(socket: object, message: ArrayBuffer, isBinary: boolean): void
  close(socket: object): void
}

/** As much of the library as the driver asks for. */
class Library {
  behaviour!: Behaviour
  readonly library = { DISABLED: 0, App: () => this.#app, us_socket_local_port: () => 1, us_listen_socket_close() {} } as never
  readonly #app = {
    filter() {},
    ws: (_path: string, behaviour: Behaviour) => (this.behaviour = behaviour),
    any() {},
    listen: (_host: string, _port: number, listening: (token: object) => void) => listening({}),
    close() {},
  }

  /** A client that asks with these headers, each a line. */
  connect(headers: readonly (readonly [string, string])[] = []) {
    const lines = [['sec-websocket-protocol', 'xmpp'] as const, ...headers]
    let data: object = {}
    const socket = {
      closed: false,
      getUserData: () => data,
      close: () => this.behaviour.close(socket),
      getBufferedAmount: () => 0,
    }
    const request = {
      getHeader: (name: string) => lines.find(([key]) => key === name)?.[1] ?? '',
      forEach: (each: (key: string, value: string) => void) => {
        for (const [key, value] of lines) each(key, value)
      },
    }
    const response = {
      getRemoteAddress: () => new Uint8Array([127, 0, 0, 1]).buffer,
      upgrade: (upgraded: object) => (data = upgraded),
    }
    this.behaviour.upgrade(response, request, {})
    this.behaviour.open(socket)
    return { send: (text: string) => this.behaviour.message(socket, new TextEncoder().encode(text).buffer, false) }
  }
}

async function listening(state: 'negotiating' | 'bound', trustedProxies: readonly string[] = []) {
  const process = testProcess({ config: { trustedProxies } })
  const uws = new Library()
  const taken: string[] = []
  const told = { closed: false, onFrame: (_text: string): void => {} }
  const events = {
    state,
    data(bytes: Uint8Array) {
      taken.push(Buffer.from(bytes).toString())
      told.onFrame(taken.at(-1)!)
    },
    closed: () => (told.closed = true),
  }
  const edge = { streams: new Set() } as never
  const door = testDoor(process, { tls: {} as Tls, onChange() {} }, { edge, onConnection: () => events, close: async () => {} })
  const options: WebSocketOptions = {
    door,
    host: '127.0.0.1',
    port: 0,
    path: '/',
    tls: false,
    clientOf: clientFinder(door.admission.trusts, false),
    handshakeMs: 1_000,
    frameBytesMax: 200_000,
    frameBytesMaxBeforeLogin: 10_000,
    unsentBytesMax: 1_000_000,
  }
  const listener = await listenUws(uws.library as UwsLibrary, options)
  return { uws, door, taken, told, listener }
}

describe('a client that is not read from', () => {
  test.each([
    ['negotiating', 10_000],
    ['bound', 1_000_000],
  ] as const)('%s may have %i bytes wait, and then is cut off', async (state, most) => {
    const { uws, door, told, taken } = await listening(state)
    const client = uws.connect()
    door.connections[0]!.pause()
    client.send('x'.repeat(most / 2))
    client.send('x'.repeat(most / 2 - 200))
    expect(told.closed).toBe(false)
    client.send('x'.repeat(most / 10))
    expect([told.closed, taken]).toEqual([true, []])
  })

  test('hears each frame once and in order, though it is paused and read again while one is taken', async () => {
    const { uws, door, taken, told } = await listening('bound')
    const client = uws.connect()
    const connection = door.connections[0]!
    connection.pause()
    for (const text of ['one', 'two', 'three', 'four']) client.send(text)
    told.onFrame = (text) => {
      if (text === 'four') return
      connection.pause()
      if (text !== 'three') connection.resume()
    }
    connection.resume()
    expect(taken).toEqual(['one', 'two', 'three'])
    connection.resume()
    expect(taken).toEqual(['one', 'two', 'three', 'four'])
  })
})

test('a header that comes in two lines has both values: the last is the proxy’s', async () => {
  const { uws, door } = await listening('negotiating', ['127.0.0.1'])
  uws.connect([
    ['x-forwarded-for', '127.0.0.1'],
    ['x-forwarded-for', '203.0.113.9'],
  ])
  expect(door.connections[0]).toMatchObject({ address: '203.0.113.9', loopback: false })
})
