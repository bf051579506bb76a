import { afterEach, describe, expect, test } from 'vitest'
import { openCaller } from '#core/call.ts'
import { SCRAM_HASHES, type ScramHash } from '#core/storage/scram-keys.ts'
import {
  base64,
  bind,
  connect,
  type FakeConnection,
  frameHeader,
  header,
  makeAccount,
  PASSWORD,
  type ProcessOptions,
  plainAuth,
  startRoles,
  testProcess,
} from '../edge.fixture.ts'
import type { ChannelBindingType, Connection } from '../listeners/connection.ts'
import { openEdge } from '../main.ts'
import { ScramClient } from '../sasl/sasl.fixture.ts'

const NS_SASL = 'urn:ietf:params:xml:ns:xmpp-sasl'
const CHANNEL: Readonly<Partial<Record<ChannelBindingType, Uint8Array>>> = {
  'tls-exporter': Buffer.from('key of this TLS'),
  'tls-server-end-point': Buffer.from('hash of our certificate'),
}
const stops: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const stop of stops.splice(0).reverse()) await stop()
})

type Options = Partial<Pick<Connection, 'framing' | 'address' | 'loopback' | 'encrypted' | 'clientCertificate'>> & {
  readonly bindings?: readonly ChannelBindingType[]
}

async function start(options: ProcessOptions = {}) {
  const process = testProcess(options)
  stops.push(await startRoles(process))
  const open = openEdge(process)
  stops.push(() => open.close())
  await makeAccount(process, 'romeo@example.org')
  return {
    process,
    caller: openCaller(process.bus, process.ownership),
    /** Inside TLS that has the bindings named. */
    connect: ({ bindings = [], clientCertificate, ...options }: Options = {}) => {
      const connection = connect(() => undefined as never, options)
      const channelBinding = (type: ChannelBindingType) => (bindings.includes(type) ? CHANNEL[type] : undefined)
      Object.assign(connection, { channelBindings: bindings, channelBinding, clientCertificate })
      connection.events = open.onConnection(connection)
      return connection
    },
  }
}

const auth = (mechanism: string, data: string) => `<auth xmlns='${NS_SASL}' mechanism='${mechanism}'>${data}</auth>`
const mechanismsOf = (features: string) =>
  [...features.split('<authentication')[0]!.matchAll(/<mechanism>([^<]*)</g)].map(([, name]) => name)
const failureOf = (text: string) => /<failure [^>]*><([a-z-]+)\/>/.exec(text)?.[1]

/** Resolves to the answer to the last message. */
async function scram(connection: FakeConnection, mechanism: string, client: ScramClient): Promise<string> {
  connection.send(auth(mechanism, client.first().toString('base64')))
  const challenge = />([^<]*)<\/challenge>/.exec(await connection.until(/<\/challenge>|<\/failure>/))
  if (challenge === null) return connection.written
  const final = client.final(Buffer.from(challenge[1]!, 'base64').toString())
  connection.send(`<response xmlns='${NS_SASL}'>${final.toString('base64')}</response>`)
  return connection.until(/<\/success>|<\/failure>/)
}

describe('XEP-0440 and RFC 5802 §6 what is offered', () => {
  test('where TLS has bindings, they are named beside the mechanisms, and each SCRAM is there with -PLUS', async () => {
    const { connect } = await start()
    const features = connect({ bindings: ['tls-exporter', 'tls-server-end-point'] })
      .open()
      .take()
    expect(features).toContain(
      "<sasl-channel-binding xmlns='urn:xmpp:sasl-cb:0'><channel-binding type='tls-exporter'/><channel-binding type='tls-server-end-point'/></sasl-channel-binding>",
    )
    expect(mechanismsOf(features).filter((name) => name!.endsWith('-PLUS'))).toEqual(
      SCRAM_HASHES.map((hash) => `SCRAM-${hash}-PLUS`),
    )
  })

  test('where it has none, there is neither', async () => {
    const { connect } = await start()
    for (const connection of [connect(), connect({ bindings: [] })]) {
      const features = connection.open().take()
      expect(features).not.toMatch(/channel-binding|-PLUS/)
    }
  })

  test('`scram.hashes` takes mechanisms out', async () => {
    const { connect } = await start({ config: { scram: { iterations: 4096, hashes: ['SHA-1'] } } })
    expect(
      mechanismsOf(
        connect({ bindings: ['tls-exporter'] })
          .open()
          .take(),
      ),
    ).toEqual(['SCRAM-SHA-1-PLUS', 'SCRAM-SHA-1', 'PLAIN'])
  })
})

describe('SCRAM in the stream', () => {
  test.each(SCRAM_HASHES)('SCRAM-%s logs in, without and with a binding of either type', async (hash: ScramHash) => {
    const { connect } = await start()
    const plain = connect().open()
    const client = new ScramClient(hash, 'romeo', PASSWORD)
    expect(await scram(plain, `SCRAM-${hash}`, client)).toContain(`>${base64(client.expected)}</success>`)
    for (const type of ['tls-exporter', 'tls-server-end-point'] as const) {
      const connection = connect({ bindings: [type] }).open()
      const bound = new ScramClient(hash, 'romeo', PASSWORD, `p=${type},,`, CHANNEL[type])
      expect(await scram(connection, `SCRAM-${hash}-PLUS`, bound)).toContain(`>${base64(bound.expected)}</success>`)
    }
  })

  test('whoever stands between two connections cannot pass a login on', async () => {
    const { connect } = await start()
    const connection = connect({ bindings: ['tls-exporter'] }).open()
    const client = new ScramClient('SHA-256', 'romeo', PASSWORD, 'p=tls-exporter,,', Buffer.from('key of another TLS'))
    expect(failureOf(await scram(connection, 'SCRAM-SHA-256-PLUS', client))).toBe('not-authorized')
  })

  test('a client that was told of no -PLUS, though it was offered, is refused', async () => {
    const { connect } = await start()
    const connection = connect({ bindings: ['tls-exporter'] }).open()
    expect(failureOf(await scram(connection, 'SCRAM-SHA-256', new ScramClient('SHA-256', 'romeo', PASSWORD, 'y,,')))).toBe(
      'not-authorized',
    )
  })
})

describe('RFC 6120 §6.4.2 the data of SASL', () => {
  const data = base64(`\0romeo\0${PASSWORD}`)

  test.for([
    data,
    `\n  ${data}\n`,
    `&#x${data.charCodeAt(0).toString(16)};${data.slice(1)}`,
    `<![CDATA[${data.slice(0, 4)}]]>${data.slice(4)}`,
    `${data.slice(0, 4)}<hint xmlns='urn:example'/>${data.slice(4)}`,
  ])('is the text of the element, however it is written: %s', async (written) => {
    const { connect } = await start()
    const connection = connect().open()
    connection.send(auth('PLAIN', written))
    expect(await connection.until(/<success|<\/failure>/)).toContain('<success')
  })

  test.for(['\u00a0', 'é', '&#233;'])('%s in it is incorrect-encoding (§6.5.5)', async (text) => {
    const { connect } = await start()
    const connection = connect().open()
    connection.send(auth('PLAIN', data + text))
    expect(failureOf(await connection.until('</failure>'))).toBe('incorrect-encoding')
  })
})

test('RFC 6120 §6.5.5 incorrect-encoding says what is wrong', async () => {
  const { connect } = await start()
  const connection = connect().open()
  connection.send(auth('PLAIN', 'no base64'))
  expect(await connection.until('</failure>')).toContain(
    "<incorrect-encoding/><text xml:lang='en'>not base64 (RFC 4648 §4)</text></failure>",
  )
})

describe('XEP-0178 EXTERNAL', () => {
  const certificate = (...xmppAddrs: string[]) => ({ clientCertificate: { xmppAddrs } })

  test('is offered, and first, where the certificate names an account of the stream’s domain', async () => {
    const { connect } = await start()
    expect(mechanismsOf(connect(certificate('romeo@example.org')).open().take())[0]).toBe('EXTERNAL')
    for (const connection of [connect(certificate('romeo@example.net', 'example.org')), connect(certificate()), connect()])
      expect(mechanismsOf(connection.open().take())).not.toContain('EXTERNAL')
  })

  test('logs in as whom it names, and as nobody else', async () => {
    const { connect, process } = await start()
    await makeAccount(process, 'juliet@example.org')
    const romeo = connect(certificate('romeo@example.org')).open()
    romeo.send(auth('EXTERNAL', base64('juliet@example.org')))
    expect(failureOf(await romeo.until('</failure>'))).toBe('invalid-authzid')
    romeo.send(auth('EXTERNAL', '='))
    await romeo.until('<success')
    romeo.open().send(bind('orchard'))
    expect(await romeo.until('</iq>')).toContain('<jid>romeo@example.org/orchard</jid>')
  })
})

describe('RFC 6120 §6.5.2 account-disabled', () => {
  test('is told, with the reason, to whoever has the right password; then the account is enabled again', async () => {
    const { connect, caller } = await start()
    await caller.ask('router', 'romeo@example.org', 'account.disable', { reason: 'spam & more' })
    const connection = connect().open()
    connection.send(plainAuth('romeo', 'wrong'))
    expect(failureOf(await connection.until('</failure>'))).toBe('not-authorized')
    connection.send(plainAuth('romeo'))
    expect(await connection.until('</failure>')).toContain("<account-disabled/><text xml:lang='en'>spam &amp; more</text>")
    expect(await scram(connection, 'SCRAM-SHA-512', new ScramClient('SHA-512', 'romeo', PASSWORD))).toContain('account-disabled')
    await caller.ask('router', 'romeo@example.org', 'account.enable', {})
    connection.send(plainAuth('romeo'))
    await connection.until('<success')
  })
})

describe('whoever has logged in and bound nothing yet', () => {
  async function waiting() {
    const server = await start()
    const connection = server.connect().open()
    connection.send(plainAuth('romeo'))
    await connection.until('<success')
    connection.open().take()
    return { ...server, connection }
  }

  test('binds nothing once the password is another one, as often as he tries', async () => {
    const { connection, caller, connect } = await waiting()
    await caller.ask('router', 'romeo@example.org', 'account.password', { password: 'another' })
    for (let i = 0; i < 2; i++) {
      connection.send(bind('orchard'))
      expect(await connection.until('</iq>')).toContain('<not-authorized ')
    }
    const again = connect().open()
    again.send(plainAuth('romeo', 'another'))
    await again.until('<success')
    again.open().send(bind('orchard'))
    expect(await again.until('</iq>')).toContain('<jid>romeo@example.org/orchard</jid>')
  })

  test('binds nothing once the account is disabled', async () => {
    const { connection, caller } = await waiting()
    await caller.ask('router', 'romeo@example.org', 'account.disable', {})
    connection.send(bind('orchard'))
    expect(await connection.until('</iq>')).toContain('<not-allowed ')
  })
})

describe('XEP-0305 a client that does not wait', () => {
  const resource = '<jid>romeo@example.org/orchard</jid>'

  test('for the success sends its next header and bind at once, and all is answered in order', async () => {
    const { connect } = await start()
    const connection = connect()
    connection.send(header() + plainAuth('romeo') + header() + bind('orchard'))
    const answers = await connection.until('</iq>')
    expect(answers).toMatch(
      /<\/stream:features><success [^>]*\/><\?xml version='1\.0'\?><stream:stream .*<\/stream:features><iq /,
    )
    expect(answers).toContain(resource)
  })

  test.each([1, 7, 64])('cut every %i bytes it is the same', async (size) => {
    const { connect } = await start({ config: { limits: { bytesPerSecondBeforeLogin: 0 } } })
    const connection = connect()
    const sent = Buffer.from(`${header()}${plainAuth('romeo')}\n${header()}${bind('orchard')}`)
    for (let at = 0; at < sent.length; at += size) connection.send(sent.subarray(at, at + size))
    expect(await connection.until('</iq>')).toContain(resource)
  })

  test('the last message of SCRAM, and the header behind it', async () => {
    const { connect } = await start()
    const connection = connect().open()
    const client = new ScramClient('SHA-256', 'romeo', PASSWORD)
    connection.send(auth('SCRAM-SHA-256', client.first().toString('base64')))
    const challenge = />([^<]*)<\/challenge>/.exec(await connection.until('</challenge>'))![1]!
    const final = client.final(Buffer.from(challenge, 'base64').toString()).toString('base64')
    connection.send(`<response xmlns='${NS_SASL}'>${final}</response>${header()}${bind('orchard')}`)
    expect(await connection.until('</iq>')).toContain(resource)
  })

  test('over WebSocket, in frames of their own', async () => {
    const { connect } = await start()
    const connection = connect({ framing: 'frame' })
    for (const frame of [frameHeader(), plainAuth('romeo'), frameHeader(), bind('orchard')]) connection.send(frame)
    expect(await connection.until('</iq>')).toContain(resource)
  })

  test('for TLS is not heard: what came before the handshake is forgotten', async () => {
    const { connect } = await start()
    const connection = connect({ encrypted: false }).open()
    connection.take()
    connection.send(`<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>${header()}${plainAuth('romeo')}${header()}`)
    expect(connection.take()).toBe("<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
    expect(connection.open().take()).toContain('<mechanism>PLAIN</mechanism>')
  })

  test('RFC 6120 §5.4.3.3: a login that began in the clear does not go on inside TLS', async () => {
    const { connect } = await start({ config: { c2s: { allowPlainOnLoopback: true } } })
    const connection = connect({ encrypted: false, loopback: true }).open()
    const client = new ScramClient('SHA-256', 'romeo', PASSWORD)
    connection.send(auth('SCRAM-SHA-256', client.first().toString('base64')))
    const challenge = />([^<]*)<\/challenge>/.exec(await connection.until('</challenge>'))![1]!
    connection.send("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
    connection.open()
    const final = client.final(Buffer.from(challenge, 'base64').toString()).toString('base64')
    connection.send(`<response xmlns='${NS_SASL}'>${final}</response>`)
    expect(failureOf(await connection.until(/<\/failure>|<\/success>/))).toBe('malformed-request')
    expect(await scram(connection, 'SCRAM-SHA-256', new ScramClient('SHA-256', 'romeo', PASSWORD))).toContain('</success>')
  })

  test('and fails gets the failure, and its header is no new stream', async () => {
    const { connect } = await start()
    const connection = connect().open()
    connection.take()
    connection.send(plainAuth('romeo', 'wrong') + header() + bind('orchard'))
    expect(failureOf(await connection.until('</failure>'))).toBe('not-authorized')
    expect(connection.take()).toBe('')
  })
})

test('one address that guesses is refused with temporary-auth-failure, whatever stream it is on', async () => {
  const { connect } = await start({ config: { limits: { loginFailuresPerAccountAndAddress: 2 } } })
  for (let i = 0; i < 2; i++) {
    const connection = connect().open()
    connection.send(plainAuth('romeo', 'wrong'))
    expect(failureOf(await connection.until('</failure>'))).toBe('not-authorized')
  }
  const refused = connect().open()
  refused.send(plainAuth('romeo'))
  expect(failureOf(await refused.until('</failure>'))).toBe('temporary-auth-failure')
  const elsewhere = connect({ address: '198.51.100.1' }).open()
  elsewhere.send(plainAuth('romeo'))
  await elsewhere.until('<success')
})

test('failed logins are counted by mechanism and condition', async () => {
  const { connect, process } = await start()
  const connection = connect().open()
  connection.send(plainAuth('romeo', 'wrong'))
  await connection.until('</failure>')
  expect(process.metrics.text()).toContain('logins_failed_total{mechanism="PLAIN",condition="not-authorized"} 1')
})
