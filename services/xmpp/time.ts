// XEP-0082: XMPP Date and Time Profiles, the DateTime profile.
//
// Written always in UTC ("developers are advised to convert local time to UTC", §6), with milliseconds only where there
// are some: the XEP leaves fractions optional, and the canonical form of XML Schema's dateTime, which overrules it
// (§3.2), has none that say nothing. Read strictly: what is not exactly the profile, or no date of the calendar, is refused.

/** The text is not of the DateTime profile. */
export class DateTimeError extends Error {
  override name = 'DateTimeError'
}

/** `2026-03-01T12:00:00Z`, or `…:00.250Z`. `ms` since 1970, of which a fraction is dropped. Throws RangeError outside the years 0 to 9999. */
export function formatDateTime(ms: number): string {
  if (!(ms >= FIRST_MS && ms < END_MS)) throw new RangeError(`${ms} ms is not in the years 0000 to 9999`)
  const text = new Date(Math.floor(ms)).toISOString()
  return text.endsWith('.000Z') ? `${text.slice(0, -5)}Z` : text
}

/** Milliseconds since 1970; digits after the third of a fraction are dropped (§3.2: they MAY be ignored). Throws DateTimeError. */
export function parseDateTime(text: string): number {
  const match = DATE_TIME.exec(text)
  if (match === null) throw new DateTimeError('not of the form CCYY-MM-DDThh:mm:ss[.sss]TZD')
  const [, year, month, day, hour, minute, second, fraction, zone] = match
  const dayMs = Date.parse(`${year}-${month}-${day}T00:00:00Z`) // 31 April rolls over, hence the comparison
  if (Number.isNaN(dayMs) || new Date(dayMs).getUTCDate() !== Number(day)) throw new DateTimeError('no such day')
  const ms = Number((fraction ?? '').slice(0, 3).padEnd(3, '0'))
  const timeMs = Number(hour) * HOUR_MS + Number(minute) * MINUTE_MS + Number(second) * 1000 + ms
  if (Number(minute) > 59 || Number(second) > 59) throw new DateTimeError('no such time of day')
  // XML Schema 1.1 part 2, §3.3.7.1: 24:00:00, and nothing after it, is the end of the day.
  if (timeMs > DAY_MS || (timeMs === DAY_MS && /[1-9]/.test(fraction ?? ''))) throw new DateTimeError('no such time of day')
  const utcMs = dayMs + timeMs - offsetMs(zone!)
  if (utcMs < FIRST_MS || utcMs >= END_MS) throw new DateTimeError('not in the years 0000 to 9999 of UTC')
  return utcMs
}

/**
 * A Time Zone Definition as XEP-0202 wants it for `<tzo/>`: `+05:30`, of the minutes east of UTC. Numeric for UTC too
 * (`+00:00`), which every reader of the profile knows. Throws RangeError beyond ±14:00.
 */
export function formatOffset(minutes: number): string {
  if (!Number.isInteger(minutes) || Math.abs(minutes) > OFFSET_MINUTES_MAX)
    throw new RangeError(`${minutes} min is no offset from UTC`)
  const size = Math.abs(minutes)
  const two = (n: number) => String(n).padStart(2, '0')
  return `${minutes < 0 ? '-' : '+'}${two(Math.trunc(size / 60))}:${two(size % 60)}`
}

function offsetMs(zone: string): number {
  if (zone === 'Z') return 0
  const hours = Number(zone.slice(1, 3))
  const minutes = Number(zone.slice(4, 6))
  if (minutes > 59 || hours * 60 + minutes > OFFSET_MINUTES_MAX) throw new DateTimeError('no such time zone')
  return (zone.startsWith('-') ? -1 : 1) * (hours * HOUR_MS + minutes * MINUTE_MS)
}

const DATE_TIME = /^(\d{4})-(\d{2})-(\d{2})T(\d{2}):(\d{2}):(\d{2})(?:\.(\d+))?(Z|[+-]\d{2}:\d{2})$/
const MINUTE_MS = 60_000
const HOUR_MS = 60 * MINUTE_MS
const DAY_MS = 24 * HOUR_MS
/** XML Schema 1.1 part 2, §3.3.7.1. */
const OFFSET_MINUTES_MAX = 14 * 60
const FIRST_MS = Date.parse('0000-01-01T00:00:00Z')
const END_MS = Date.parse('9999-12-31T23:59:59.999Z') + 1
