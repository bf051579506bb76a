// What a client needs before it logs in: an account (XEP-0077), and the server's certificate to trust.
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { getCACertificates, setDefaultCACertificates, connect as tlsConnect } from 'node:tls'
import { within } from '#test/support/mailbox.ts'
import { childOf, NS_TLS, RawStream } from './rawstream.ts'
import type { TestServer } from './server.ts'

const NS_REGISTER = 'jabber:iq:register'

export interface Account {
  readonly user: string
  readonly password: string
  /** user@domain */
  readonly jid: string
}

/** Makes an account as a client would (XEP-0077 §3.1), over TLS where it is offered. Rejects with the server's error. */
export async function registerInBand(server: TestServer, user: string, password: string): Promise<void> {
  const stream = await RawStream.connect(server.host, server.port, server.domain, server.log)
  try {
    const features = await stream.open()
    if (childOf(features, 'starttls', NS_TLS) !== undefined) {
      await stream.startTls()
      await stream.open()
    }
    stream.send(
      `<iq type='set' id='register' to='${server.domain}'><query xmlns='${NS_REGISTER}'>` +
        `<username>${user}</username><password>${password}</password></query></iq>`,
    )
    const answer = await stream.next('the answer to a registration', ({ attrs }) => attrs.id === 'register')
    if (answer.attrs.type !== 'result') throw new Error(`${user} was not registered: ${JSON.stringify(answer)}`)
  } finally {
    stream.close()
  }
}

/** New accounts, each under a name nobody had before: a server under test may outlive the test. */
export async function people(server: TestServer, ...names: string[]): Promise<Account[]> {
  const accounts: Account[] = []
  for (const name of names) {
    const account = someone(server, name)
    await server.register(account.user, account.password)
    accounts.push(account)
  }
  return accounts
}

/** A name and password that are free, and not registered yet. */
export function someone(server: TestServer, name: string): Account {
  const user = `${name}-${randomBytes(3).toString('hex')}`
  return { user, password: `pass-${randomBytes(6).toString('hex')}`, jid: `${user}@${server.domain}` }
}

/**
 * The server's certificate in PEM, taken from its direct TLS port without question, as somebody would who installs
 * a self-signed one. Whoever trusts it afterwards checks signature and name as with any other: it must name the domain.
 */
export async function certificateOf(server: TestServer): Promise<string> {
  const socket = tlsConnect({
    host: server.host,
    port: server.tlsPort,
    servername: server.domain,
    ALPNProtocols: ['xmpp-client'], // XEP-0368 §5
    rejectUnauthorized: false,
  })
  try {
    await within(once(socket, 'secureConnect'), 'the TLS handshake on the direct TLS port', server.log)
    const certificate = socket.getPeerX509Certificate()
    if (certificate === undefined) throw new Error('the server showed no certificate')
    if (certificate.checkHost(server.domain) === undefined) {
      throw new Error(`the certificate is for ${certificate.subjectAltName ?? certificate.subject}, not for ${server.domain}`)
    }
    return certificate.toString()
  } finally {
    socket.destroy()
  }
}

/** Makes every TLS client of this thread trust the server's certificate: @xmpp/starttls takes no options of its own. */
export async function trustCertificateOf(server: TestServer): Promise<void> {
  setDefaultCACertificates([...getCACertificates('default'), await certificateOf(server)])
}
