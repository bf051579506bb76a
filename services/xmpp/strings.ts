// Strings from bytes, without a new string where the same bytes were read before.
//
// Making a string from a buffer costs 60 ns, finding it here half of that, and a string that is kept is no garbage.
// The tables have one place per hash: what comes later takes the place, so they never grow.

/** A string from UTF-8 that has been checked. */
export function freshString(bytes: Buffer, start: number, end: number): string {
  return start === end ? '' : (bytes as unknown as Sliceable).utf8Slice(start, end)
}

/** The same, for what is likely to have been read before: names, namespaces, addresses, types. */
export function sharedString(bytes: Buffer, start: number, end: number): string {
  const length = end - start
  if (length === 0) return ''
  if (length > SHARED_BYTES_MAX) return freshString(bytes, start, end)
  let hash = length
  for (let i = start; i < end; i += 2) hash = (hash * 31 + bytes[i]!) | 0
  const slot = (hash ^ (hash >>> 10) ^ bytes[end - 1]!) & (SLOTS - 1)
  const kept = strings[slot]!
  if (kept.length === length) {
    let i = 0
    while (i < length && kept.charCodeAt(i) === bytes[start + i]) i++
    if (i === length) return kept
  }
  const made = freshString(bytes, start, end)
  if (made.length === length) strings[slot] = made // only ASCII: there a unit of the string is a byte
  return made
}

/** `{ns}name`. Both have come from `sharedString`, so that comparing them is comparing pointers. */
export function sharedClark(ns: string, name: string): string {
  const slot = (ns.length * 31 + name.length * 7 + ns.charCodeAt(ns.length - 1) + name.charCodeAt(0) * 5) & (CLARK_SLOTS - 1)
  const kept = clarks[slot]!
  if (kept.ns === ns && kept.name === name) return kept.clark
  const clark = `{${ns}}${name}`
  if (clark.length <= 2 * SHARED_BYTES_MAX) clarks[slot] = { ns, name, clark }
  return clark
}

/**
 * The same string in memory of its own. What is cut out of a longer string, or joined, refers to what it was made of and
 * keeps that alive; so whatever is kept of a stanza's text for long goes through here.
 */
export function own(text: string): string {
  if (text.length === 0) return ''
  return ASCII.test(text) ? Buffer.from(text, 'latin1').toString('latin1') : Buffer.from(text, 'utf16le').toString('utf16le')
}

/** What `toString('utf8', …)` calls, at half the price; Node has it on every Buffer, its types do not. */
interface Sliceable {
  utf8Slice(start: number, end: number): string
}

const ASCII = /^[\x00-\x7F]*$/

const SLOTS = 1024
const CLARK_SLOTS = 256
const SHARED_BYTES_MAX = 96

const strings: string[] = new Array<string>(SLOTS).fill('')
const clarks: { ns: string; name: string; clark: string }[] = new Array(CLARK_SLOTS).fill({ ns: '', name: '', clark: '' })
