// Which sessions a message goes to: the delivery rules of RFC 6121 §8.5, as data.
//
// The table below is Table 1 of §8.5.4, cell by cell. Where the RFC leaves a choice between silence and an error, the
// sender is told: a message that nobody will see should not look sent. Nor should one look lost that the recipient finds
// in his archive: of that, nobody is told (route.ts, `message.unclaimed`).

/** What is asked of a session. */
export interface Receiver {
  readonly available: boolean
  readonly priority: number
}

/** How things stand with the recipient when the message arrives. */
export type Condition = 'no account' | 'no resources' | 'negative only' | 'non-negative'
export type Address = 'bare' | 'full, match' | 'full, no match'
export type MessageType = 'normal' | 'chat' | 'groupchat' | 'headline' | 'error'

/** What becomes of it: to the session named, to those of highest priority, to all of non-negative priority, kept, refused, or nothing. */
export type Verdict = 'deliver' | 'most available' | 'all' | 'offline' | 'refuse' | 'ignore'

type Row = Readonly<Record<MessageType, Verdict>>
const row = (normal: Verdict, chat: Verdict, groupchat: Verdict, headline: Verdict): Row => ({
  normal,
  chat,
  groupchat,
  headline,
  error: 'ignore',
})
const MATCH: Row = { normal: 'deliver', chat: 'deliver', groupchat: 'deliver', headline: 'deliver', error: 'deliver' } // §8.5.3.1

const TABLE: Readonly<Record<Condition, Readonly<Record<Address, Row>>>> = {
  'no account': {
    bare: row('refuse', 'refuse', 'refuse', 'ignore'), // §8.5.1
    'full, match': row('refuse', 'refuse', 'refuse', 'ignore'),
    'full, no match': row('refuse', 'refuse', 'refuse', 'ignore'),
  },
  'no resources': {
    bare: row('offline', 'offline', 'refuse', 'ignore'), // §8.5.2.2.1
    'full, match': MATCH,
    'full, no match': row('refuse', 'offline', 'refuse', 'ignore'), // §8.5.3.2.1
  },
  'negative only': {
    bare: row('offline', 'offline', 'refuse', 'ignore'), // §8.5.2.1.1: never to a negative priority
    'full, match': MATCH,
    'full, no match': row('refuse', 'offline', 'refuse', 'ignore'),
  },
  'non-negative': {
    bare: row('most available', 'most available', 'refuse', 'all'), // §8.5.2.1.1
    'full, match': MATCH,
    'full, no match': row('refuse', 'most available', 'refuse', 'ignore'),
  },
}

export function verdictOf(condition: Condition, address: Address, type: MessageType): Verdict {
  return TABLE[condition][address][type]
}

/** RFC 6121 §5.2.2: what is no type of a message, or none at all, is `normal`. */
export function messageType(type: string): MessageType {
  return type === 'chat' || type === 'groupchat' || type === 'headline' || type === 'error' ? type : 'normal'
}

/** Of an account that exists. */
export function conditionOf(sessions: readonly Receiver[]): Exclude<Condition, 'no account'> {
  let available = false
  for (const session of sessions) {
    if (!session.available) continue
    if (session.priority >= 0) return 'non-negative'
    available = true
  }
  return available ? 'negative only' : 'no resources'
}

/** The sessions of the highest non-negative priority (RFC 6121 §8.5.2.1.1). Empty when there are none. */
export function mostAvailable<R extends Receiver>(sessions: readonly R[]): readonly R[] {
  if (sessions.length === 1) return sessions[0]!.available && sessions[0]!.priority >= 0 ? sessions : []
  let best = -1
  let chosen: R[] = []
  for (const session of sessions) {
    if (!session.available || session.priority < 0 || session.priority < best) continue
    if (session.priority > best) {
      best = session.priority
      chosen = []
    }
    chosen.push(session)
  }
  return chosen
}

/** The sessions a headline goes to: all that are available with a non-negative priority. */
export function nonNegative<R extends Receiver>(sessions: readonly R[]): readonly R[] {
  return sessions.filter(({ available, priority }) => available && priority >= 0)
}
