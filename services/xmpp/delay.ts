// XEP-0203: Delayed Delivery, the note in a stanza that was held back: by whom, and since when.
//
// A stanza is searched for the namespace first, which few have: all of this costs the others one search of bytes.
import { Children, withoutChildren } from './children.ts'
import { type Jid, parseJid } from './jid.ts'
import { NS_DELAY } from './ns.ts'
import { el, type Stanza, withChildBehind } from './stanza.ts'
import { formatDateTime } from './time.ts'
import { asBuffer } from './xml.ts'

/** Whether it has a note that says it is of this server's: its domain's. */
export function isDelayedBy(domain: string, { payload }: Stanza): boolean {
  const bytes = asBuffer(payload)
  if (bytes.indexOf(NAMESPACE) < 0) return false
  CHILDREN.begin()
  while (CHILDREN.next(bytes)) if (isNoteOf(domain, CHILDREN, bytes)) return true
  return false
}

/** §2, behind what the stanza has; `receivedMs` since 1970, `reason` in words. */
export function delayedBy(domain: string, stanza: Stanza, receivedMs: number, reason = ''): Stanza {
  const note = el('delay', NS_DELAY, { from: domain, stamp: formatDateTime(receivedMs) }, ...(reason === '' ? [] : [reason]))
  return withChildBehind(stanza, note)
}

/** The same without such notes; itself where it has none. */
export function withoutDelayBy(domain: string, stanza: Stanza): Stanza {
  if (asBuffer(stanza.payload).indexOf(NAMESPACE) < 0) return stanza
  return withoutChildren(stanza, (child, bytes) => isNoteOf(domain, child, bytes))
}

function isNoteOf(domain: string, child: Children, bytes: Buffer): boolean {
  if (child.name !== NOTE) return false
  const from = child.attribute(bytes, 'from')
  return from === domain || addressOf(from)?.full === domain // however it is spelled
}

function addressOf(text: string): Jid | undefined {
  try {
    return parseJid(text)
  } catch {
    return undefined
  }
}

const NOTE = `{${NS_DELAY}}delay`
/** Of its bytes, none can be spelled in another way: what would be, the scanner has written anew. */
const NAMESPACE = Buffer.from(NS_DELAY)
const CHILDREN = new Children()
