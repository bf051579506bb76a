// @xmpp/client (xmpp.js) as a test uses it: logged in, every stanza in a mailbox.
import { type Client, client, type Element, xml } from '@xmpp/client'
import { Mailbox, within } from '#test/support/mailbox.ts'
import type { Account } from './accounts.ts'
import type { TestServer } from './server.ts'

const NS_SM = 'urn:xmpp:sm:3'

export type Via = 'tcp' | 'tls' | 'websocket'

export interface XmppJs {
  /** user@domain/resource, as the server bound it. */
  readonly jid: string
  /** Messages, presence and pushes; answers to `iq` are not among them. */
  readonly stanzas: Mailbox<Element>
  /** The SASL mechanism that the library chose. */
  readonly mechanism: string
  /** The socket is a TLS socket (or, on loopback, a WebSocket). */
  readonly secure: boolean
  send(stanza: Element): Promise<void>
  /** Rejects with xmpp.js's StanzaError, whose `condition` is the server's. */
  iq(type: 'get' | 'set', to: string | undefined, payload: Element): Promise<Element>
  /** Its connection breaks, without a word. */
  cut(): void
  /**
   * Connects again, there if that is said. Resolves when it goes on with the session it had (XEP-0198); rejects where it is given
   * a new one.
   */
  resume(at?: TestServer): Promise<void>
  /** Says goodbye and closes; twice is once. */
  stop(): Promise<void>
}

/**
 * COMPAT @xmpp/iq 0.14: it sends the iq, waits for the socket to take it, and looks at the promise of the answer only then.
 * A refusal that is back before that is a rejection nobody handles, for a moment, and would fail the run.
 */
function expectRefusals({ iqCaller }: Client): void {
  const { handlers } = iqCaller
  const set = handlers.set.bind(handlers)
  handlers.set = (id, deferred) => {
    deferred.promise.catch(() => {})
    return set(id, deferred)
  }
}

/** Logs in and binds; sends no presence. Rejects with SASLError and the like. */
export async function connectXmppJs(server: TestServer, account: Account, via: Via, resource?: string): Promise<XmppJs> {
  const entity = client({
    service: serviceOf(server, via),
    domain: server.domain,
    username: account.user,
    password: account.password,
    resource,
    timeout: 8_000,
  })
  entity.reconnect.stop() // a lost connection is a failed test, not something to mend
  entity.setMaxListeners(0)
  const owner = `${account.user} (@xmpp/client, ${via})`
  const stanzas = new Mailbox<Element>(owner, server.log)
  const mechanism = rememberMechanism(entity)
  const counting = repairStreamManagement(entity)
  expectRefusals(entity)
  // xmpp.js answers an iq it does not know with service-unavailable; a roster push (RFC 6121 §2.1.6) wants a result.
  entity.iqCallee.set('jabber:iq:roster', 'query', () => true)
  entity.on('stanza', (stanza) => {
    if (stanza.name !== 'iq' || stanza.attrs.type === 'set' || stanza.attrs.type === 'get') stanzas.put(stanza)
  })
  entity.on('error', (error: Error) => stanzas.close(`${error.name}: ${error.message}`))

  try {
    // COMPAT @xmpp/connection 0.14: it waits for the server's header only once its own is written, and misses one that is faster.
    const online = new Promise((resolve) => entity.once('online', resolve))
    await within(Promise.race([entity.start(), online]), `${owner} to be online`, server.log)
    await within(counting(), `stream management for ${owner}`, server.log)
  } catch (error) {
    await entity.stop().catch(() => {}) // it may not have come as far as a stream
    throw error
  }
  let stopped: Promise<unknown> | undefined
  return {
    jid: String(entity.jid),
    stanzas,
    get mechanism() {
      return mechanism()
    },
    secure: entity.isSecure(),
    send: (stanza) => entity.send(stanza),
    iq: (type, to, payload) =>
      within(entity.iqCaller.request(xml('iq', { type, to }, payload)), `${owner} to be answered ${payload}`, server.log),
    cut: () => cutOff(entity),
    resume: (at = server) => {
      ;(entity as unknown as { options: { service: string } }).options.service = serviceOf(at, via) // not in its types
      return within(resumption(entity), `${owner} to be resumed`, server.log)
    },
    stop: async () => {
      stopped ??= within(entity.stop(), `the stream of ${owner} to close`, server.log)
      await stopped
    },
  }
}

function cutOff(entity: Client): void {
  // A socket inside a wrapper; over STARTTLS inside two. A WebSocket of Node cannot be cut.
  let socket = entity.socket as { destroy?(): void; socket?: object } | undefined
  while (socket !== undefined && socket.destroy === undefined) socket = socket.socket
  if (socket === undefined) throw new Error('there is no connection that can be cut')
  socket.destroy!()
}

async function resumption(entity: Client): Promise<void> {
  while (entity.status !== 'disconnect') await new Promise((resolve) => setTimeout(resolve, 5))
  await new Promise<void>((resolve, reject) => {
    entity.streamManagement.on('resumed', resolve)
    entity.streamManagement.on('fail', () => reject(new Error('not resumed')))
    entity.on('error', reject)
    entity.reconnect.reconnect().catch(reject) // whose end is not waited for, as with `start`
  })
}

/** A chat message (RFC 6121 §5.2.2). */
export function chat(to: string, body: string): Element {
  return xml('message', { to, type: 'chat', id: crypto.randomUUID() }, xml('body', {}, body))
}

export function available(show?: string, status?: string): Element {
  return xml(
    'presence',
    {},
    show === undefined ? [] : xml('show', {}, show),
    status === undefined ? [] : xml('status', {}, status),
  )
}

/** A step of the subscription handshake (RFC 6121 §3). */
export function subscription(to: string, type: 'subscribe' | 'subscribed' | 'unsubscribe' | 'unsubscribed'): Element {
  return xml('presence', { to, type })
}

export function rosterQuery(): Element {
  return xml('query', { xmlns: 'jabber:iq:roster' })
}

export function saying(body: string): (stanza: Element) => boolean {
  return (stanza) => stanza.is('message') && stanza.getChildText('body') === body
}

/** Presence of a type ('' for available) from a bare JID, or from exactly one full JID. */
export function presenceOf(from: string, type = ''): (stanza: Element) => boolean {
  return (stanza) => {
    if (!stanza.is('presence') || (stanza.attrs.type ?? '') !== type) return false
    return stanza.attrs.from === from || stanza.attrs.from?.split('/')[0] === from
  }
}

/**
 * The whole handshake of RFC 6121 §3.1, both ways: each asks, each approves. Both sides must have logged in, asked for
 * their roster and sent presence. Returns when each has been told `subscribed`.
 */
export async function befriend(one: XmppJs, other: XmppJs): Promise<void> {
  for (const [asking, asked] of [
    [one, other],
    [other, one],
  ] as const) {
    await asking.send(subscription(bareOf(asked), 'subscribe'))
    await asked.stanzas.next(`a subscription request of ${bareOf(asking)}`, presenceOf(bareOf(asking), 'subscribe'))
    await asked.send(subscription(bareOf(asking), 'subscribed'))
    await asking.stanzas.next(`the approval of ${bareOf(asked)}`, presenceOf(bareOf(asked), 'subscribed'))
  }
}

export function bareOf({ jid }: { readonly jid: string }): string {
  return jid.split('/')[0]!
}

function serviceOf(server: TestServer, via: Via): string {
  if (via === 'websocket') return server.websocketUrl
  // The certificate names the domain, and the library checks it against the host in this address.
  return via === 'tls' ? `xmpps://${server.domain}:${server.tlsPort}` : `xmpp://${server.host}:${server.port}`
}

/** What the client sends in SASL (RFC 6120 §6.4.2) or SASL2 (XEP-0388 §2.2). */
function rememberMechanism(entity: Client): () => string {
  let mechanism = ''
  entity.on('send', (element: Element) => {
    if (element.is('auth') || element.is('authenticate')) mechanism = element.attrs.mechanism ?? ''
  })
  return () => mechanism
}

/**
 * COMPAT: @xmpp/client 0.14 counts too few stanzas (XEP-0198 §4) in two ways, and a server then rightly takes the last
 * messages for undelivered when the client leaves, and delivers them again. Its iq caller keeps answers from the counter,
 * so they are added here; and it is online before `<enabled/>` has come and sets the count to zero a turn after,
 * so nothing is sent before that: the promise is when it counts.
 */
function repairStreamManagement(entity: Client): () => Promise<void> {
  let offered = false
  let settle = () => {}
  const settled = new Promise<void>((resolve) => {
    settle = resolve
  })
  entity.on('nonza', (element: Element) => {
    if (element.name === 'stream:features') offered = element.getChild('sm', NS_SM) !== undefined
    if (element.is('enabled', NS_SM) || element.is('failed', NS_SM)) setImmediate(settle) // after the library's own turn
  })
  entity.on('stanza', ({ name, attrs }: Element) => {
    const counter = entity.streamManagement
    if (counter.enabled && name === 'iq' && (attrs.type === 'result' || attrs.type === 'error')) counter.inbound++
  })
  return async () => {
    if (offered && !entity.streamManagement.enabled) await settled
  }
}
