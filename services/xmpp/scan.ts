// Bytes to stanzas: the one strict pass every byte from outside goes through.
//
// What comes is cut anywhere. A stanza that lies in one chunk is handed out as a view of it; one that does not is
// gathered from its first byte, and the walk (walk.ts) goes on where it stopped. Forwarding a payload as bytes is only
// safe because nothing passes here that two parsers could read in two ways ("XMPP stanza smuggling", 2022): what is
// legal but unusual is written anew from its tree, and the rest of what XML allows ends the stream (RFC 6120 §11).
//
//   'stream'  <?xml?>? <stream:stream …>  ( whitespace | stanza )*  </stream:stream>      RFC 6120 §4
//   'frame'   one root element a push                                                     RFC 7395 §3.3.3
import { strict as assert } from 'node:assert'
import { BANG, codePointAt, isSpace, LT, malformed, overLimit, QUESTION, restricted, SLASH } from './chars.ts'
import { StreamError } from './error.ts'
import { Gather } from './gather.ts'
import { type Namespaces, NO_SCOPE, type Scope } from './namespaces.ts'
import { NS_CLIENT, NS_STREAM } from './ns.ts'
import type { Element } from './stanza.ts'
import { freshString, sharedString } from './strings.ts'
import { attributeValue, nameEnds, nameStarts, readStartTag, tag } from './tag.ts'
import type { Head, WalkLimits } from './walk.ts'
import { giveBack, takeWork, type Work } from './work.ts'
import { asBuffer, serialise } from './xml.ts'

export interface ScanLimits extends WalkLimits {
  /** Of one stanza from its `<` to its last `>`, and of its payload once rewritten. */
  readonly stanzaBytes: number
}

export interface ScanHandler {
  /** `<stream:stream …>` (RFC 6120 §4.7). Only in 'stream' mode. */
  streamStart(open: StreamOpen): void
  /** One first-level child of the stream, or one frame's root. Valid only during the call: both it and its payload are used again. */
  element(element: ScannedElement): void
  /** `</stream:stream>`. Whatever follows is not read. */
  streamEnd(): void
}

/** A stream's header. Attributes are '' where absent. */
export interface StreamOpen {
  readonly name: string
  readonly ns: string
  /** 'jabber:client' or what else the peer declares as the content namespace (RFC 6120 §4.8.2); the edge decides. */
  readonly defaultNs: string
  readonly to: string
  readonly from: string
  readonly id: string
  readonly version: string
  readonly lang: string
}

/** A root's name and attributes, decoded; '' where absent, but `to` and `from` undefined. */
export interface ScannedElement extends Readonly<Head> {
  /** The first child element as `{ns}name`, '' where there is none. */
  readonly child: string
  /** How many child elements: an iq of type get or set has exactly one (RFC 6120 §8.2.3). */
  readonly childCount: number
  /** What is between the root's tags, self-contained below a root whose default namespace is jabber:client. */
  readonly payload: Uint8Array
  /** The value of any attribute of the root, by its name as it is written, decoded; '' where it is absent. Reads the root's tag once more. */
  attribute(name: string): string
  /** The whole as a tree, which may be kept. Parses. */
  element(): Element
}

export class Scanner {
  readonly #mode: 'stream' | 'frame'
  readonly #handler: ScanHandler
  #limits: ScanLimits
  /** While something is in the making, and while bytes are scanned. */
  #work: Work | undefined
  /** What the stream's header declares. */
  #scope: Scope = NO_SCOPE
  #outerNs = ''
  #state: number = BEFORE
  /** Nothing has come of this stream: only now may an XML declaration. */
  #fresh = true
  /** There was a stream before this one: whitespace ahead of the header is still of that one. */
  #again = false
  /** The header's name as written, which `</…>` must match. */
  #streamName = ''
  /** Where to go on in what has begun. */
  #resume = 0
  /** What came while paused: the rest of a chunk, then what was pushed since, in frames or all together. */
  #rest: Buffer = NOTHING
  #later: Gather | undefined
  #frames: Buffer[] | undefined
  #frameBytes = 0
  #paused = false
  #stopped = false
  #running = false
  /** Counts what makes a running scan drop the rest of its chunk. */
  #drops = 0

  constructor(mode: 'stream' | 'frame', limits: ScanLimits, handler: ScanHandler) {
    this.#mode = mode
    this.#handler = handler
    this.#limits = limits
  }

  /**
   * Takes what came: any piece of a stream, or one whole WebSocket message. Calls the handler before it returns, unless
   * paused. Throws StreamError on the first fault, and whatever the handler throws; either ends the scan.
   */
  push(chunk: Uint8Array): void {
    if (this.#stopped) return
    const bytes = asBuffer(chunk)
    if (this.#paused || this.#running) {
      if (this.#mode === 'stream') {
        this.#later ??= new Gather()
        this.#later.append(bytes, 0, bytes.length)
      } else {
        this.#frames ??= []
        this.#frames.push(Buffer.from(bytes))
        this.#frameBytes += bytes.length
      }
      return
    }
    this.#run(bytes, false)
    if (this.#later !== undefined || this.#frames !== undefined) this.#drain()
  }

  /** A new stream begins (RFC 6120 §4.3.3): namespaces, state and what was buffered are forgotten. Ends a pause. */
  reset(): void {
    this.stop()
    this.#stopped = false
    this.#paused = false
    this.#begin(false)
  }

  /**
   * A new stream begins behind the element that is being handled, inside the same TLS (RFC 6120 §6.4.6): what has come behind
   * it is the new stream's, for a client may send its header without waiting for the success (XEP-0305). A pause goes on.
   */
  restart(): void {
    assert(!this.#stopped && (this.#running || this.#work === undefined), 'a new stream begins behind a whole element')
    this.#begin(true)
  }

  #begin(again: boolean): void {
    this.#state = BEFORE
    this.#fresh = true
    this.#again = again
    this.#scope = NO_SCOPE
    this.#outerNs = ''
    if (this.#work === undefined) return
    this.#work.walk.namespaces.enterStream(NO_SCOPE)
    this.#work.walk.outerNs = ''
  }

  /** Emits nothing until `resume`; what comes is held, so stop reading. May be called by the handler. */
  pause(): void {
    this.#paused = true
  }

  /** Goes on with what was held. Throws as `push` does. */
  resume(): void {
    this.#paused = false
    if (!this.#running) this.#drain()
  }

  /** Emits nothing any more, and drops what is buffered: after a stream error, and before TLS (RFC 6120 §5.4.3.3). */
  stop(): void {
    this.#stopped = true
    this.#drops++
    this.#later = undefined
    this.#rest = NOTHING
    this.#frames = undefined
    this.#frameBytes = 0
    this.#work?.pending.clear()
    if (!this.#running) this.#giveBack()
  }

  /** Holds from the next element on. */
  setLimits(limits: ScanLimits): void {
    this.#limits = limits
    if (this.#work !== undefined) this.#work.walk.limits = limits
  }

  get bufferedBytes(): number {
    return (this.#work?.pending.length ?? 0) + this.#rest.length + (this.#later?.length ?? 0) + this.#frameBytes
  }

  #drain(): void {
    while (!this.#paused && !this.#stopped) {
      if (this.#rest.length > 0) {
        const bytes = this.#rest
        this.#rest = NOTHING
        this.#run(bytes, true)
      } else if (this.#later !== undefined) {
        this.#rest = this.#later.take()
        this.#later = undefined
      } else {
        const frame = this.#frames?.shift()
        if (frame === undefined) {
          this.#frames = undefined
          return
        }
        this.#frameBytes -= frame.length
        this.#run(frame, true)
      }
    }
  }

  /** Scans to the end of `bytes`, or until paused or stopped. `ours`: the bytes stay as they are, and may be held. */
  #run(bytes: Buffer, ours: boolean): void {
    const drops = this.#drops
    this.#running = true
    const work = (this.#work ??= takeWork(this.#limits, this.#scope, this.#outerNs))
    try {
      if (this.#mode === 'frame') {
        this.#frame(bytes)
        return
      }
      let at = 0
      while (at < bytes.length) {
        at = work.pending.length > 0 ? this.#more(bytes, at) : this.#next(bytes, at)
        if (this.#drops !== drops) return
        if (this.#paused) {
          const rest = bytes.subarray(at)
          if (rest.length > 0) this.#rest = ours ? rest : Buffer.from(rest)
          return
        }
      }
    } catch (error) {
      this.stop()
      throw error
    } finally {
      this.#running = false
      if (work.pending.length === 0) this.#giveBack()
    }
  }

  /** Nothing is in the making. */
  #giveBack(): void {
    if (this.#work === undefined) return
    giveBack(this.#work)
    this.#work = undefined
  }

  /** Passes over whitespace, then over the stanza or tag that follows it. Returns the position behind. */
  #next(bytes: Buffer, from: number): number {
    let at = from
    if (this.#state === ENDED) return bytes.length
    while (at < bytes.length && isSpace(bytes[at]!)) at++ // RFC 6120 §4.6.1: keepalives, kept nowhere
    if (at > from && !this.#again) this.#fresh = false
    if (at === bytes.length) return at
    if (bytes[at] !== LT) throw this.#textOutside(bytes, at)
    const after = this.#item(bytes, at, at, bytes.length)
    if (after >= 0) return after
    this.#work!.pending.append(bytes, at, bytes.length)
    return bytes.length
  }

  /** Goes on with what has begun. It takes from the chunk by doubling, so as to copy little that lies behind its end. */
  #more(bytes: Buffer, from: number): number {
    const { pending } = this.#work!
    let at = from
    while (at < bytes.length) {
      const had = pending.length
      const take = Math.min(bytes.length - at, Math.max(had, GATHER_BYTES_MIN))
      pending.append(bytes, at, at + take)
      const after = this.#item(pending.bytes, 0, this.#resume, pending.length)
      if (after >= 0) {
        pending.clear()
        return at + after - had
      }
      at += take
    }
    return at
  }

  /** What begins with the `<` at `base`, of which all before `from` has been seen. Returns the position behind it, -1 where it is cut off. */
  #item(bytes: Buffer, base: number, from: number, end: number): number {
    switch (this.#state) {
      case BEFORE:
        return this.#opening(bytes, base, from, end)
      case IN_END:
        return this.#ending(bytes, base, from, end)
      case BETWEEN:
        if (end - base < 2) {
          this.#resume = 0
          return -1
        }
        if (bytes[base + 1] === SLASH) {
          this.#state = IN_END
          this.#work!.tagEnd.begin()
          return this.#ending(bytes, base, base + 2, end)
        }
        this.#work!.walk.begin()
        this.#state = IN_STANZA
        return this.#stanza(bytes, base, base, end)
      default:
        return this.#stanza(bytes, base, from, end)
    }
  }

  #stanza(bytes: Buffer, base: number, from: number, end: number): number {
    const { walk } = this.#work!
    const at = walk.walk(bytes, base, from, end)
    const { done } = walk
    if ((done ? at : end) - base > this.#limits.stanzaBytes) throw overLimit(`a stanza over ${this.#limits.stanzaBytes} bytes`)
    if (!done) {
      this.#resume = at - base
      return -1
    }
    this.#state = BETWEEN
    this.#emit(bytes, base, at)
    return at
  }

  #frame(bytes: Buffer): void {
    if (bytes.length > this.#limits.stanzaBytes) throw overLimit(`a stanza over ${this.#limits.stanzaBytes} bytes`)
    // RFC 7395 §3.8: each message starts with `<`, and there are no whitespace keepalives.
    if (bytes[0] !== LT) throw this.#textOutside(bytes, 0)
    let base = 0
    if (bytes[1] === QUESTION) {
      // RFC 7395 §3.3.3: a declaration is NOT RECOMMENDED, so it may come.
      const close = bytes.indexOf('>')
      if (close < 0) throw malformed('an XML declaration that does not end')
      refuseDeclaration(freshString(bytes, 0, close + 1))
      base = close + 1
      while (base < bytes.length && isSpace(bytes[base]!)) base++
      if (bytes[base] !== LT) throw malformed('no element')
    }
    const { walk } = this.#work!
    walk.begin()
    const at = walk.walk(bytes, base, base, bytes.length)
    if (!walk.done) throw malformed('a frame that is not a whole element')
    for (let i = at; i < bytes.length; i++) if (!isSpace(bytes[i]!)) throw this.#behindFrame(bytes, i)
    this.#emit(bytes, base, at)
  }

  #behindFrame(bytes: Buffer, at: number): StreamError {
    if (bytes[at] === LT && (bytes[at + 1] === BANG || bytes[at + 1] === QUESTION))
      return restricted('a comment or processing instruction')
    return malformed('more than one element in a frame')
  }

  #emit(bytes: Buffer, base: number, end: number): void {
    const { walk, scanned } = this.#work!
    scanned.bytes = bytes
    scanned.start = base
    scanned.end = end
    if (walk.contentEnd === walk.contentStart) scanned.payload = NOTHING
    else if (walk.unusual !== 0 || walk.namespaces.outside || (walk.innerNs !== NS_CLIENT && scanned.childCount > 0))
      scanned.payload = rewritten(scanned, this.#limits.stanzaBytes)
    else scanned.payload = bytes.subarray(base + walk.contentStart, base + walk.contentEnd)
    this.#handler.element(scanned)
    scanned.bytes = NOTHING // the chunk is not ours to keep alive
    scanned.payload = NOTHING
  }

  /** The XML declaration or the stream's header (RFC 6120 §4.2, §11.5). */
  #opening(bytes: Buffer, base: number, from: number, end: number): number {
    if (end - base < 2) {
      this.#resume = 0
      return -1
    }
    if (from < base + 2) {
      if (bytes[base + 1] === BANG) throw restricted('a comment or declaration')
      if (bytes[base + 1] === QUESTION && !this.#fresh) throw restricted('a processing instruction')
      this.#work!.tagEnd.begin()
      from = base + 1
    }
    const close = this.#work!.tagEnd.find(bytes, from, end)
    if ((close < 0 ? end : close + 1) - base > HEADER_BYTES_MAX) throw overLimit(`a stream header over ${HEADER_BYTES_MAX} bytes`)
    if (close < 0) {
      this.#resume = end - base
      return -1
    }
    this.#fresh = false
    if (bytes[base + 1] === QUESTION) refuseDeclaration(freshString(bytes, base, close + 1))
    else this.#header(bytes, base, close + 1)
    return close + 1
  }

  #header(bytes: Buffer, base: number, end: number): void {
    const { walk } = this.#work!
    const { namespaces } = walk
    assert(readStartTag(bytes, base + 1, end, this.#limits.attributes) === end, 'a whole tag is not cut off')
    const scope = namespaces.enterHeader(bytes, this.#limits.namespaceBytes)
    const open = streamOpen(bytes, namespaces)
    // RFC 6120 §4.9.3.10, §4.8.1; another element in that namespace is no stream at all.
    if (open.ns !== NS_STREAM) throw new StreamError('invalid-namespace', `a stream is in the namespace ${NS_STREAM}`)
    if (open.name !== 'stream') throw new StreamError('bad-format', 'the root is no <stream/>')
    this.#streamName = sharedString(bytes, tag.nameStart, tag.nameEnd)
    this.#scope = scope
    this.#outerNs = open.defaultNs
    walk.outerNs = open.defaultNs
    this.#state = BETWEEN
    const { selfClosing } = tag
    const drops = this.#drops
    this.#handler.streamStart(open)
    if (selfClosing && this.#drops === drops) {
      this.#state = ENDED
      this.#handler.streamEnd()
    }
  }

  #ending(bytes: Buffer, base: number, from: number, end: number): number {
    const close = this.#work!.tagEnd.find(bytes, from, end)
    if ((close < 0 ? end : close + 1) - base > HEADER_BYTES_MAX) throw overLimit(`an end tag over ${HEADER_BYTES_MAX} bytes`)
    if (close < 0) {
      this.#resume = end - base
      return -1
    }
    const name = freshString(bytes, base + 2, close)
    if (name.replace(/[ \t\r\n]+$/, '') !== this.#streamName) throw malformed('an end tag that does not match')
    this.#state = ENDED
    this.#handler.streamEnd()
    return close + 1
  }

  /** RFC 6120 §11.3 before the header; inside a stream or frame it is XML, but nothing that can be processed (§4.9.3.1). */
  #textOutside(bytes: Buffer, at: number): StreamError {
    if (at < bytes.length && bytes[at]! >= 0x80) codePointAt(bytes, at, bytes.length) // not UTF-8 is the more exact fault
    if (this.#state === BEFORE && this.#mode === 'stream') return malformed('text before the stream header')
    return new StreamError('bad-format', 'text outside of a stanza')
  }
}

/** The children, written anew so that they stand by themselves. What was cheap to send may be long to write, hence the bound. */
function rewritten(scanned: ScannedElement, bytesMax: number): Uint8Array {
  const { children } = scanned.element()
  let text = ''
  try {
    text = serialise(children, NS_CLIENT, bytesMax)
  } catch (error) {
    if (!(error instanceof RangeError)) throw error
    throw overLimit(`a stanza over ${bytesMax} bytes once its namespaces are written out`)
  }
  const bytes = Buffer.from(text)
  if (bytes.length > bytesMax) throw overLimit(`a stanza over ${bytesMax} bytes once its references are written out`)
  return bytes
}

/** The header that the last tag is. */
function streamOpen(bytes: Buffer, namespaces: Namespaces): StreamOpen {
  const attributes = new Map<string, string>()
  for (let k = 0; k < tag.attributes; k++)
    attributes.set(freshString(bytes, nameStarts[k]!, nameEnds[k]!), attributeValue(bytes, k, false))
  const defaultNs = namespaces.defaultNs ?? ''
  return {
    name: freshString(bytes, tag.colon < 0 ? tag.nameStart : tag.colon + 1, tag.nameEnd),
    ns: tag.colon < 0 ? defaultNs : namespaces.prefixNs,
    defaultNs,
    to: attributes.get('to') ?? '',
    from: attributes.get('from') ?? '',
    id: attributes.get('id') ?? '',
    version: attributes.get('version') ?? '',
    lang: attributes.get('xml:lang') ?? '',
  }
}

/** XML 1.0 §2.8 XMLDecl; RFC 6120 §11.5, §11.6. */
function refuseDeclaration(text: string): void {
  if (!/^<\?xml[ \t\r\n]/.test(text)) throw restricted('a processing instruction')
  const match = DECLARATION.exec(text)
  if (match === null) throw malformed('a malformed XML declaration')
  const encoding = match[1] ?? match[2]
  if (encoding !== undefined && encoding.toLowerCase() !== 'utf-8') throw new StreamError('unsupported-encoding', 'not UTF-8')
}

const BEFORE = 0
const BETWEEN = 1
const IN_STANZA = 2
const IN_END = 3
const ENDED = 4

const HEADER_BYTES_MAX = 8192
const GATHER_BYTES_MIN = 1024
const NOTHING = Buffer.alloc(0)
const DECLARATION =
  /^<\?xml[ \t\r\n]+version[ \t\r\n]*=[ \t\r\n]*(?:'1\.0'|"1\.0")(?:[ \t\r\n]+encoding[ \t\r\n]*=[ \t\r\n]*(?:'([A-Za-z][\w.-]*)'|"([A-Za-z][\w.-]*)"))?(?:[ \t\r\n]+standalone[ \t\r\n]*=[ \t\r\n]*(?:'(?:yes|no)'|"(?:yes|no)"))?[ \t\r\n]*\?>$/
