// What a query of an archive asks for (XEP-0313 §4.1, §4.3): a data form and a result set request, as a range of a journal.
import { archiveIdAt, isArchiveId } from '#core/storage/archive-id.ts'
import type { JournalRange } from '#core/storage/store.ts'
import { Reader } from '#core/wire.ts'
import { StanzaError } from '#xmpp/error.ts'
import { FORM_TYPE, type Form, formElement, formOf, formTypeOf, makeField, makeForm, values } from '#xmpp/form.ts'
import { type Jid, parseJid } from '#xmpp/jid.ts'
import { pageRequestOf } from '#xmpp/rsm.ts'
import { attr, type Element } from '#xmpp/stanza.ts'
import { parseDateTime } from '#xmpp/time.ts'

export const NS_MAM = 'urn:xmpp:mam:2'

export interface ArchiveQuery {
  /** `before` and `after` are the narrower of the form's and the page's. `reverse`: the page is the last of the range. */
  readonly range: Omit<JournalRange, 'limit'>
  /** The ids that were named: each must be in the archive (§4.3.2), and no older than what is shown of it. */
  readonly named: readonly string[]
  readonly oldest: string | undefined
  /** Results wanted; undefined: as many as the server likes. 0: only their number. */
  readonly max: number | undefined
  /** The page is not one that follows another. */
  readonly fromTheEnd: boolean
  /** '' where there is none. */
  readonly queryId: string
}

/** §4.1.5. The fields of `urn:xmpp:mam:2#extended` are not among them, as that is not announced. */
export const FORM: Element = formElement(
  makeForm('form', NS_MAM, [makeField('jid-single', 'with'), makeField('text-single', 'start'), makeField('text-single', 'end')]),
)
const FIELDS: ReadonlySet<string> = new Set([FORM_TYPE, 'with', 'start', 'end'])

/** It comes back with each result. Nobody needs more, and a page may have hundreds. */
const QUERY_ID_UNITS_MAX = 256

/** Reads `<query/>`. `oldest`: what is shown is behind this. Throws StanzaError. */
export function archiveQueryOf(query: Element, account: Jid, oldest?: string): ArchiveQuery {
  const queryId = attr(query, 'queryid')
  if (queryId.length > QUERY_ID_UNITS_MAX)
    throw new StanzaError('bad-request', `queryid is over ${QUERY_ID_UNITS_MAX} characters`)
  if (query.attrs.node !== undefined) throw new StanzaError('item-not-found', 'an account has no nodes') // XEP-0442
  const page = pageRequestOf(query)
  if (page?.index !== undefined) throw new StanzaError('feature-not-implemented', 'page by id, not by index') // XEP-0059 §2.6
  const form = filledIn(query)
  const { thread, only } = withOf(form, account)
  const start = timeIn(form, 'start')
  const end = timeIn(form, 'end')
  const { after, before } = page ?? { after: undefined, before: undefined }
  return {
    range: {
      after: latest(oldest, latest(start === undefined ? undefined : archiveIdAt(start.ceilMs), after)),
      before: earliest(end === undefined ? undefined : archiveIdAt(end.ms + 1), before === '' ? undefined : before),
      reverse: before !== undefined,
      thread,
      only,
    },
    named: [after, before].filter((id) => id !== undefined && id !== '') as string[],
    oldest,
    max: page?.max,
    fromTheEnd: after === undefined && (before === undefined || before === ''),
    queryId,
  }
}

/** What is named and cannot be in any archive is not looked for, nor what has expired. */
export function mayBeArchived({ named, oldest = '' }: ArchiveQuery): boolean {
  return named.every((id) => isArchiveId(id) && id >= oldest)
}

function filledIn(query: Element): Form | undefined {
  const form = formOf(query)
  if (form === undefined) return undefined
  if (form.type !== 'submit') throw new StanzaError('bad-request', 'the form is not submitted')
  if (formTypeOf(form) !== NS_MAM) throw new StanzaError('bad-request', `FORM_TYPE is not ${NS_MAM}`) // §4.1
  for (const field of form.fields) {
    if (!FIELDS.has(field.var)) throw new StanzaError('feature-not-implemented', `the field ${field.var} is not known`) // §4.1.5
  }
  return form
}

/** One value, or none: undefined where it is empty, too (XEP-0004 §3.6). */
function valueIn(form: Form | undefined, name: string): string | undefined {
  if (form === undefined) return undefined
  const [value, ...others] = values(form, name)
  if (others.length > 0) throw new StanzaError('bad-request', `${name} has more than one value`)
  return value === '' ? undefined : value
}

/** §4.1.1. */
function withOf(form: Form | undefined, account: Jid): Pick<JournalRange, 'thread' | 'only'> {
  const text = valueIn(form, 'with')
  if (text === undefined) return { thread: undefined, only: undefined }
  const jid = jidOf(text)
  const isOwn = jid.bare === account.bare
  if (jid.resource !== '') {
    const only = (entry: Uint8Array): boolean => {
      const { from, to } = addressesOf(entry)
      return from === jid.full || to === jid.full
    }
    return { thread: isOwn ? undefined : jid.bare, only }
  }
  const only = (entry: Uint8Array): boolean => {
    const { from, to } = addressesOf(entry)
    // What one wrote to oneself is asked for by one's own address: otherwise all of it would match.
    return isOwn ? isOf(from, jid.bare) && isOf(to, jid.bare) : isOf(from, jid.bare) || isOf(to, jid.bare)
  }
  return { thread: jid.bare, only }
}

function jidOf(text: string): Jid {
  try {
    return parseJid(text)
  } catch (error) {
    throw new StanzaError('bad-request', `with is not a JID: ${(error as Error).message}`)
  }
}

/** Of a stanza that core/envelope.ts has written. */
function addressesOf(entry: Uint8Array): { readonly from: string; readonly to: string } {
  const reader = new Reader(entry)
  reader.u8() // the stanza's name
  return { from: reader.text(), to: reader.text() }
}

function isOf(full: string, bare: string): boolean {
  return full.startsWith(bare) && (full.length === bare.length || full[bare.length] === '/')
}

/** §4.1.2. A time that is finer than ours lies between two: `ms` is the one before it, `ceilMs` the one behind. */
function timeIn(form: Form | undefined, name: string): { readonly ms: number; readonly ceilMs: number } | undefined {
  const text = valueIn(form, name)
  if (text === undefined) return undefined
  try {
    const ms = parseDateTime(text)
    return { ms, ceilMs: FINER_THAN_MS.test(text) ? ms + 1 : ms }
  } catch (error) {
    throw new StanzaError('bad-request', `${name} is not a time: ${(error as Error).message}`)
  }
}

const FINER_THAN_MS = /\.\d{3}\d*[1-9]/

function latest(a: string | undefined, b: string | undefined): string | undefined {
  if (a === undefined || b === undefined) return a ?? b
  return a > b ? a : b
}

function earliest(a: string | undefined, b: string | undefined): string | undefined {
  if (a === undefined || b === undefined) return a ?? b
  return a < b ? a : b
}
