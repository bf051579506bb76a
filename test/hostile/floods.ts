// Attacks by users who have logged in: more than they should send, store, bind, or be sent.
import { expect } from 'vitest'
import { type Peer, stanzaError, TRANSPORTS } from './peer.ts'
import { type Attack, SESSIONS_PER_ACCOUNT, type Target } from './target.ts'

const NS_ROSTER = 'jabber:iq:roster'
const PING = "<ping xmlns='urn:xmpp:ping'/>"
/** Forty-one peers: what the one does not read, and what the others may have on its way. */
const DEAF_MB = 45
/** And what waits for the disk. */
const ARCHIVED_MB = 80
const LARGE_MESSAGES = 30
const many = (count: number, make: (i: number) => string): string[] => Array.from({ length: count }, (_, i) => make(i))

/** Everything said before it has been handled. */
async function handled(peer: Peer): Promise<void> {
  expect(await peer.ask('get', PING)).toContain("type='result'")
}

/** How often a text came, of what was not taken yet. */
function count(peer: Peer, text: string): number {
  return peer.text.split(text).length - 1
}

/** XEP-0313 §4.3: as much as there may be behind that message. */
function pageBehind(id: string): string {
  const after = id === '' ? '' : `<after>${id}</after>`
  return `<query xmlns='urn:xmpp:mam:2'><set xmlns='http://jabber.org/protocol/rsm'><max>1000</max>${after}</set></query>`
}

/** Sends the same again and again until so many bytes have gone, as fast as the server takes them. */
async function pour(peer: Peer, stanza: string, bytes: number): Promise<void> {
  const framed = peer.framed(stanza)
  for (let sent = 0; sent < bytes && !peer.gone; sent += framed.length) await peer.sendAndWait(framed)
}

export const FLOODS: readonly Attack[] = [
  {
    name: '6000 pings at once, over each transport: faster than a session is read',
    async run(target) {
      const floods = TRANSPORTS.map(async (transport) => {
        const peer = await target.online('tybalt', transport)
        peer.sayAll(many(6_000, (i) => `<iq type='get' id='p${i}'>${PING}</iq>`))
        await peer.see(() => count(peer, "id='p5999'") === 1, 'the last answer')
        expect([transport, count(peer, "type='result'")]).toEqual([transport, 6_000])
      })
      await Promise.all(floods)
    },
  },
  {
    name: '4000 changes of presence, seen by four resources',
    async run(target) {
      const watchers = await Promise.all(many(4, (i) => `w${i}`).map((resource) => target.online('paris', 'tcp', resource)))
      for (const peer of watchers) peer.say('<presence/>')
      await Promise.all(watchers.map(handled))
      const peer = await target.online('paris', 'tcp', 'flood')
      peer.sayAll(many(4_000, (i) => `<presence><status>${i}</status></presence>`))
      await handled(peer)
      for (const watcher of watchers) await watcher.see((text) => text.includes('<status>3999</status>'), 'the last of them')
    },
  },
  {
    name: 'a roster set after the other, up to what a roster may be',
    async run(target) {
      const peer = await target.online('benvolio')
      const name = 'n'.repeat(1_000)
      const set = (i: number) =>
        `<iq type='set' id='r${i}'><query xmlns='${NS_ROSTER}'><item jid='c${i}@localhost' name='${name}'/></query></iq>`
      peer.sayAll(many(700, set))
      await peer.see(() => /id='r699'/.test(peer.text), 'the last answer')
      const refused = peer.text.match(/<error .*?<\/error>/gs) ?? []
      expect(refused.length).toBeGreaterThan(50)
      expect(new Set(refused.map(stanzaError))).toEqual(new Set(['wait resource-constraint']))
      const roster = await peer.ask('get', `<query xmlns='${NS_ROSTER}'/>`)
      expect(roster.length).toBeLessThan(700_000)
    },
  },
  {
    name: 'roster items that are too much for one',
    async run(target) {
      const peer = await target.online('gregory')
      const set = (item: string): Promise<string> => peer.ask('set', `<query xmlns='${NS_ROSTER}'>${item}</query>`)
      const groups = many(33, (i) => `<group>g${i}</group>`).join('')
      const of = async (item: string): Promise<string> => stanzaError(await set(item))
      expect(await of(`<item jid='a@localhost' name='${'n'.repeat(1_024)}'/>`)).toBe('modify not-acceptable')
      expect(await of(`<item jid='a@localhost'><group>${'g'.repeat(1_024)}</group></item>`)).toBe('modify not-acceptable')
      expect(await of(`<item jid='a@localhost'>${groups}</item>`)).toBe('modify not-acceptable')
      expect(await of(`<item jid='a@localhost'><group>a</group><group>a</group></item>`)).toBe('modify bad-request')
      expect(await of(`<item jid='a@localhost'/><item jid='b@localhost'/>`)).toBe('modify bad-request')
      expect(await of(`<item jid='${'a'.repeat(1_024)}@localhost'/>`)).toBe('modify jid-malformed')
    },
  },
  {
    name: '3000 subscriptions to whoever there might be',
    async run(target) {
      const peer = await target.online('sampson')
      const longName = 'n'.repeat(180)
      peer.sayAll(many(3_000, (i) => `<presence type='subscribe' to='${longName}${i}@localhost' id='s${i}'/>`))
      await handled(peer)
      const roster = await peer.ask('get', `<query xmlns='${NS_ROSTER}'/>`)
      expect(roster.length).toBeLessThan(700_000)
      expect(count(peer, 'resource-constraint')).toBeGreaterThan(100)
    },
  },
  {
    name: 'vCards and private data over what may be stored',
    async run(target) {
      const peer = await target.online('abram')
      const store = async (payload: string): Promise<string> => stanzaError(await peer.ask('set', payload))
      const secret = (ns: string, length: number): string =>
        `<query xmlns='jabber:iq:private'><x xmlns='urn:${ns}'>${'x'.repeat(length)}</x></query>`
      expect(await store(`<vCard xmlns='vcard-temp'><DESC>${'x'.repeat(70_000)}</DESC></vCard>`)).toBe('modify not-acceptable')
      expect(await store(secret('big', 70_000))).toBe('modify not-acceptable')
      const answers: string[] = []
      for (let i = 0; i < 6; i++) answers.push(await store(secret(`n${i}`, 60_000)))
      expect(answers).toEqual([...Array(4).fill('none'), ...Array(2).fill('modify resource-constraint')])
      for (let i = 0; i < 4; i++)
        expect(await store(`<query xmlns='jabber:iq:private'><x xmlns='urn:n${i}'/></query>`)).toBe('none')
      const small = many(120, (i) => `<iq type='set' id='n${i}'>${secret(`small${i}`, 10)}</iq>`)
      peer.take()
      peer.sayAll(small)
      await peer.see(() => /id='n119'/.test(peer.text), 'the last answer')
      expect(count(peer, 'resource-constraint')).toBe(20)
    },
  },
  {
    name: 'messages for somebody who is away: more than is handed over when he comes',
    async run(target) {
      const peer = await target.online('tybalt')
      const stanza = (i: number) =>
        `<message to='peter@localhost' type='chat' id='o${i}'><body>${'x'.repeat(20_000)}</body></message>`
      peer.sayAll(many(150, stanza))
      await handled(peer)
      const refused = count(peer, 'service-unavailable') // or it is in the archive all the same
      const peter = await target.online('peter')
      peter.say('<presence/>')
      await handled(peter)
      const kept = count(peter, '</message>')
      expect(kept).toBeGreaterThan(20)
      expect(kept).toBeLessThan(150)
      expect(refused === 0 || refused === 150 - kept, `${refused} refused and ${kept} kept`).toBe(true)
    },
  },
  {
    name: 'more resources than an account may have, and one taken a hundred times',
    async run(target) {
      const bound: Peer[] = []
      for (let i = 0; i < SESSIONS_PER_ACCOUNT; i++) bound.push(await target.online('gregory', 'tcp', `r${i}`))
      const one = await target.connect()
      await one.open()
      one.send(
        `<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>${Buffer.from('\0gregory\0a secret of nobody').toString('base64')}</auth>`,
      )
      await one.until('<success')
      await one.open()
      expect(stanzaError(await one.bind('more'))).toBe('wait resource-constraint')
      expect(await one.bind('r0')).toContain("type='result'") // the newer one wins, RFC 6120 §7.7.2.2
      expect(await bound[0]!.streamError()).toBe('conflict')
      let last = one
      for (let i = 0; i < 100; i++) {
        const next = await target.online('gregory', 'tcp', 'r0')
        expect(await last.streamError()).toBe('conflict')
        last = next
      }
    },
  },
  {
    name: 'large iq results nobody asked for, and errors of errors',
    async run(target) {
      const peer = await target.online('tybalt')
      const large = `<iq type='result' id='x' to='mercutio@localhost'><x xmlns='urn:x'>${'x'.repeat(200_000)}</x></iq>`
      await pour(peer, large, 3_000_000)
      peer.sayAll(
        many(500, (i) => `<message type='error' id='e${i}' to='nobody-${i}@localhost'><error type='cancel'/></message>`),
      )
      await handled(peer)
      expect(count(peer, "type='error'")).toBe(0) // RFC 6120 §8.3.1: an error is never answered
    },
  },
  {
    name: 'a client that talks to itself, 2000 messages to its bare and full address',
    async run(target) {
      const peer = await target.online('paris', 'tcp', 'mirror')
      peer.say('<presence/>')
      peer.sayAll(
        many(
          2_000,
          (i) => `<message type='chat' id='m${i}' to='${i % 2 ? peer.jid : 'paris@localhost'}'><body>${i}</body></message>`,
        ),
      )
      await peer.see(() => count(peer, '<body>1999</body>') > 0, 'the last of them')
      expect(peer.gone).toBe(false)
    },
  },
  {
    name: 'one message for 10 000 addresses',
    async run(target) {
      const peer = await target.online('tybalt')
      const mercutio = await target.online('mercutio', 'tcp', 'addressed')
      const addresses = many(10_000, () => `<address type='to' jid='${mercutio.jid}'/>`)
        .join('')
        .slice(0)
      const xml = `<message to='${mercutio.jid}'><addresses xmlns='http://jabber.org/protocol/address'>${addresses.slice(0, 240_000).replace(/<[^>]*$/, '')}</addresses><body>once</body></message>`
      peer.say(xml)
      await handled(peer)
      await mercutio.see(() => count(mercutio, '<body>once</body>') === 1, 'one copy')
      await handled(mercutio)
      expect(count(mercutio, '<body>once</body>')).toBe(1)
    },
  },
  {
    name: '60 MB of an archive of large messages, page by page',
    async run(target) {
      const peer = await target.online('gregory')
      const stanza = `<message to='tybalt@localhost' type='chat'><body>${'x'.repeat(100_000)}</body></message>`
      await pour(peer, stanza, LARGE_MESSAGES * stanza.length)
      await handled(peer)
      const before = peer.length
      let pages = 0
      for (let after = ''; peer.length - before < 60_000_000; pages++) {
        const answer = await peer.ask('set', pageBehind(after))
        after = answer.includes("complete='true'") ? '' : (/<last>([^<]*)</.exec(answer)?.[1] ?? '')
        const results = count(peer, '<result ')
        expect([1, 2]).toContain(results) // XEP-0059 §2.1: as many as we like
        peer.take()
      }
      expect(pages).toBeGreaterThan(LARGE_MESSAGES)
    },
  },
  {
    name: '80 MB for a client that reads nothing, by forty senders',
    movesMb: DEAF_MB,
    async run(target) {
      await flooded(target, 'tcp', 'headline', 2_000_000)
    },
  },
  {
    name: '80 MB for a browser that reads nothing, by forty senders',
    movesMb: DEAF_MB,
    async run(target) {
      await flooded(target, 'websocket', 'headline', 2_000_000)
    },
  },
  {
    name: '20 MB for a client that reads nothing, by forty senders, into two archives',
    movesMb: ARCHIVED_MB,
    async run(target) {
      await flooded(target, 'tcp', 'chat', 500_000)
    },
  },
]

async function flooded(target: Target, transport: 'tcp' | 'websocket', type: string, bytesEach: number): Promise<void> {
  const deaf = await target.online('paris', transport, 'deaf')
  deaf.pause()
  const senders: Peer[] = []
  for (const account of ['tybalt', 'sampson', 'benvolio', 'abram'])
    for (let i = 0; i < 10; i++) senders.push(await target.online(account, 'tcp', `s${i}`))
  const stanza = `<message to='${deaf.jid}' type='${type}'><body>${'x'.repeat(100_000)}</body></message>`
  await Promise.all(senders.map((sender) => pour(sender, stanza, bytesEach)))
  await Promise.all(senders.map(handled))
  expect(target.logged('stream.slow_reader'), target.log()).toBeGreaterThan(0)
}
