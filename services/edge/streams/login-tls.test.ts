import { createHash } from 'node:crypto'
import type tls from 'node:tls'
import { describe, expect, test } from 'vitest'
import { SCRAM_HASHES, type ScramHash } from '#core/storage/scram-keys.ts'
import { base64, bind, header, makeAccount, PASSWORD } from '../edge.fixture.ts'
import { CLIENT_CA, JULIET_CERT, JULIET_KEY } from '../listeners/certificate.fixture.ts'
import type { ChannelBindingType } from '../listeners/connection.ts'
import { TestTls } from '../listeners/door.fixture.ts'
import { type Client, certificate, start } from '../listeners/tcp.fixture.ts'
import { ScramClient } from '../sasl/sasl.fixture.ts'

const NS_SASL = 'urn:ietf:params:xml:ns:xmpp-sasl'
const auth = (mechanism: string, data: string) => `<auth xmlns='${NS_SASL}' mechanism='${mechanism}'>${data}</auth>`

/** As the client computes it: RFC 9266 §2, RFC 5929 §4.1. */
function bindingOf({ socket }: Client, type: ChannelBindingType): Buffer {
  const secure = socket as tls.TLSSocket
  if (type === 'tls-exporter') return secure.exportKeyingMaterial(32, 'EXPORTER-Channel-Binding', Buffer.alloc(0))
  if (type === 'tls-unique') return secure.getFinished()!
  return createHash('sha256').update(secure.getPeerX509Certificate()!.raw).digest()
}

/** Resolves to what the login ends in, `<success>` or `<failure>`. */
async function logIn(
  client: Client,
  hash: ScramHash,
  type: ChannelBindingType,
  binding = bindingOf(client, type),
): Promise<string> {
  const scram = new ScramClient(hash, 'romeo', PASSWORD, `p=${type},,`, binding)
  client.send(auth(`SCRAM-${hash}-PLUS`, scram.first().toString('base64')))
  const challenge = />([^<]*)<\/challenge>/.exec(await client.until('</challenge>'))![1]!
  const final = scram.final(Buffer.from(challenge, 'base64').toString())
  client.send(`<response xmlns='${NS_SASL}'>${final.toString('base64')}</response>`)
  return client.until(/<\/success>|<\/failure>/)
}

describe('SCRAM-*-PLUS over TLS', () => {
  test.each(SCRAM_HASHES)('SCRAM-%s-PLUS with each type, by STARTTLS and with TLS from the first byte', async (hash) => {
    const server = await start()
    await makeAccount(server.process, 'romeo@example.org')
    for (const type of ['tls-exporter', 'tls-server-end-point'] as const) {
      for (const client of [await server.connect().startTls(), server.connectTls()]) {
        expect(await client.send(header()).until('</stream:features>')).toContain(`<channel-binding type='${type}'/>`)
        expect(await logIn(client, hash, type)).toContain('</success>')
        client.send(header() + bind('orchard'))
        expect(await client.until('</iq>')).toContain('<jid>romeo@example.org/orchard</jid>')
      }
    }
  })

  test('TLS 1.2 has tls-server-end-point alone (RFC 9266 §4.2)', async () => {
    const server = await start()
    await makeAccount(server.process, 'romeo@example.org')
    const client = server.connectTls({ maxVersion: 'TLSv1.2' }).send(header())
    const features = await client.until('</stream:features>')
    expect(features).toContain(
      "<sasl-channel-binding xmlns='urn:xmpp:sasl-cb:0'><channel-binding type='tls-server-end-point'/></sasl",
    )
    expect(await logIn(client, 'SHA-256', 'tls-server-end-point')).toContain('</success>')
  })

  test('COMPAT: slixmpp’s tls-unique is the client’s Finished message; it is not offered, and not for TLS 1.2', async () => {
    const server = await start()
    await makeAccount(server.process, 'romeo@example.org')
    const client = server.connectTls().send(header())
    expect(await client.until('</stream:features>')).not.toContain('tls-unique')
    expect(await logIn(client, 'SHA-512', 'tls-unique')).toContain('</success>')
    const old = server.connectTls({ maxVersion: 'TLSv1.2' }).send(header())
    await old.until('</stream:features>')
    const scram = new ScramClient('SHA-512', 'romeo', PASSWORD, 'p=tls-unique,,', bindingOf(old, 'tls-unique'))
    old.send(auth('SCRAM-SHA-512-PLUS', scram.first().toString('base64')))
    expect(await old.until('</failure>')).toContain('<malformed-request/>')
  })

  test('one between two connections, with the password in passing, is refused on his own', async () => {
    const server = await start()
    await makeAccount(server.process, 'romeo@example.org')
    const [romeo, tybalt] = [server.connectTls(), server.connectTls()]
    for (const client of [romeo, tybalt]) await client.send(header()).until('</stream:features>')
    expect(await logIn(tybalt, 'SHA-256', 'tls-exporter', bindingOf(romeo, 'tls-exporter'))).toContain('<not-authorized/>')
  })

  test('without TLS there is no channel to bind', async () => {
    const server = await start()
    const features = await server.connect().send(header()).until('</stream:features>')
    expect(features).toContain('<mechanism>SCRAM-SHA-512</mechanism>')
    expect(features).not.toMatch(/-PLUS|channel-binding/)
  })
})

describe('XEP-0178 §2 EXTERNAL', () => {
  test('whom the certificate names logs in without a password, on the domain it names him on', async () => {
    const server = await start({ certificates: new TestTls([certificate], CLIENT_CA) })
    await makeAccount(server.process, 'juliet@example.org')
    const client = (await server.connect().startTls({ cert: JULIET_CERT, key: JULIET_KEY })).send(header())
    expect(await client.until('</stream:features>')).toContain(
      "<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>EXTERNAL<",
    )
    client.send(auth('EXTERNAL', base64('juliet@example.org')))
    await client.until('<success')
    client.send(header() + bind('balcony'))
    expect(await client.until('</iq>')).toContain('<jid>juliet@example.org/balcony</jid>')
  })
})
