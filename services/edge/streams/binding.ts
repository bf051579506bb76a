// A logged-in stream gets its session: a new one that is bound to a resource (RFC 6120 §7), or one that has lost its
// stream and is resumed (XEP-0198 §5).
import { errorOf } from '#core/answer.ts'
import type { SessionDelivery } from '#core/envelope.ts'
import { StanzaError, StreamError } from '#xmpp/error.ts'
import { randomId } from '#xmpp/id.ts'
import { type Jid, NO_JID, prepareResource, withResource } from '#xmpp/jid.ts'
import { NS_BIND, NS_CLIENT } from '#xmpp/ns.ts'
import type { ScannedElement } from '#xmpp/scan.ts'
import { childOf, type Element, el, stanza, textOf } from '#xmpp/stanza.ts'
import { asBuffer } from '#xmpp/xml.ts'
import type { Edge } from '../main.ts'
import { EdgeSession } from '../sessions/session.ts'
import { failed, NS_SM, type ResumeRequest, readResume } from '../sessions/stream-management.ts'
import type { ClientStream } from './stream.ts'

const BIND = `{${NS_BIND}}bind`

/** The first element after the login. Throws StreamError for what asks for no session. */
export function takeBind(element: ScannedElement, account: Jid, edge: Edge, stream: ClientStream): void {
  if (element.ns === NS_SM) return takeManagement(element, account, edge, stream)
  const { id } = element
  if (
    element.ns !== NS_CLIENT ||
    element.name !== 'iq' ||
    element.child !== BIND ||
    element.type !== 'set' ||
    element.childCount !== 1
  ) {
    throw new StreamError('not-authorized', 'bind a resource first') // §7.1
  }
  const refuse = (error: StanzaError): void =>
    stream.answer(errorOf(stanza('iq', withResource(account, 'x'), { id, type: 'set' }), error))
  if (id === '') return refuse(new StanzaError('bad-request', 'an iq has an id')) // §8.1.3
  let resource = ''
  try {
    resource = resourceOf(element)
  } catch (error) {
    return refuse(new StanzaError('bad-request', (error as Error).message)) // §7.7.2.1
  }
  startSession({ account, resource, flags: NO_FLAGS, generation: stream.generation }, edge, stream, (made) => {
    if (made instanceof StanzaError) return refuse(made)
    stream.answer(stanza('iq', NO_JID, { id, type: 'result' }, el('bind', NS_BIND, {}, el('jid', NS_BIND, {}, made.jid.full))))
  })
}

const NO_FLAGS: readonly string[] = []

export interface NewSession {
  readonly account: Jid
  /** Prepared; '' leaves it to the server. */
  readonly resource: string
  /** Those that it has from the beginning. */
  readonly flags: readonly string[]
  /** Of the credentials that the client has logged in by. */
  readonly generation: number
}

/** `opened` is told of the session, bound to the stream, before anything goes to the client; or why there is none. */
export function startSession(
  { account, resource, flags, generation }: NewSession,
  edge: Edge,
  stream: ClientStream,
  opened: (made: EdgeSession | StanzaError) => void,
): void {
  const id = randomId(12)
  const early: SessionDelivery[] = []
  const { about } = stream
  edge.early.set(id, early)
  const binding = edge.bind(account, id, resource, { about, generation }, flags).finally(() => edge.early.delete(id))
  stream.wait(binding, (bound) => {
    if (bound instanceof StanzaError) return opened(bound)
    const made = new EdgeSession(id, bound, edge, { about, generation, flags }, stream)
    if (!stream.bound(made)) return made.end()
    opened(made)
    for (const delivery of early) made.receive(delivery)
  })
}

/** As most clients write it; a tree is made of what is written otherwise. */
const PLAIN_BIND =
  /^<bind xmlns=(?:'urn:ietf:params:xml:ns:xmpp-bind'|"urn:ietf:params:xml:ns:xmpp-bind")(?:\/>|>(?:<resource>([ -%'-;=?-~]*)<\/resource>)?<\/bind>)$/

/** Prepared; '' where the client leaves it to us. Throws JidError. */
function resourceOf(element: ScannedElement): string {
  const plain = PLAIN_BIND.exec(asBuffer(element.payload).toString('latin1'))
  if (plain !== null) return plain[1] === undefined || plain[1] === '' ? '' : prepareResource(plain[1])
  const bind = element.element().children.find((child) => typeof child !== 'string')
  const asked = typeof bind === 'object' ? childOf(bind, 'resource', NS_BIND) : undefined
  const text = asked === undefined ? '' : textOf(asked)
  return text === '' ? '' : prepareResource(text)
}

/** XEP-0198 before there is a session. After any failure the client may bind, or try again. */
function takeManagement(element: ScannedElement, account: Jid, edge: Edge, stream: ClientStream): void {
  if (element.name === 'enable') return stream.say(failed('unexpected-request')) // §3
  if (element.name !== 'resume') throw new StreamError('not-authorized', 'bind a resource first')
  resumeSession({ account, resume: element.element(), generation: stream.generation }, edge, stream, {
    granted: () => (text) => stream.say(text),
    refused: (failure) => stream.say(failure),
  })
}

export interface ResumingLogin {
  readonly account: Jid
  /** `<resume/>` */
  readonly resume: Element
  /** Of the credentials that the client has logged in by. */
  readonly generation: number
}

export interface ResumeOutcome {
  /** It goes on with this session, to which the stream is bound in a moment. Returns what says `<resumed/>`. */
  granted(session: EdgeSession): (resumed: string) => void
  /** `<failed/>`, as text. */
  refused(failure: string): void
}

/** XEP-0198 §5. */
export function resumeSession(
  { account, resume, generation }: ResumingLogin,
  edge: Edge,
  stream: ClientStream,
  to: ResumeOutcome,
): void {
  if (edge.limits.resumeSeconds === 0) return to.refused(failed('feature-not-implemented')) // §5
  let asked: ResumeRequest
  try {
    asked = readResume(resume)
  } catch (error) {
    if (!(error instanceof StanzaError)) throw error
    return to.refused(failed(error.condition))
  }
  const { previd, h } = asked
  const refuse = (): void => {
    stream.pause()
    edge.ended.ask(previd, account.bare, (h) => {
      if (h === undefined && edge.moves.mayBeElsewhere)
        stream.wait(edge.moves.handledOf(previd, account.bare), (h) => to.refused(failed('item-not-found', h)))
      else to.refused(failed('item-not-found', h)) // §5
      stream.resume()
    })
  }
  const goOn = (session: EdgeSession | undefined): void => {
    if (session === undefined || session.jid.bare !== account.bare) return refuse()
    if (generation < session.generation) return refuse() // by a password that was changed since
    stream.pause()
    session.claim(h, (isGranted) => {
      if (!isGranted) refuse()
      else {
        const say = to.granted(session)
        if (stream.bound(session)) session.resume(stream, h, say)
      }
      stream.resume()
    })
  }
  const here = edge.resumables.get(previd)
  if (here !== undefined || !edge.moves.mayBeElsewhere) return goOn(here)
  stream.wait(edge.moves.fetch({ previd, account: account.bare, generation, h }), goOn)
}
