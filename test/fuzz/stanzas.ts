// Stanzas that are XML and nothing else: to a whole server with all its modules, from sessions that are bound.
//
// Whatever is asked, each iq is answered once, nothing breaks, and the server comes to rest. Trees are changed, not bytes:
// what is no XML ends a stream, and is the scanner's matter.
import { join } from 'node:path'
import { findModules } from '#core/lifecycle.ts'
import { harness, type TestClient, type TestServer } from '#test/harness.ts'
import { parseJid } from '#xmpp/jid.ts'
import { type Element, el, type Stanza, type StanzaName } from '#xmpp/stanza.ts'
import { parseElement } from '#xmpp/xml.ts'
import type { Random } from './random.ts'
import { demand, type FuzzTarget } from './target.ts'

const MODULES = await findModules(join(import.meta.dirname, '../../services/modules'))

const PAYLOADS: readonly Element[] = [
  "<query xmlns='jabber:iq:roster' ver=''><item jid='a@example.org' name='n' subscription='remove'><group>g</group></item></query>",
  "<query xmlns='jabber:iq:private'><storage xmlns='storage:bookmarks'><conference jid='a@b'/></storage></query>",
  "<vCard xmlns='vcard-temp'><FN>n</FN><PHOTO><TYPE>image/png</TYPE><BINVAL>iVBORw0KGgo=</BINVAL></PHOTO></vCard>",
  "<block xmlns='urn:xmpp:blocking'><item jid='juliet@example.org'><report xmlns='urn:xmpp:reporting:1' reason='urn:xmpp:reporting:spam'/></item></block>",
  "<unblock xmlns='urn:xmpp:blocking'><item jid='a@b'/></unblock>",
  "<blocklist xmlns='urn:xmpp:blocking'/>",
  "<ping xmlns='urn:xmpp:ping'/>",
  "<time xmlns='urn:xmpp:time'/>",
  "<query xmlns='jabber:iq:last'/>",
  "<query xmlns='jabber:iq:version'/>",
  "<query xmlns='http://jabber.org/protocol/disco#info' node='n'/>",
  "<query xmlns='http://jabber.org/protocol/disco#items' node='http://jabber.org/protocol/commands'/>",
  "<query xmlns='jabber:iq:register'><username>u</username><password>p</password></query>",
  "<query xmlns='urn:xmpp:mam:2' queryid='q'><x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE' type='hidden'><value>urn:xmpp:mam:2</value></field><field var='with'><value>juliet@example.org</value></field><field var='start'><value>2026-01-01T00:00:00Z</value></field></x><set xmlns='http://jabber.org/protocol/rsm'><max>2</max><before/></set></query>",
  "<prefs xmlns='urn:xmpp:mam:2' default='roster'><always><jid>a@b</jid></always></prefs>",
  "<command xmlns='http://jabber.org/protocol/commands' node='http://jabber.org/protocol/admin#get-online-users-num' action='execute' sessionid='s'><x xmlns='jabber:x:data' type='submit'><field var='a'><value>1</value></field></x></command>",
  "<enable xmlns='urn:xmpp:carbons:2'/>",
  "<session xmlns='urn:ietf:params:xml:ns:xmpp-session'/>",
  "<c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='n' ver='v'/>",
  "<x xmlns='vcard-temp:x:update'><photo>0</photo></x>",
  "<body xmlns='jabber:client'>text</body>",
  "<priority xmlns='jabber:client'>5</priority>",
  "<show xmlns='jabber:client'>away</show>",
  "<error xmlns='jabber:client' type='cancel'><gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>",
  "<stanza-id xmlns='urn:xmpp:sid:0' by='juliet@example.org' id='i'/>",
  "<delay xmlns='urn:xmpp:delay' from='example.org' stamp='2026-01-01T00:00:00Z'/>",
  "<store xmlns='urn:xmpp:hints'/>",
  "<received xmlns='urn:xmpp:receipts' id='r'/>",
].map((xml) => parseElement(xml))

const TYPES: Readonly<Record<StanzaName, readonly string[]>> = {
  iq: ['get', 'get', 'set', 'set', 'set', 'result', 'error'],
  message: ['', 'chat', 'normal', 'headline', 'groupchat', 'error', 'x'],
  presence: ['', '', 'unavailable', 'subscribe', 'subscribed', 'unsubscribe', 'unsubscribed', 'probe', 'error', 'x'],
}
const ACCOUNTS = ['romeo@example.org', 'juliet@example.org', 'nurse@example.org']
const ELSEWHERE = [
  'example.org',
  'example.org/x',
  'nobody@example.org',
  'juliet@elsewhere.example',
  'juliet@example.org/gone',
  'juliet@example.net',
]
const NAMES = [
  'query',
  'item',
  'x',
  'field',
  'value',
  'set',
  'max',
  'after',
  'remove',
  'group',
  'jid',
  'body',
  'username',
  'password',
]
const ATTRIBUTES = [
  'jid',
  'name',
  'node',
  'id',
  'type',
  'var',
  'subscription',
  'action',
  'sessionid',
  'by',
  'stamp',
  'ver',
  'xml:lang',
]
/** XML 1.0 §2.2. */
const NO_CHARACTER = /[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\u{10000}-\u{10ffff}]/gu

function text(random: Random): string {
  const made = random.chance(4)
    ? random.text(random.chance(10) ? 3_000 : 40)
    : random.pick([...ACCOUNTS, ...ELSEWHERE, '', '1', '-1', 'true', '2026-01-01T00:00:00Z'])
  return made.replace(NO_CHARACTER, '')
}

function changed(element: Element, random: Random, depth = 0): Element {
  let { name, ns } = element
  let attrs: Record<string, string> = { ...element.attrs }
  let children = element.children.map((child) =>
    typeof child === 'string' || random.chance(2) ? child : changed(child, random, depth + 1),
  )
  switch (random.int(depth === 0 ? 20 : 24)) {
    case 0:
      attrs[random.pick(ATTRIBUTES)] = text(random)
      break
    case 1:
      attrs = {}
      break
    case 2:
      children = [...children, text(random)]
      break
    case 3:
      children = [...children, random.pick(PAYLOADS)]
      break
    case 4:
      children = children.slice(random.int(2))
      break
    case 5:
      children = Array<(typeof children)[number]>(random.chance(10) ? 200 : 2).fill(children[0] ?? el(random.pick(NAMES), ns))
      break
    case 6:
      name = random.pick(NAMES)
      break
    case 7:
      ns = random.chance(2) ? random.pick(PAYLOADS).ns : ns
      break
  }
  return { name, ns, attrs, children }
}

function textOf({ type, to, from, payload }: Stanza): string {
  return `<iq type='${type}' to='${to?.full}' from='${from.full}'>${Buffer.from(payload)}`
}

/** `limits.stanzaBytes` as it is without a word about it. */
const STANZA_BYTES_MAX = 262_144

class Fuzzed {
  #server!: TestServer
  #clients: TestClient[] = []
  /** What has been asked and is to be answered, by its id. */
  #asked = new Map<string, { readonly client: TestClient; readonly iq: Stanza }>()
  /** Accounts that may have blocked somebody since the last rest: his answers do not reach them any more (XEP-0191 §3.3). */
  readonly #blocking = new Set<string>()
  #number = 0

  async start(): Promise<void> {
    this.#server = await harness(MODULES, {
      config: { registration: 'open', limits: { registrationsPerHourPerAddress: 0 } },
    })
    this.#clients = []
    for (const [i, account] of [...ACCOUNTS, ...ACCOUNTS].entries())
      this.#clients.push(await this.#server.connect(`${account}/r${i}`))
    for (const client of this.#clients) client.available()
    await this.#server.quiet()
  }

  async one(random: Random): Promise<void> {
    const client = random.pick(this.#clients)
    if (client.closed !== undefined) return this.restart() // an account was removed, or has another password
    const name = random.pick(['iq', 'iq', 'iq', 'message', 'presence'] as const)
    const type = random.pick(TYPES[name])
    const to = random.pick([undefined, undefined, ...ACCOUNTS, ...ELSEWHERE, random.pick(this.#clients).jid.full])
    const id = `f${this.#number++}`
    const payloads = Array.from({ length: name === 'iq' ? 1 : random.int(4) }, () => changed(random.pick(PAYLOADS), random))
    const isFull = this.#clients.some(({ jid }) => jid.full === to)
    const head = { type, id, to: to === undefined ? undefined : parseJid(to), lang: random.pick(['', 'en']) }
    const said = client.stanza(name, head, ...payloads)
    if (said.payload.length > STANZA_BYTES_MAX) return // no edge takes it
    if (name === 'iq' && (type === 'get' || type === 'set') && !isFull) this.#asked.set(id, { client, iq: said })
    if (payloads.some(({ ns }) => ns === 'urn:xmpp:blocking')) this.#blocking.add(client.jid.bare)
    client.send(said)
    if (this.#number % 20 === 0) await this.#settle()
  }

  async #settle(): Promise<void> {
    await this.#server.quiet()
    const broken = this.#server.log.lines.filter(({ level }) => level === 'error')
    demand(broken.length === 0, () => JSON.stringify(broken[0]))
    for (const [id, { client, iq }] of this.#asked) {
      if (client.closed !== undefined || ((iq.to?.local ?? '') !== '' && this.#blocking.has(client.jid.bare))) continue
      const answers = client.received.filter(
        (came) => came.name === 'iq' && came.id === id && (came.type === 'result' || came.type === 'error'),
      )
      demand(answers.length === 1, () => `${answers.length} answers to ${textOf(iq)}`)
    }
    this.#asked.clear()
    this.#blocking.clear()
  }

  /** What is stored, and what clients keep of what they were sent, grows by itself. */
  async restart(): Promise<void> {
    await this.#settle()
    await this.#server.stop()
    await this.start()
  }

  async close(): Promise<void> {
    await this.#server.stop()
  }
}

export const STANZA_TARGETS: readonly FuzzTarget[] = [
  {
    name: 'stanzas',
    inputs: 5_000,
    async open() {
      const fuzzed = new Fuzzed()
      await fuzzed.start()
      return { one: (random) => fuzzed.one(random), check: () => fuzzed.restart(), close: () => fuzzed.close() }
    },
  },
]
demand(MODULES.length > 5, () => 'the modules are elsewhere')
