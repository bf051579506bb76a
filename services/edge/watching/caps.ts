// XEP-0115: what the clients here are capable of, as far as it says which events they want (XEP-0163 §4.2: `<node>+notify`).
//
// A client's presence has the hash of its features. Whoever comes first with a hash is asked for them (XEP-0030), by the edge
// and at most one at a time; where the answer has that hash it holds for everybody who comes with it, else for that session
// alone, and the next one is asked. What holds for everybody follows from the hash and from nothing else, whoever has answered
// (xmpp/caps.ts). Hashes that are known are kept for the process, not for the session.
import { capsParts, hashOfParts, isKnownHash, NS_CAPS } from '#xmpp/caps.ts'
import { Children } from '#xmpp/children.ts'
import { randomId } from '#xmpp/id.ts'
import { type Jid, parseJid } from '#xmpp/jid.ts'
import { NS_DISCO_INFO } from '#xmpp/ns.ts'
import type { ScannedElement } from '#xmpp/scan.ts'
import { childOf, el, type Stanza, stanza } from '#xmpp/stanza.ts'
import { asBuffer } from '#xmpp/xml.ts'
import type { Timed, Wheel } from '../sessions/wheel.ts'
import { isAnswerToServer } from '../streams/stanza-rules.ts'

/** The events that a client wants. */
export interface Notifies {
  /** As they are announced: `urn:xmpp:avatar:metadata+notify`. */
  readonly features: ReadonlySet<string>
  /** The same without `+notify`. */
  readonly nodes: readonly string[]
  /** Characters of them. */
  readonly length: number
}

/** What is needed of a session. */
export interface Capable {
  readonly jid: Jid
  deliver(stanza: Stanza, to: 'kept'): void
}

const SUFFIX = '+notify'
/** Of what one client may want; what is beyond is passed over. */
const NODES_MAX = 100
const NODES_LENGTH_MAX = 8 * 1024
/** Of all hashes that are known, in characters, and the cost of each; those used longest ago are forgotten, and asked for again. */
const KNOWN_LENGTH_MAX = 2 * 1024 * 1024
const KNOWN_COST = 256
/** Of `node`, `ver` and `hash`: longer ones are taken for none. */
const ATTRIBUTE_LENGTH_MAX = 512
/** Of the element that has them, as it is kept. */
const ELEMENT_BYTES_MAX = 2 * ATTRIBUTE_LENGTH_MAX
/** Of an answer: one that is longer is passed over unread. */
const ANSWER_BYTES_MAX = 32 * 1024
/** How long others with the same hash wait for an answer, before one of them is asked. */
const ANSWER_MS_MAX = 30_000

/** The capabilities of one session's client. */
export class Client {
  readonly session: Capable
  /** Of its last presence that had any. */
  node = ''
  ver = ''
  hash = ''
  /** The element that said so: one look tells that a presence has the same; undefined where it is too long to be kept. */
  element: Buffer | undefined
  /** Undefined where they are not known. */
  notifies: Notifies | undefined
  /** What it was asked, and has not answered. */
  question: Question | undefined

  constructor(session: Capable) {
    this.session = session
  }

  /** What others with the same capabilities have, too; '' where that cannot be checked. */
  get key(): string {
    return isKnownHash(this.hash) ? `${this.hash} ${this.ver}` : ''
  }
}

/** Asked of one client, for all who wait for the answer. */
class Question implements Timed {
  dueS = 0
  readonly id = randomId()
  readonly key: string
  readonly node: string
  readonly ver: string
  readonly hash: string
  readonly asked: Client
  readonly #due: (question: Question) => void

  constructor(asked: Client, due: (question: Question) => void) {
    this.asked = asked
    this.key = asked.key
    this.node = asked.node
    this.ver = asked.ver
    this.hash = asked.hash
    this.#due = due
  }

  /** Its client still says that it has these capabilities. */
  isOf({ node, ver, hash }: Client): boolean {
    return ver === this.ver && node === this.node && hash === this.hash
  }

  due(): void {
    this.#due(this)
  }
}

export class Capabilities<S extends Capable> {
  /** A client turns out to want events of these nodes, which it was not known to want before. */
  onLearned: (session: S, nodes: readonly string[]) => void = () => {}
  readonly #wheel: Wheel
  /** By `Client.key`, those used last at the end. */
  readonly #known = new Map<string, Notifies>()
  #knownLength = 0
  /** Those who wait for the answer to a question, by its key; with who was asked, while he may be waited for. */
  readonly #waiting = new Map<string, Set<Client>>()
  readonly #onDue = (question: Question) => this.#late(question)

  constructor(wheel: Wheel) {
    this.#wheel = wheel
  }

  /**
   * A presence that a client sends: what is known of it then, as it was or new. Only what it broadcasts counts, and one without
   * capabilities says nothing new (§8.4).
   */
  note(session: S, { to, type, payload }: Stanza, before: Client | undefined): Client | undefined {
    if (to !== undefined || type !== '' || payload.length === 0) return before
    const bytes = asBuffer(payload)
    if (before?.element === undefined ? !bytes.includes(NEEDLE) : bytes.includes(before.element)) return before
    if (!seek(bytes)) return before
    const element = CHILDREN.end - CHILDREN.start > ELEMENT_BYTES_MAX ? undefined : bytes.subarray(CHILDREN.start, CHILDREN.end)
    const ver = CHILDREN.attribute(bytes, 'ver')
    const node = CHILDREN.attribute(bytes, 'node')
    const hash = CHILDREN.attribute(bytes, 'hash')
    if (before !== undefined && before.ver === ver && before.node === node && before.hash === hash) return before
    if (ver === '' || Math.max(ver.length, node.length, hash.length) > ATTRIBUTE_LENGTH_MAX) return before
    const client = before ?? new Client(session)
    if (before !== undefined) this.#waiting.get(before.key)?.delete(before)
    client.ver = ver
    client.node = node
    client.hash = hash
    client.element = element === undefined ? undefined : Buffer.from(element)
    this.#find(client)
    return client
  }

  /** Whether this is the answer to what we have asked. Then nobody else is to see it. */
  takes(client: Client, element: ScannedElement): boolean {
    const { question } = client
    if (question === undefined || element.id !== question.id || !isAnswerToServer(element)) return false
    const parts = element.type === 'result' ? partsOf(element) : undefined
    const notifies = notifiesOf(parts ?? [])
    const waits = this.#close(client)
    if (parts !== undefined && isProven(parts, question)) this.#tell(question, notifies)
    else if (waits) this.#next(question)
    if (question.isOf(client)) this.#learn(client, notifies)
    else this.#find(client)
    return true
  }

  /** Its session has ended. */
  leave(client: Client): void {
    this.#waiting.get(client.key)?.delete(client)
    const { question } = client
    if (question !== undefined && this.#close(client)) this.#next(question)
  }

  /** It is not to answer any more. Whether others waited for that. */
  #close(client: Client): boolean {
    const question = client.question!
    const waits = question.dueS !== 0
    client.question = undefined
    this.#wheel.remove(question)
    return waits
  }

  /** It may still answer, and then that holds. */
  #late(question: Question): void {
    this.#next(question)
    if (!question.isOf(question.asked)) this.#find(question.asked)
  }

  /** What it wants is known, or asked for. */
  #find(client: Client): void {
    const { key } = client
    const known = this.#known.get(key)
    if (known !== undefined) {
      this.#known.delete(key) // and in again, behind all others
      this.#known.set(key, known)
      return this.#learn(client, known)
    }
    const waiting = this.#waiting.get(key)
    if (waiting !== undefined) waiting.add(client)
    else if (client.question === undefined) this.#ask(client, new Set())
    else if (client.question.dueS === 0) {
      client.question = undefined // it has not answered that in time
      this.#ask(client, new Set())
    }
  }

  #ask(client: Client, waiting: Set<Client>): void {
    const question = new Question(client, this.#onDue)
    const { id, key, node, ver } = question
    const { jid } = client.session
    client.question = question
    if (key !== '') this.#waiting.set(key, waiting.add(client))
    this.#wheel.add(question, ANSWER_MS_MAX)
    const query = el('query', NS_DISCO_INFO, { node: `${node}#${ver}` }) // §6.2
    client.session.deliver(stanza('iq', parseJid(jid.domain), { to: jid, id, type: 'get' }, query), 'kept')
  }

  /** There is no answer that holds for those who wait: one of them is asked. */
  #next({ key, asked }: Question): void {
    const waiting = this.#waiting.get(key)
    this.#waiting.delete(key)
    waiting?.delete(asked)
    for (const client of waiting ?? []) {
      waiting!.delete(client)
      if (client.question === undefined) return this.#ask(client, waiting!)
    }
  }

  /** It holds for everybody who comes with it. */
  #tell({ key }: Question, notifies: Notifies): void {
    this.#keep(key, notifies)
    const waiting = this.#waiting.get(key)
    this.#waiting.delete(key)
    for (const client of waiting ?? []) this.#learn(client, notifies)
  }

  #keep(key: string, notifies: Notifies): void {
    if (this.#known.has(key)) return
    this.#known.set(key, notifies)
    this.#knownLength += key.length + notifies.length + KNOWN_COST
    for (const [oldest, { length }] of this.#known) {
      if (this.#knownLength <= KNOWN_LENGTH_MAX) return
      this.#known.delete(oldest)
      this.#knownLength -= oldest.length + length + KNOWN_COST
    }
  }

  #learn(client: Client, notifies: Notifies): void {
    const before = client.notifies
    client.notifies = notifies
    const more = before === undefined ? notifies.nodes : notifies.nodes.filter((node) => !before.features.has(node + SUFFIX))
    if (more.length > 0) this.onLearned(client.session as S, more)
  }
}

const CHILDREN = new Children()
const C = `{${NS_CAPS}}c`
/** Without it there are none: most presences of most clients, and a search is cheaper than a walk. */
const NEEDLE = Buffer.from(NS_CAPS)

/** Goes on to the capabilities of a presence; false where it has none. */
function seek(bytes: Buffer): boolean {
  CHILDREN.begin()
  while (CHILDREN.next(bytes)) if (CHILDREN.name === C) return true
  return false
}

/** What is hashed of an answer; undefined where it is none, or ill-formed (§5.4). */
function partsOf(element: ScannedElement): readonly string[] | undefined {
  if (element.payload.length > ANSWER_BYTES_MAX) return undefined
  const query = childOf(element.element(), 'query', NS_DISCO_INFO)
  return query === undefined ? undefined : capsParts(query.children)
}

/** Whether everybody with this hash would answer the same. */
function isProven(parts: readonly string[], { key, hash, ver }: Question): boolean {
  return key !== '' && !parts.some((part) => part.includes('<')) && hashOfParts(parts, hash) === ver
}

/** Of the parts, not of the features: so it follows from the hash (xmpp/caps.ts). */
function notifiesOf(parts: readonly string[]): Notifies {
  const features = new Set<string>()
  let length = 0
  for (const part of parts) {
    if (!part.endsWith(SUFFIX) || part.length === SUFFIX.length || features.size >= NODES_MAX) continue
    if (length + part.length > NODES_LENGTH_MAX) continue
    features.add(part)
    length += part.length
  }
  return { features, nodes: [...features].map((feature) => feature.slice(0, -SUFFIX.length)), length }
}
