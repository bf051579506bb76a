// XEP-0388: Extensible SASL Profile, with what a client asks for at once: to resume a session (XEP-0198), or to bind a resource with
// features of the session (XEP-0386), and a token to log in by the next time (XEP-0484). One round trip from the login to the
// session.
//
//   C: <authenticate mechanism><initial-response/><user-agent id/><resume/><bind><tag/>…</bind><request-token/><fast/></authenticate>
//   S: <success><additional-data/><authorization-identifier/><resumed/>, or <failed/> and <bound>…</bound>, <token/></success>
//
// A resource is stable for a client that names itself: what it is named by is hashed, so that nobody learns it. Offered inside TLS
// alone (§4). Whatever else a client sends before the end of the exchange ends its stream.
import { createHash } from 'node:crypto'
import { BOUND_WITH_LOGIN } from '#core/module.ts'
import { StanzaError } from '#xmpp/error.ts'
import { type Jid, JidError, parseJid, prepareResource } from '#xmpp/jid.ts'
import { NS_SASL } from '#xmpp/ns.ts'
import { attr, childOf, type Element, el, textOf } from '#xmpp/stanza.ts'
import { escapeText } from '#xmpp/xml.ts'
import type { ChannelBindingType } from '../listeners/connection.ts'
import type { Edge } from '../main.ts'
import { hashedToken, isTokenMechanism, tokenMechanisms } from '../sasl/ht.ts'
import { decodeSaslData, encodeSaslData, exchangeBy, SaslError, type SaslSuccess } from '../sasl/mechanism.ts'
import { NS_CSI } from '../sessions/inactive.ts'
import type { EdgeSession } from '../sessions/session.ts'
import { NS_SM } from '../sessions/stream-management.ts'
import { resumeSession, startSession } from './binding.ts'
import type { Profile } from './login.ts'
import type { ClientStream } from './stream.ts'

export const NS_SASL2 = 'urn:xmpp:sasl:2'
const NS_BIND2 = 'urn:xmpp:bind:0'
const NS_FAST = 'urn:xmpp:fast:0'
const UUID_LENGTH_MAX = 64
/** Of a resource made of a client's name: 72 bits. */
const STABLE_LENGTH = 12
const TAG_LENGTH_MAX = 200

/** What comes with the login. */
interface Asked {
  /** A hash of what the client calls itself, for this account; undefined where it has no name. */
  readonly client: ((account: string) => string) | undefined
  /** It logs in by a token (XEP-0484 §3.4). */
  readonly fast: Element | undefined
  /** The mechanism of the token that it wants (§3.2); '' for none. */
  readonly wants: string
  readonly bind: Element | undefined
  readonly resume: Element | undefined
  /** The resource that is bound; '' leaves it to the server. */
  readonly resource: (account: Jid) => string
}

/** §2.1: what a stream with these bindings is offered beside its mechanisms. */
export function inlineFeatures({ limits, modules, issueToken }: Edge, bindings: readonly ChannelBindingType[]): Element {
  const features = [
    ...modules.flatMap(({ bindFlags = {} }) => Object.keys(bindFlags).map((name) => name.slice(1, name.indexOf('}')))),
    ...(limits.inactiveStanzas > 0 ? [NS_CSI] : []),
    NS_SM,
  ]
  const offered = features.map((name) => el('feature', NS_BIND2, { var: name }))
  return el(
    'inline',
    NS_SASL2,
    {},
    el('bind', NS_BIND2, {}, el('inline', NS_BIND2, {}, ...offered)), // XEP-0386 §3.1
    ...(limits.resumeSeconds > 0 ? [el('sm', NS_SM)] : []), // XEP-0198 §5
    ...(issueToken === undefined ? [] : [el('fast', NS_FAST, {}, ...tokenMechanisms(bindings).map(fastMechanism))]), // XEP-0484 §3.1
  )
}

/** The login of a stream by this profile. */
export function sasl2(edge: Edge, stream: ClientStream): Profile {
  let asked: Asked = { client: undefined, fast: undefined, wants: '', bind: undefined, resume: undefined, resource: () => '' }
  return {
    ns: NS_SASL2,
    begins: 'authenticate',
    initialOf(element) {
      const request = element.element()
      asked = askedIn(request)
      const initial = childOf(request, 'initial-response', NS_SASL2)
      return initial === undefined ? undefined : decodeSaslData(textOf(initial).trim())
    },
    exchange(mechanism, server, context) {
      const { fast, client } = asked
      if (fast === undefined || client === undefined || server.verifyToken === undefined) return undefined
      if (!tokenMechanisms(context.offer.bindings).includes(mechanism)) return undefined
      const invalidate = /^(?:1|true)$/.test(attr(fast, 'invalidate'))
      return exchangeBy(mechanism, hashedToken(mechanism, server, context, { client, invalidate }), server)
    },
    failure(condition, text) {
      const said = text === '' ? '' : `<text xml:lang='en'>${text}</text>`
      return `<failure xmlns='${NS_SASL2}'><${condition} xmlns='${NS_SASL}'/>${said}</failure>`
    },
    succeed: (step, refuse) => new Success(edge, stream, step, asked, refuse).begin(),
  }
}

/** Throws SaslError: malformed-request for what is asked in a way that nobody can follow. */
function askedIn(request: Element): Asked {
  const bind = childOf(request, 'bind', NS_BIND2)
  const resume = childOf(request, 'resume', NS_SM)
  const agent = attr(childOf(request, 'user-agent', NS_SASL2) ?? request, 'id')
  if (agent.length > UUID_LENGTH_MAX) throw new SaslError('malformed-request', 'the id of a user agent is a UUID (XEP-0388 §2.3)')
  const tag = tagOf(bind)
  const resource = ({ bare }: Jid): string => {
    if (agent === '' && tag === '') return ''
    const stable = agent === '' ? '' : hashed(`${bare}\n${agent}\n${tag}`)
    return tag === '' ? stable : `${tag}/${stable === '' ? hashed(crypto.randomUUID()) : stable}`
  }
  const wanted = childOf(request, 'request-token', NS_FAST)
  return {
    ...{ bind, resume, resource },
    client: agent === '' ? undefined : (account) => hashed(`${account}\n${agent}`),
    fast: childOf(request, 'fast', NS_FAST),
    wants: wanted === undefined ? '' : attr(wanted, 'mechanism'),
  }
}

function fastMechanism(name: string): Element {
  return el('mechanism', NS_FAST, {}, name)
}

/** Prepared; '' where there is none. */
function tagOf(bind: Element | undefined): string {
  const tag = bind && childOf(bind, 'tag', NS_BIND2)
  const text = tag === undefined ? '' : textOf(tag).trim()
  if (text === '') return ''
  try {
    if (text.length > TAG_LENGTH_MAX) throw new JidError('it is too long')
    return prepareResource(text)
  } catch (error) {
    if (!(error instanceof JidError)) throw error
    throw new SaslError('malformed-request', `the tag is no part of a resource: ${error.message}`)
  }
}

function hashed(text: string): string {
  return createHash('sha256').update(text).digest('base64url').slice(0, STABLE_LENGTH)
}

type Refuse = (condition: 'temporary-auth-failure', text: string) => void

/** From the end of the exchange to what the client is told. */
class Success {
  readonly #edge: Edge
  readonly #stream: ClientStream
  readonly #step: SaslSuccess
  readonly #asked: Asked
  readonly #account: Jid
  readonly #refuse: Refuse
  #token: SaslSuccess['token']

  constructor(edge: Edge, stream: ClientStream, step: SaslSuccess, asked: Asked, refuse: Refuse) {
    this.#edge = edge
    this.#stream = stream
    this.#step = step
    this.#asked = asked
    this.#account = parseJid(`${step.username}@${stream.domain}`)
    this.#refuse = refuse
  }

  /** Ahead of all, the token that the client wants (XEP-0484 §3.3), or is due. */
  begin(): void {
    const { client, wants } = this.#asked
    const { issueToken } = this.#edge
    this.#token = this.#step.token
    if (issueToken === undefined || client === undefined || !isTokenMechanism(wants)) return this.#goOn()
    const { bare } = this.#account
    this.#stream.wait(issueToken(bare, client(bare), wants), (token) => {
      this.#token = token ?? undefined
      this.#goOn()
    })
  }

  /** XEP-0386 §3.2: first what is to be resumed, and then what is to be bound. */
  #goOn(): void {
    const { resume } = this.#asked
    const { generation } = this.#step
    if (resume === undefined) return this.#bind('')
    resumeSession({ account: this.#account, resume, generation }, this.#edge, this.#stream, {
      granted: (session) => {
        this.#stream.authenticated(this.#account, generation)
        return (resumed) => this.#say(session.jid, resumed, true)
      },
      refused: (failure) => this.#bind(failure),
    })
  }

  #bind(failure: string): void {
    const { bind, resource } = this.#asked
    const { generation } = this.#step
    const account = this.#account
    if (bind === undefined) {
      this.#stream.authenticated(account, generation)
      return this.#say(account, failure, false)
    }
    const flags = [BOUND_WITH_LOGIN, ...flagsOf(this.#edge, bind)]
    startSession({ account, resource: resource(account), flags, generation }, this.#edge, this.#stream, (made) => {
      if (made instanceof StanzaError) return this.#refuse('temporary-auth-failure', made.text)
      this.#stream.authenticated(account, generation)
      this.#say(made.jid, `${failure}<bound xmlns='${NS_BIND2}'>${begun(made, bind)}</bound>`, true)
    })
  }

  /** §2.6.1, and the features that follow without another header. */
  #say(identifier: Jid, outcome: string, isBound: boolean): void {
    const { data } = this.#step
    const more = data === undefined ? '' : `<additional-data>${encodeSaslData(data)}</additional-data>`
    const who = `<authorization-identifier>${escapeText(identifier.full)}</authorization-identifier>`
    this.#stream.write(`<success xmlns='${NS_SASL2}'>${more}${who}${outcome}${this.#tokenText()}</success>`)
    this.#stream.offer(isBound)
  }

  #tokenText(): string {
    if (this.#token === undefined) return ''
    const { token, expiry } = this.#token
    return `<token xmlns='${NS_FAST}' expiry='${expiry}' token='${token}'/>`
  }
}

/** What modules let a client ask for as it binds. */
function flagsOf({ modules }: Edge, bind: Element): readonly string[] {
  const asked = new Set<string>()
  for (const child of bind.children) if (typeof child !== 'string') asked.add(`{${child.ns}}${child.name}`)
  return modules.flatMap(({ bindFlags = {} }) =>
    Object.entries(bindFlags).flatMap(([name, flag]) => (asked.has(name) ? [flag] : [])),
  )
}

/** XEP-0386 §3.2: the session begins so; what is told of it. */
function begun(session: EdgeSession, bind: Element): string {
  for (const state of ['active', 'inactive'] as const) if (childOf(bind, state, NS_CSI) !== undefined) session.indicate(state)
  const enable = childOf(bind, 'enable', NS_SM)
  return enable === undefined ? '' : session.enable(enable)
}
