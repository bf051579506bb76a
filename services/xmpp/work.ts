// What a scanner needs only while something is in the making: an element that has begun, a tag, the bytes that came of it.
//
// Most streams are silent most of the time, and between two stanzas there is nothing in the making. So there are as many
// of these as there are elements on their way, not as many as there are streams: a scanner takes one when bytes come, and gives
// it back when they end with nothing begun. What a stream has of its own, what its header declares, it keeps as a `Scope`.
import { strict as assert } from 'node:assert'
import { Gather } from './gather.ts'
import type { Scope } from './namespaces.ts'
import type { Element } from './stanza.ts'
import { freshString } from './strings.ts'
import { ATTRIBUTES_MAX, attributeValue, nameEnds, nameStarts, readStartTag, spells, TagEnd, tag } from './tag.ts'
import { type Head, Walk, type WalkLimits } from './walk.ts'
import { treeOf } from './xml.ts'

/** What waits to be used again; one that is given back on top is let go. */
const WAITING_MAX = 16
const NOTHING = Buffer.alloc(0)

export class Work {
  readonly scanned = new Scanned()
  readonly walk: Walk
  readonly tagEnd = new TagEnd()
  /** What has begun but not ended, from its `<`. */
  readonly pending = new Gather()

  constructor(limits: WalkLimits) {
    this.walk = new Walk(limits, this.scanned)
    this.scanned.walk = this.walk
  }
}

const waiting: Work[] = []

/** For a stream whose header declares `scope` and this default namespace. Nothing is in the making. */
export function takeWork(limits: WalkLimits, scope: Scope, outerNs: string): Work {
  const work = waiting.pop() ?? new Work(limits)
  const { walk } = work
  walk.limits = limits
  walk.outerNs = outerNs
  walk.namespaces.enterStream(scope)
  return work
}

/** Nothing of what came is in it any more. */
export function giveBack(work: Work): void {
  work.scanned.bytes = NOTHING
  work.scanned.payload = NOTHING
  if (waiting.length < WAITING_MAX) waiting.push(work)
}

/** An element as a handler is shown it. Valid during the call only. */
class Scanned implements Head {
  name = ''
  ns = ''
  to: string | undefined = undefined
  from: string | undefined = undefined
  id = ''
  type = ''
  lang = ''
  child = ''
  childCount = 0
  payload: Uint8Array = NOTHING
  bytes: Buffer = NOTHING
  start = 0
  end = 0
  walk: Walk | undefined = undefined

  attribute(name: string): string {
    const { bytes } = this
    assert(bytes.length > 0, 'a scanned element is valid only during the call')
    readStartTag(bytes, this.start + 1, this.end, ATTRIBUTES_MAX)
    for (let k = 0; k < tag.attributes; k++)
      if (spells(bytes, nameStarts[k]!, nameEnds[k]!, name)) return attributeValue(bytes, k, false)
    return ''
  }

  element(): Element {
    assert(this.bytes.length > 0 && this.walk !== undefined, 'a scanned element is valid only during the call')
    const { outerNs, namespaces, unusual, rootUnusual } = this.walk
    return treeOf(
      freshString(this.bytes, this.start, this.end),
      outerNs,
      namespaces.prefixes(),
      unusual | rootUnusual,
    )[0] as Element
  }
}
