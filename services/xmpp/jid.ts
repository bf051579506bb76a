// RFC 7622: XMPP addresses.
//
// A Jid is made once, in prepared form, so that two addresses are the same when their strings are. `parseJid` is
// asked about the same few thousand texts all day: it answers them from a cache of two generations (the young one
// becomes the old one when it is full, and the old one is let go), and what is plain lower-case ASCII needs no preparation.
//
// Domains are IDNA2008, not UTS #46: a name is lower-cased, brought to ordinary width and NFC (RFC 5895 §2), and must then
// consist of NR-LDH labels and U-labels. What UTS #46 maps further or lets pass (ſ, ℂ, ☃, ⅷ, soft hyphens, "_") is refused;
// ß and ς stay themselves (its "nontransitional" processing). A-labels become U-labels (RFC 7622 §3.2.1). Node's Unicode
// version counts: see precis.ts.
import { isIPv6 } from 'node:net'
import { domainToASCII, domainToUnicode } from 'node:url'
import { mapWidth, nameFollowsBidiRule, opaqueString, PrecisError, requireLabel, usernameCaseMapped } from './precis.ts'
import { freshString, own } from './strings.ts'
import { spells } from './tag.ts'

export interface Jid {
  /** '' where the address has none; so with `resource`. */
  readonly local: string
  readonly domain: string
  readonly resource: string
  /** `local@domain`, or `domain`. */
  readonly bare: string
  /** `local@domain/resource`, as it goes on the wire. */
  readonly full: string
}

/** The text is no address: says which part is wrong and why. Owed to a client as jid-malformed (RFC 6120 §8.3.3.8). */
export class JidError extends Error {
  override name = 'JidError'
}

/** All parts '': the sender where there is none. */
export const NO_JID: Jid = { local: '', domain: '', resource: '', bare: '', full: '' }

/** Each part has 1 to 1023 bytes (RFC 7622 §3.2, §3.3, §3.4). */
const PART_BYTES_MAX = 1023
/** Of a part before preparation, which shortens a text to no less than a third (u, two marks: three units, ǖ: two bytes). */
const RAW_UNITS_MAX = 3 * PART_BYTES_MAX
/** RFC 1035 §2.3.4, of the form in ASCII. */
const LABEL_BYTES_MAX = 63
/** The 255 octets of a name (RFC 1035 §2.3.4) have room for no more; and each costs a round through Punycode. */
const LABELS_MAX = 127

const GENERATION_MAX = 20_000
/** Longer texts are parsed each time: so the cache holds at most 2 × 20 000 × 256 characters of a stranger's making. */
const CACHED_TEXT_MAX = 256

let young = new Map<string, Jid>()
let old = new Map<string, Jid>()

/** By a hash of their text: what is read from bytes is found here before a string is made of it. A later one takes the place. */
const SLOTS = 16_384
const slots: Jid[] = new Array<Jid>(SLOTS).fill(NO_JID)

/**
 * Reads an address and prepares its parts (RFC 7622 §3.2-3.4). Throws JidError. The same text again costs one
 * look-up and gives the same object, for as long as the cache holds it.
 */
export function parseJid(text: string): Jid {
  return young.get(text) ?? parseUncached(text)
}

/** The address that these bytes are, prepared already: what we have written ourselves. Throws JidError where it is none. */
export function jidOfBytes(bytes: Buffer, start: number, end: number): Jid {
  if (start === end) return NO_JID
  // The domain, which most have in common, is left out: the beginning tells accounts apart, the end resources.
  let hash = end - start
  for (let i = start, last = Math.min(end, start + 12); i < last; i++) hash = (Math.imul(hash, 31) + bytes[i]!) | 0
  for (let i = Math.max(start, end - 8); i < end; i++) hash = (Math.imul(hash, 31) + bytes[i]!) | 0
  const slot = (hash ^ (hash >>> 14)) & (SLOTS - 1)
  const known = slots[slot]!
  if (spells(bytes, start, end, known.full)) return known
  const jid = parseJid(freshString(bytes, start, end))
  // Only ASCII: there a unit of the text is a byte, so that `spells` cannot take one text for another.
  if (jid.full.length === end - start && jid.full.length <= CACHED_TEXT_MAX) slots[slot] = jid
  return jid
}

/** Joins parts, each of which is prepared. Throws JidError. An empty local or resource is none. */
export function makeJid(local: string, domain: string, resource = ''): Jid {
  return birth(local === '' ? '' : prepareLocal(local), prepareDomain(domain), resource === '' ? '' : prepareResource(resource))
}

/** The address without its resource; itself where it has none. */
export function bareOf(jid: Jid): Jid {
  return jid.resource === '' ? jid : Address.bareOf(jid)
}

/** The address with another resource, which is prepared; '' for none. Throws JidError. */
export function withResource(jid: Jid, resource: string): Jid {
  return resource === '' ? bareOf(jid) : birth(jid.local, jid.domain, prepareResource(resource))
}

/** RFC 7622 §3.3: the UsernameCaseMapped profile without eight characters. Throws JidError. */
export function prepareLocal(text: string): string {
  if (PLAIN_LOCAL.test(text)) return text
  requireShort('localpart', text)
  const prepared = profiled('localpart', text, usernameCaseMapped)
  const excluded = EXCLUDED.exec(prepared) // §3.3.1
  if (excluded !== null) throw new JidError(`localpart: ${excluded[0]} is not allowed`)
  requireBytes('localpart', prepared)
  return prepared
}

/** RFC 7622 §3.4: the OpaqueString profile. Throws JidError. */
export function prepareResource(text: string): string {
  if (PLAIN_RESOURCE.test(text)) return text
  requireShort('resourcepart', text)
  const prepared = profiled('resourcepart', text, opaqueString)
  requireBytes('resourcepart', prepared)
  return prepared
}

/** RFC 7622 §3.2: a name in Unicode, an IPv4 address, or an IPv6 address in brackets (in the form of RFC 5952). Throws JidError. */
export function prepareDomain(text: string): string {
  if (PLAIN_DOMAIN.test(text) && !text.includes('--')) return text
  requireShort('domainpart', text)
  if (text.startsWith('[')) return prepareAddress(text)
  let name = mapWidth(text).replaceAll('\u3002', '.') // RFC 5895 §2 (2) and (4)
  if (name.endsWith('.')) name = name.slice(0, -1) // §3.2: before anything else is done to it
  if (name === '') throw new JidError('domainpart: it is empty')
  const mapped = lowerCase(name).normalize('NFC').split('.')
  if (mapped.length > LABELS_MAX) throw new JidError(`domainpart: it has over ${LABELS_MAX} labels`)
  const labels = mapped.map(prepareLabel)
  if (!nameFollowsBidiRule(labels)) throw new JidError('domainpart: it breaks the Bidi Rule (RFC 5893)')
  const prepared = labels.join('.')
  requireBytes('domainpart', prepared)
  return prepared
}

function parseUncached(written: string): Jid {
  const known = old.get(written)
  if (known !== undefined) return remember(written, known)
  // A string that was cut out of a stanza keeps the whole stanza in memory, for as long as we keep it.
  const text = own(written)
  // §3.1: the first "/" begins the resource, and only before it does the first "@" end the localpart.
  const slash = text.indexOf('/')
  const address = slash === -1 ? text : text.slice(0, slash)
  const at = address.indexOf('@')
  const local = at === -1 ? '' : prepareLocal(address.slice(0, at))
  const domain = prepareDomain(address.slice(at + 1))
  const resource = slash === -1 ? '' : prepareResource(text.slice(slash + 1))
  return remember(text, birth(local, domain, resource, text))
}

function remember(text: string, jid: Jid): Jid {
  if (text.length > CACHED_TEXT_MAX) return jid
  if (young.size >= GENERATION_MAX) {
    old = young
    young = new Map()
  }
  young.set(text === jid.full ? jid.full : own(text), jid)
  return jid
}

/** `text`: one that may be kept, and is the address if it needed no preparation. */
function birth(local: string, domain: string, resource: string, text = ''): Jid {
  if (domain === latestDomain) domain = latestDomain
  else latestDomain = domain = own(domain)
  const address = local === '' ? domain : `${local}@${domain}`
  const full = resource === '' ? address : `${address}/${resource}`
  const kept = full === text ? text : own(full)
  return new Address(
    kept.slice(0, local.length),
    domain,
    resource === '' ? '' : kept.slice(address.length + 1),
    resource === '' ? kept : kept.slice(0, address.length),
    kept,
  )
}

/** Most addresses have a domain that was there just before: one string for them. */
let latestDomain = ''

class Address implements Jid {
  readonly local: string
  readonly domain: string
  readonly resource: string
  readonly bare: string
  readonly full: string
  /** Made when it is asked for: a session's is, for each of its stanzas. */
  #bareJid: Jid | undefined

  constructor(local: string, domain: string, resource: string, bare: string, full: string) {
    this.local = local
    this.domain = domain
    this.resource = resource
    this.bare = bare
    this.full = full
  }

  static bareOf(jid: Jid): Jid {
    if (!(#bareJid in jid)) return parseJid(jid.bare)
    jid.#bareJid ??= parseJid(jid.bare)
    return jid.#bareJid
  }
}

/** One label, mapped already: an NR-LDH label (RFC 5890 §2.3.1), or a U-label, to which an A-label is turned. */
function prepareLabel(label: string): string {
  if (NON_ASCII.test(label)) {
    profiled('domainpart', label, requireLabel)
    const ascii = domainToASCII(label)
    // The name in ASCII must lead back here: so what we call a U-label and what the DNS will be asked for are one name.
    if (ascii === '' || domainToUnicode(ascii) !== label) throw new JidError(`domainpart: ${label} is not a U-label`)
    if (ascii.length > LABEL_BYTES_MAX) throw new JidError(`domainpart: a label is over ${LABEL_BYTES_MAX} bytes in ASCII`)
    return label
  }
  if (label === '') throw new JidError('domainpart: a label is empty')
  if (!LDH.test(label)) throw new JidError('domainpart: a label may have letters, digits and inner hyphens only')
  if (label.length > LABEL_BYTES_MAX) throw new JidError(`domainpart: a label is over ${LABEL_BYTES_MAX} bytes`)
  if (!label.startsWith('--', 2)) return label
  if (!label.startsWith('xn--')) throw new JidError('domainpart: hyphens in the third and fourth places are reserved')
  const unicode = domainToUnicode(label)
  if (!NON_ASCII.test(unicode) || domainToASCII(unicode) !== label) throw new JidError(`domainpart: ${label} is not an A-label`)
  return prepareLabel(unicode)
}

function prepareAddress(text: string): string {
  const address = text.slice(1, -1)
  // RFC 3986 §3.2.2 knows no zone, and nobody has defined an IPvFuture.
  if (!text.endsWith(']') || !isIPv6(address) || address.includes('%'))
    throw new JidError('domainpart: it is no IPv6 address in brackets')
  return new URL(`http://${text}`).hostname
}

/**
 * To lower case, code point by code point: IDNA knows no final sigma. Cherokee goes to its capitals, as Unicode's case folding
 * has it: these are what RFC 5892 allows (its small letters came later, and are unstable in the sense of §2.2).
 */
function lowerCase(text: string): string {
  if (!NON_ASCII.test(text)) return text.toLowerCase()
  return Array.from(text, (char) => (CHEROKEE.test(char) ? char.toUpperCase() : char.toLowerCase())).join('')
}

function profiled<T>(part: string, text: string, profile: (text: string) => T): T {
  try {
    return profile(text)
  } catch (cause) {
    if (cause instanceof PrecisError) throw new JidError(`${part}: ${cause.message}`, { cause })
    throw cause
  }
}

/** So that nobody has us prepare a megabyte. */
function requireShort(part: string, text: string): void {
  if (text.length > RAW_UNITS_MAX) throw new JidError(`${part}: it is over ${PART_BYTES_MAX} bytes`)
}

function requireBytes(part: string, prepared: string): void {
  if (Buffer.byteLength(prepared) > PART_BYTES_MAX) throw new JidError(`${part}: it is over ${PART_BYTES_MAX} bytes`)
}

/** What needs no preparation: ASCII in lower case without the excluded characters. */
const PLAIN_LOCAL = /^[a-z0-9!#$%()*+,\-.;=?[\\\]^_`{|}~]{1,1023}$/
const PLAIN_RESOURCE = /^[\x20-\x7E]{1,1023}$/
const PLAIN_DOMAIN = /^(?=.{1,1023}$)[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?){0,126}$/
const EXCLUDED = /["&'/:<>@]/
const LDH = /^[a-z0-9](?:[a-z0-9-]*[a-z0-9])?$/
const NON_ASCII = /[^\x00-\x7F]/
const CHEROKEE = /\p{Script=Cherokee}/u
