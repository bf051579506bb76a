// Whatever a connection may bring: a stream before and after its login, WebSocket frames and requests, control lines.
import { connect as connectSocket, type NetConnectOpts } from 'node:net'
import { Place } from '#ctl/rookery.fixture.ts'
import { connect, PuppetOwners, plainAuth, settled, testProcess } from '#edge/edge.fixture.ts'
import { openEdge } from '#edge/main.ts'
import { controlPath } from '#embedded/control.ts'
import { freePorts } from '#test/support/ports.ts'
import type { Random } from './random.ts'
import { buffersOf, demand, type Fuzz, type FuzzTarget } from './target.ts'
import { STANZAS, XML_TOKENS } from './xml.ts'

const NS_SASL = 'urn:ietf:params:xml:ns:xmpp-sasl'
const base64 = (text: string): string => Buffer.from(text).toString('base64')
const HEADER = `<?xml version='1.0'?><stream:stream to='example.org' version='1.0' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>`
const OPEN = `<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' to='example.org' version='1.0'/>`
const BIND = `<iq xmlns='jabber:client' type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>r</resource></bind></iq>`

/** What a client may say at one time or another. */
const SAID = [
  ...buffersOf([
    HEADER,
    OPEN,
    BIND,
    plainAuth('romeo'),
    `<auth xmlns='${NS_SASL}' mechanism='SCRAM-SHA-1'>${base64('n,,n=romeo,r=fyko+d2lbbFgONRv9qkxdawL')}</auth>`,
    `<auth xmlns='${NS_SASL}' mechanism='SCRAM-SHA-256'/>`,
    `<auth xmlns='${NS_SASL}' mechanism='EXTERNAL'>=</auth>`,
    `<response xmlns='${NS_SASL}'>${base64('c=biws,r=fyko,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=')}</response>`,
    `<abort xmlns='${NS_SASL}'/>`,
    `<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>`,
    `<iq type='get' id='r'><query xmlns='jabber:iq:register'/></iq>`,
    `<enable xmlns='urn:xmpp:sm:3' resume='true' max='60'/>`,
    `<r xmlns='urn:xmpp:sm:3'/>`,
    `<a xmlns='urn:xmpp:sm:3' h='1'/>`,
    `<resume xmlns='urn:xmpp:sm:3' h='1' previd='x'/>`,
    `</stream:stream>`,
    `<close xmlns='urn:ietf:params:xml:ns:xmpp-framing'/>`,
    ' ',
  ]),
  ...STANZAS,
]
const LOGIN = buffersOf([HEADER, plainAuth('romeo'), HEADER, BIND])
const LOGIN_FRAMES = buffersOf([OPEN, plainAuth('romeo'), OPEN, BIND])

/** An edge before owners that bind whoever asks and ack whatever comes, at once or never. */
function puppetEdge(random: () => Random) {
  const process = testProcess({ config: { limits: { loginFailuresPerStream: 3 } } })
  const owners = new PuppetOwners(process)
  owners.knows('romeo@example.org')
  owners.onEnvelope = ({ done }) => {
    owners.handed.length = 0
    if (!random().chance(20)) done()
  }
  return { process, owners, open: openEdge(process) }
}

async function openStream(): Promise<Fuzz> {
  let random!: Random
  const { process, open } = puppetEdge(() => random)
  return {
    async one(given) {
      random = given
      const framing = random.chance(3) ? 'frame' : 'stream'
      const connection = connect(open.onConnection, { framing, encrypted: random.chance(2), loopback: random.chance(2) })
      const pieces: Buffer[] = random.chance(3) ? [] : [...(framing === 'frame' ? LOGIN_FRAMES : LOGIN)]
      for (let left = random.int(5); left > 0; left--) pieces.push(random.pick(SAID))
      for (const piece of pieces) {
        if (connection.ended || connection.destroyed) break
        connection.send(random.chance(6) ? random.mutate(piece, SAID, XML_TOKENS) : piece)
        if (!random.chance(8)) await settled(piece.includes('<auth') ? 60 : 4)
      }
      if (random.chance(8)) connection.vanish()
      else if (!connection.destroyed) connection.destroy()
    },
    async check() {
      await settled(200)
      const broken = process.log.lines.filter(({ level }) => level === 'error')
      demand(broken.length === 0, () => JSON.stringify(broken[0]))
      process.log.lines.length = 0
      demand(open.edge.streams.size === 0, () => `${open.edge.streams.size} streams are left`)
    },
    close: () => open.close(),
  }
}

// WebSocket -------------------------------------------------------------------------------------------------------------

const UPGRADE = Buffer.from(
  'GET /xmpp-websocket HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n' +
    'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: xmpp\r\n\r\n',
)
const HTTP_TOKENS = buffersOf([
  '\r\n',
  '\r\n\r\n',
  ':',
  ' ',
  'HTTP/1.1',
  'Content-Length: 5',
  'Transfer-Encoding: chunked',
  '\0',
  '../',
  '%00',
  'a'.repeat(20_000),
])

function frame(random: Random): Buffer {
  const payload = random.chance(2) ? random.pick(SAID) : random.bytes(random.int(200))
  const opcode = random.chance(3) ? random.int(16) : 1
  const first = (random.chance(8) ? 0 : 0x80) | (random.chance(20) ? random.int(8) << 4 : 0) | opcode
  const mask = random.chance(20) ? 0 : 0x80
  const length = random.chance(20) ? random.int(70_000) : payload.length
  const head =
    length < 126
      ? [first, mask | length]
      : length < 65_536
        ? [first, mask | 126, length >> 8, length & 255]
        : [first, mask | 127, 0, 0, 0, 0, 0, length >> 16, (length >> 8) & 255, length & 255]
  const key = random.bytes(4)
  return Buffer.concat([
    Buffer.from(head),
    mask === 0 ? Buffer.alloc(0) : key,
    mask === 0 ? payload : payload.map((byte, i) => byte ^ key[i & 3]!),
  ])
}

// A real server ---------------------------------------------------------------------------------------------------------

const REQUESTS = [
  UPGRADE,
  ...buffersOf([
    'GET / HTTP/1.1\r\nHost: x\r\n\r\n',
    'GET /.well-known/host-meta.json HTTP/1.1\r\nHost: x\r\n\r\n',
    'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc',
  ]),
]
const LINES = buffersOf([
  '{"call":"account.create","account":"romeo@localhost","fields":{"password":"x"}}',
  '{"call":"account.list","fields":{"domain":"localhost"}}',
  '{"call":"account.remove","account":"romeo@localhost","fields":{}}',
  '{"call":"session.list","fields":{"domain":"localhost"}}',
  '{"call":"session.kick","account":"romeo@localhost/x","fields":{"reason":"r"}}',
  '{"call":"announce","fields":{"text":"t"}}',
])
const LINE_TOKENS = buffersOf([
  '\n',
  '{',
  '}',
  '"',
  ':',
  ',',
  '[',
  'null',
  '1e999',
  '\\u0000',
  '\\ud800',
  '@',
  '/',
  '__proto__',
  'x'.repeat(40_000),
  '\xff',
])
const PATIENCE_MS = 5_000

/** Says all of it, and resolves to what has come when the peer has closed, or after so long. */
function exchange(where: NetConnectOpts, said: readonly Buffer[], afterMs: number): Promise<string> {
  return new Promise((resolve, reject) => {
    let answer = ''
    const socket = connectSocket(where)
    const done = (): void => {
      clearTimeout(timer)
      if ('path' in where) socket.destroy()
      else socket.resetAndDestroy() // else each would keep its port for a minute
      resolve(answer)
    }
    const timer = setTimeout(done, afterMs)
    socket.setEncoding('latin1')
    socket.on('data', (text: string) => {
      answer += text
    })
    socket.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'ECONNREFUSED' || error.code === 'ENOENT') reject(new Error('the server is gone'))
    })
    socket.on('close', done)
    for (const bytes of said) socket.write(bytes)
    if ('path' in where) socket.end()
  })
}

/** The real command; what comes of an input is seen from outside: it answers, and goes on. */
async function openServer(one: (random: Random, server: ServerUnderTest) => Promise<void>): Promise<Fuzz> {
  const place = new Place()
  const [http] = (await freePorts(1)) as [number]
  const started = await place.run(place.configure({ websocket: { port: 0 }, http: { port: http }, registration: 'open' }))
  const server = { http, websocket: await started.port('websocket'), control: controlPath(place.data) }
  let broken = ''
  started.process.stdout!.on('data', (text: string) => {
    for (const line of text.split('\n')) if (line.includes('"level":"error"')) broken ||= line
  })
  return {
    one: (random) => one(random, server),
    check: () => demand(broken === '' && started.process.exitCode === null, () => `the server broke: ${broken}`),
    async close() {
      await started.stop()
      await place.clear()
    },
  }
}

interface ServerUnderTest {
  readonly http: number
  readonly websocket: number
  readonly control: string
}

async function attackHttp(random: Random, server: ServerUnderTest): Promise<void> {
  const upgrades = random.chance(2)
  const request = upgrades ? UPGRADE : random.mutate(random.pick(REQUESTS), REQUESTS, HTTP_TOKENS)
  const frames = upgrades || random.chance(2) ? Array.from({ length: 1 + random.int(5) }, () => frame(random)) : []
  const port = upgrades || random.chance(2) ? server.websocket : server.http
  const answer = await exchange({ host: '127.0.0.1', port }, [request, ...frames], 3)
  demand(answer === '' || answer.startsWith('HTTP/1.1 '), () => `answered ${answer.slice(0, 200)}`)
  if (upgrades && answer !== '') demand(answer.startsWith('HTTP/1.1 101 '), () => `not upgraded: ${answer.slice(0, 200)}`)
}

async function attackControl(random: Random, server: ServerUnderTest): Promise<void> {
  const lines = Array.from({ length: 1 + random.int(3) }, () => random.mutate(random.pick(LINES), LINES, LINE_TOKENS))
  const said = Buffer.concat(lines.map((line) => Buffer.concat([line, Buffer.from('\n')])))
  const answer = await exchange({ path: server.control }, [said], PATIENCE_MS)
  const told = answer.split('\n').slice(0, -1)
  demand(told.length > 0, () => `nothing came for ${JSON.stringify(said.toString())}`)
  for (const line of told) {
    const keys = Object.keys(JSON.parse(line) as object)
    demand(['told', 'entry', 'condition'].includes(keys[0]!), () => `a line that says nothing: ${line}`)
  }
}

export const CONNECTION_TARGETS: readonly FuzzTarget[] = [
  { name: 'stream', inputs: 2_500, open: openStream },
  { name: 'http-websocket', inputs: 600, open: () => openServer(attackHttp) },
  { name: 'control', inputs: 400, open: () => openServer(attackControl) },
]
