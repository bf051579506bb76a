// Attacks by peers that have not logged in.
import { connect } from 'node:net'
import { expect } from 'vitest'
import { HEADER, HOST, OPEN, type Peer, plain, stanzaError, TRANSPORTS } from './peer.ts'
import { type Attack, askToRegister, LOGIN_TIMEOUT_MS, REGISTRATIONS_PER_HOUR, type Target } from './target.ts'

const NS_SASL = 'urn:ietf:params:xml:ns:xmpp-sasl'
const SILENT = 2_000
/** Where passwords are guessed from: who does that is refused there, and nobody else is anywhere. */
const GUESSER = '127.0.0.2'
/** What is promised of a stream that has not logged in, and what Node's socket costs beside it. */
const SILENT_KB = 20
const SECURED = 500
/** TLS has its price: docs/limits.md. */
const SECURED_KB = 48

async function errorAfter(target: Target, said: string, isOpen = true): Promise<string> {
  const peer = await target.connect()
  if (isOpen) await peer.open()
  peer.send(said)
  return peer.streamError()
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}

/** A byte now and then, until the server has had enough. */
async function drip(peer: Peer, text: string): Promise<string> {
  for (let at = 0; !peer.gone && at < text.length; at++) {
    peer.send(text[at]!)
    await pause(100)
  }
  return peer.streamError()
}

/** Over each transport, in the header and in the stream. */
async function dripping(target: Target): Promise<void> {
  const errors: Promise<string>[] = []
  for (const transport of TRANSPORTS) {
    for (let i = 0; i < 10; i++) {
      const peer = await target.connect(transport)
      if (transport === 'websocket') {
        peer.send(OPEN)
        errors.push(peer.streamError())
        continue
      }
      const inStream = i < 5
      if (inStream) await peer.open()
      errors.push(drip(peer, inStream ? `<auth xmlns='${NS_SASL}' mechanism='PLAIN'>${'A'.repeat(1_000)}` : HEADER.repeat(10)))
    }
  }
  expect(new Set(await Promise.all(errors))).toEqual(new Set(['connection-timeout']))
}

/** Ended, though there is no way to say why. */
async function halfOpen(target: Target): Promise<void> {
  const ends: Promise<unknown>[] = []
  for (let i = 0; i < 50; i++) {
    const socket = connect(target.ports.tls, HOST)
    if (i % 2 === 0) socket.write(Buffer.from('16030100fa010000f60303', 'hex'))
    socket.on('error', () => {})
    ends.push(new Promise((resolve) => socket.once('close', resolve).resume()))
  }
  await Promise.all(ends)
}

/** RFC 6120 §5.4.3.3: what came before TLS is forgotten. */
async function clearText(target: Target): Promise<void> {
  const peer = await target.connect()
  await peer.open()
  peer.send(`<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>${HEADER}${plain('mercutio')}`)
  const said = await peer.end() // nothing of it is a TLS hello, which is waited for
  expect(said).toContain('<proceed')
  expect(said).not.toContain('<success')
}

/** To the port where TLS is from the first byte, of which there is none. */
async function silentBeforeTls(target: Target): Promise<void> {
  const ends: Promise<unknown>[] = []
  for (let i = 0; i < SILENT; i++) {
    const socket = connect(target.ports.tls, HOST)
    socket.on('error', () => {})
    ends.push(new Promise((resolve) => socket.once('close', resolve).resume()))
    if (i % 200 === 199) await pause(10)
  }
  await Promise.all(ends)
}

export const BEFORE_LOGIN: readonly Attack[] = [
  {
    name: 'headers that are none, too long, of another host or a header in a header',
    async run(target) {
      const header = (more: string) => HEADER.replace("to='localhost'", more)
      expect(await errorAfter(target, `<stream:stream ${' '.repeat(10_000)}`, false)).toBe('policy-violation')
      expect(await errorAfter(target, 'GET / HTTP/1.1\r\n\r\n', false)).toBe('not-well-formed')
      expect(await errorAfter(target, '\x16\x03\x01\x02\x00\x01', false)).toBe('not-well-formed') // a TLS hello
      expect(await errorAfter(target, header("to='elsewhere.example'"), false)).toBe('host-unknown')
      expect(await errorAfter(target, header(''), false)).toBe('improper-addressing')
      expect(await errorAfter(target, HEADER.replace('jabber:client', 'jabber:server'), false)).toBe('invalid-namespace')
      expect(await errorAfter(target, HEADER.repeat(100))).toBe('restricted-xml') // its declaration
      expect(await errorAfter(target, HEADER.replace(/<\?.*\?>/, '').repeat(100))).toBe('policy-violation')
    },
  },
  {
    name: 'a stanza over what is taken then, and one before its time',
    async run(target) {
      const over = `<iq type='get' id='x'><query xmlns='jabber:iq:register'>${'x'.repeat(10_000)}</query></iq>`
      expect(await errorAfter(target, over)).toBe('policy-violation')
      expect(await errorAfter(target, `<message to='mercutio@localhost'/>`)).toBe('not-authorized')
      expect(await errorAfter(target, `<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>`)).toBe(
        'not-authorized',
      )
    },
  },
  {
    name: 'peers in no hurry: 30 that drip, 50 TLS hellos that never end, and clear text behind <starttls/>',
    run: (target) => Promise.all([dripping(target), halfOpen(target), clearText(target)]),
  },
  {
    name: `${SILENT} connections that say nothing`,
    movesMb: (SILENT * SILENT_KB) / 1024,
    async run(target) {
      const peers: Peer[] = []
      for (let i = 0; i < SILENT; i += 200)
        peers.push(...(await Promise.all(Array.from({ length: 200 }, () => target.connect()))))
      const errors = await Promise.all(peers.map((peer) => peer.streamError(LOGIN_TIMEOUT_MS + 10_000)))
      expect(new Set(errors)).toEqual(new Set(['connection-timeout']))
    },
  },
  {
    name: `${SILENT} connections to the TLS port that say nothing`,
    movesMb: (SILENT * SILENT_KB) / 1024,
    run: silentBeforeTls,
  },
  {
    name: `${SECURED} that shake hands, open a stream, and say nothing more`,
    movesMb: (SECURED * SECURED_KB) / 1024,
    async run(target) {
      const peers: Peer[] = []
      for (let i = 0; i < SECURED; i += 50) {
        const more = await Promise.all(Array.from({ length: 50 }, () => target.connect('tls')))
        await Promise.all(more.map((peer) => peer.open()))
        peers.push(...more)
      }
      const errors = await Promise.all(peers.map((peer) => peer.streamError(LOGIN_TIMEOUT_MS + 10_000)))
      expect(new Set(errors)).toEqual(new Set(['connection-timeout']))
    },
  },
  {
    name: 'SASL that is none',
    async run(target) {
      const peer = await target.connect('tcp', GUESSER)
      await peer.open()
      peer.send(`<auth xmlns='${NS_SASL}' mechanism='PLAIN'>not base64!</auth>`)
      expect(await peer.until('</failure>')).toContain('<incorrect-encoding')
      peer.send(`<auth xmlns='${NS_SASL}' mechanism='NONE'/>`)
      expect(await peer.until('</failure>')).toContain('<invalid-mechanism')
      peer.send(`<response xmlns='${NS_SASL}'>AA==</response>`)
      expect(await peer.until('</failure>')).toContain('<malformed-request')
      const foreign = Buffer.from('tybalt@localhost\0mercutio\0a secret of nobody').toString('base64')
      peer.send(`<auth xmlns='${NS_SASL}' mechanism='PLAIN'>${foreign}</auth>`)
      expect(await peer.until('</failure>')).toContain('<invalid-authzid')
    },
  },
  {
    name: '200 connections with wrong passwords, five each',
    async run(target) {
      const guess = async (i: number): Promise<string> => {
        const peer = await target.connect('tcp', GUESSER)
        await peer.open()
        for (let tries = 0; tries < 5 && !peer.gone; tries++) {
          peer.send(plain(i % 2 === 0 ? 'mercutio' : `nobody-${i}`, `guess ${tries}`))
          await peer.see((text) => peer.gone || text.split('<failure').length > tries + 1, 'a failure').catch(() => {})
        }
        return peer.end()
      }
      for (let i = 0; i < 200; i += 50) {
        for (const said of await Promise.all(Array.from({ length: 50 }, (_, n) => guess(i + n)))) {
          expect(said).toMatch(/<failure [^>]*><(?:not-authorized|temporary-auth-failure)/)
          expect(said).not.toContain('<success')
          expect(said).toContain('policy-violation')
        }
      }
    },
  },
  {
    name: '100 connections that begin SCRAM and never end it',
    async run(target) {
      const first = (i: number) => Buffer.from(`n,,n=nobody-${i},r=${'r'.repeat(200)}${i}`).toString('base64')
      const begin = async (i: number): Promise<string> => {
        const peer = await target.connect('tcp', GUESSER)
        await peer.open()
        for (let tries = 0; tries < 5 && !peer.gone; tries++) {
          peer.send(`<auth xmlns='${NS_SASL}' mechanism='SCRAM-SHA-256'>${first(i)}</auth>`)
          await peer
            .see((text) => peer.gone || text.includes('<challenge') || text.includes('<failure'), 'a challenge')
            .catch(() => {})
          peer.send(`<abort xmlns='${NS_SASL}'/>`)
        }
        return peer.end()
      }
      const said = await Promise.all(Array.from({ length: 100 }, (_, i) => begin(i)))
      for (const text of said) expect(text).toContain('policy-violation')
    },
  },
  {
    name: 'names that look like others, or like paths',
    async run(target) {
      const peer = await target.connect()
      await peer.open()
      for (const name of ['..', 'mercut\u0456o', 'b\u0456ll', 'a/b', '~root']) {
        const answer = await askToRegister(peer, name)
        expect([name, stanzaError(answer)]).toEqual([name, 'modify not-acceptable'])
      }
    },
  },
  {
    name: 'more registrations than an hour has',
    async run(target) {
      let [made, refused] = [0, 0]
      for (let i = 0; i < REGISTRATIONS_PER_HOUR + 5; i++) {
        const peer = await target.connect()
        await peer.open()
        const answer = await askToRegister(peer, `flood-${i}`)
        if (answer.includes("type='result'")) made++
        else {
          expect(stanzaError(answer)).toBe('wait resource-constraint')
          refused++
        }
        peer.destroy()
      }
      expect(made).toBeGreaterThan(REGISTRATIONS_PER_HOUR / 3) // the suite's own accounts are among those of the hour
      expect(made).toBeLessThan(REGISTRATIONS_PER_HOUR)
      expect([made + refused, refused >= 5]).toEqual([REGISTRATIONS_PER_HOUR + 5, true])
    },
  },
]
