// The two errors the protocol has: one stanza is refused, or the stream ends.
//
// Throw a StanzaError where the refusal is decided; core/answer.ts turns it into XML. Throw a StreamError
// where the stream cannot go on; edge/streams/stream.ts writes it and closes (RFC 6120 §4.9.1.1).
import type { Element } from './stanza.ts'

/** RFC 6120 §8.3.2: what the sender may do about it. */
export type ErrorType = 'auth' | 'cancel' | 'continue' | 'modify' | 'wait'

/** RFC 6120 §8.3.3, each condition with the type the RFC gives (or recommends first). */
export const STANZA_CONDITIONS = {
  'bad-request': 'modify',
  conflict: 'cancel',
  'feature-not-implemented': 'cancel',
  forbidden: 'auth',
  gone: 'cancel',
  'internal-server-error': 'cancel',
  'item-not-found': 'cancel',
  'jid-malformed': 'modify',
  'not-acceptable': 'modify',
  'not-allowed': 'cancel',
  'not-authorized': 'auth',
  'policy-violation': 'modify',
  'recipient-unavailable': 'wait',
  redirect: 'modify',
  'registration-required': 'auth',
  'remote-server-not-found': 'cancel',
  'remote-server-timeout': 'wait',
  'resource-constraint': 'wait',
  'service-unavailable': 'cancel',
  'subscription-required': 'auth',
  'undefined-condition': 'cancel',
  'unexpected-request': 'wait',
} as const satisfies Record<string, ErrorType>

export type StanzaCondition = keyof typeof STANZA_CONDITIONS

/** An answer owed to the sender of one stanza (RFC 6120 §8.3). */
export class StanzaError extends Error {
  readonly condition: StanzaCondition
  readonly type: ErrorType
  /** The human-readable `<text/>`; '' for none. */
  readonly text: string
  /** An application-specific condition (RFC 6120 §8.3.4). */
  readonly extra: Element | undefined
  /** Whether the answer repeats what was refused (RFC 6120 §8.3.1), or what it repeats of it: by default all. */
  readonly echo: boolean | Element
  /** The code of old (XEP-0086), for what still demands it. */
  readonly code: string | undefined

  constructor(
    condition: StanzaCondition,
    text = '',
    options: { type?: ErrorType; extra?: Element; echo?: boolean | Element; code?: string } = {},
  ) {
    super(text === '' ? condition : `${condition}: ${text}`)
    this.name = 'StanzaError'
    this.condition = condition
    this.type = options.type ?? STANZA_CONDITIONS[condition]
    this.text = text
    this.extra = options.extra
    this.echo = options.echo ?? true
    this.code = options.code
  }
}

/** RFC 6120 §4.9.3. */
export type StreamCondition =
  | 'bad-format'
  | 'bad-namespace-prefix'
  | 'conflict'
  | 'connection-timeout'
  | 'host-gone'
  | 'host-unknown'
  | 'improper-addressing'
  | 'internal-server-error'
  | 'invalid-from'
  | 'invalid-namespace'
  | 'invalid-xml'
  | 'not-authorized'
  | 'not-well-formed'
  | 'policy-violation'
  | 'remote-connection-failed'
  | 'reset'
  | 'resource-constraint'
  | 'restricted-xml'
  | 'see-other-host'
  | 'system-shutdown'
  | 'undefined-condition'
  | 'unsupported-encoding'
  | 'unsupported-feature'
  | 'unsupported-stanza-type'
  | 'unsupported-version'

/** The stream ends, and its peer is told why (RFC 6120 §4.9). */
export class StreamError extends Error {
  readonly condition: StreamCondition
  /** The human-readable `<text/>`; '' for none. */
  readonly text: string
  /** An application-specific condition (RFC 6120 §4.9.4). */
  readonly extra: Element | undefined

  constructor(condition: StreamCondition, text = '', extra?: Element) {
    super(text === '' ? condition : `${condition}: ${text}`)
    this.name = 'StreamError'
    this.condition = condition
    this.text = text
    this.extra = extra
  }
}
