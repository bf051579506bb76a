// What an account shows to whoever may see it, on its way to the sessions of this edge: a presence, or an event of PEP
// (XEP-0163) for those whose clients want it.
//
// However many sessions keep it (XEP-0198) or hold it back (XEP-0352), they share one copy. Nobody hands it back: who
// does not get it gets what is true then. And however many are written to, it is written once for each framing:
//
//   <presence from='romeo@…/garden' to='│ juliet@… │' type='…'><show>away</show></presence>
//             before                                     behind
import type { Clock } from '#core/clock.ts'
import { NS_PUBSUB_EVENT } from '#xmpp/ns.ts'
import { attr, childOf, type Element, find, rootTag, type Stanza } from '#xmpp/stanza.ts'
import { join } from '../listeners/gather.ts'
import { Kept } from '../sessions/stream-management.ts'

/** Nodes of which only the last item counts, whatever its id (XEP-0060 §12.20): XEP-0084, 0172, 0107, 0108, 0118, 0080, 0384. */
const SINGLETONS: ReadonlySet<string> = new Set([
  'urn:xmpp:avatar:metadata',
  'http://jabber.org/protocol/nick',
  'http://jabber.org/protocol/mood',
  'http://jabber.org/protocol/activity',
  'http://jabber.org/protocol/tune',
  'http://jabber.org/protocol/geoloc',
  'eu.siacs.conversations.axolotl.devicelist',
  'urn:xmpp:omemo:2:devices',
])

/** What is the same for all recipients: what comes before the address, escaped as an attribute is, and what comes behind it. */
export interface Written {
  readonly before: Uint8Array
  readonly behind: Uint8Array
}

export class Broadcast {
  readonly stanza: Stanza
  /** It is known that nobody here sees the resource that this is of. */
  isNew = false
  readonly #clock: Clock
  #kept: Kept | undefined
  #slot: string | undefined
  #inStream: Written | undefined
  #inFrame: Written | undefined

  /** Of a stanza that may be a view of what is used again. */
  constructor(stanza: Stanza, clock: Clock) {
    this.stanza = stanza
    this.#clock = clock
  }

  /** The one copy of all who keep it. */
  get kept(): Kept {
    if (this.#kept === undefined) {
      this.#kept = new Kept(this.stanza, 'bare', this.#clock.now())
      this.#kept.taken = true
    }
    return this.#kept
  }

  /** As a stream with this namespace on its stanzas has it (edge/streams/framing.ts). */
  written(xmlns: string): Written {
    if (xmlns !== '') return (this.#inFrame ??= write(this.stanza, xmlns))
    return (this.#inStream ??= write(this.stanza, ''))
  }

  /** A later one with the same takes its place; '' where none does. */
  get slot(): string {
    this.#slot ??= slotOf(this.kept.stanza)
    return this.#slot
  }
}

/** An attribute that is empty is the address alone: apostrophes inside of others are escaped. */
function write(stanza: Stanza, xmlns: string): Written {
  const { name, payload } = stanza
  const tag = rootTag(stanza, '', xmlns)
  const at = tag.indexOf(NO_ADDRESS) + NO_ADDRESS.length - 1
  const rest = tag.slice(at)
  return {
    before: Buffer.from(tag.slice(0, at), 'utf8'),
    behind: payload.length === 0 ? Buffer.from(`${rest}/>`, 'utf8') : join([`${rest}>`, payload, `</${name}>`]),
  }
}

const NO_ADDRESS = " to=''"

/** Of presence the resource that it is of; of an event the item, or the node where that has only one. */
function slotOf(stanza: Stanza): string {
  if (stanza.name === 'presence') return stanza.from.full
  const items = itemsOf(stanza)
  if (items === undefined) return ''
  const node = attr(items, 'node')
  if (SINGLETONS.has(node)) return `${stanza.from.full}\n${node}`
  const [item, ...others] = items.children.filter((child): child is Element => typeof child !== 'string')
  return item === undefined || others.length > 0 ? '' : `${stanza.from.full}\n${node}\n${attr(item, 'id')}`
}

function itemsOf(stanza: Stanza): Element | undefined {
  const event = stanza.child === '' ? undefined : find(stanza, 'event', NS_PUBSUB_EVENT)
  return event === undefined ? undefined : childOf(event, 'items', NS_PUBSUB_EVENT)
}
