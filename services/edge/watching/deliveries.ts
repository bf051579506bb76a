// What owners send to this edge, to the sockets: a stanza to the sessions that it names, what an account shows to those who see it
// (edge/watching/watching.ts), an order to a session. What was lost on its way, or comes from an owner who is none any more, is seen to.
import type { Subscription } from '#bus/bus.ts'
import type { Delivery, SessionDelivery } from '#core/envelope.ts'
import { receiveMulticast } from '#core/multicast/multicast-receiver.ts'
import { traceOn } from '#core/observing/trace.ts'
import type { Process } from '#core/process.ts'
import { bytesOf, copyOf } from '#xmpp/stanza.ts'
import type { Edge } from '../main.ts'
import { loseAll } from '../resync.ts'
import type { EdgeSession } from '../sessions/session.ts'
import { Kept } from '../sessions/stream-management.ts'
import { Outdated } from './outdated.ts'
import { Refreshing } from './refresh.ts'

/** Deliveries to a session that is being bound; what comes on top is lost, as if it had come before the bind. */
const EARLY_MAX = 1_000
/** The same in bytes. */
const EARLY_BYTES_MAX = 1024 * 1024

const SPAN_FIELDS = { role: 'edge' }

/** From now on. */
export function receiveDeliveries(process: Process, edge: Edge): Subscription {
  const { id, bus, ownership, metrics } = process
  const { clock, log, sessions } = edge
  const lost = metrics.counter(
    'deliveries_lost_total',
    'Times that deliveries were lost on their way to this edge, by role of their owner.',
    ['role'],
  )
  const outdated = new Outdated(ownership, sessions)
  const refreshing = new Refreshing(edge, process)
  return receiveMulticast({ bus, ownership, clock, log }, id, {
    delivery(delivery, sender) {
      const current = outdated.without(delivery, sender)
      if (current === undefined) refreshing.missed(delivery)
      else if (current.kind === 'order' && current.name === 'missed') void refreshing.refresh(sender)
      else if (current.kind === 'order' && current.name === 'forgotten') void refreshing.forgotten(sender)
      else deliver(edge, current)
    },
    lost(sender) {
      lost.labels(sender.role).inc()
      void refreshing.refresh(sender)
    },
  })
}

/** To the sockets, of whatever sessions it is for. */
function deliver(edge: Edge, delivery: Delivery): void {
  if (delivery.kind === 'shown')
    return traceOn('stanza.delivered', delivery.stanza, SPAN_FIELDS, () => edge.watching.receive(delivery))
  if (delivery.kind === 'stanza')
    return traceOn('stanza.delivered', delivery.stanza, SPAN_FIELDS, () => deliverStanza(edge, delivery))
  if (delivery.kind !== 'order') return edge.watching.receive(delivery)
  if (delivery.name === 'gone') return loseAll(edge, delivery.fields)
  if (edge.watching.order(delivery)) return
  const session = edge.sessions.get(delivery.session)
  if (session !== undefined) session.receive(delivery)
  else keep(edge, delivery.session, delivery)
}

/**
 * Sessions that keep what they are sent share one copy (edge/sessions/stream-management.ts); there is none where no session does. It
 * is given back only behind the last of them: one that ends because of it does not know who else will have it.
 */
function deliverStanza(edge: Edge, delivery: Delivery & { readonly kind: 'stanza' }): void {
  const { sessions, stanza, to } = delivery
  let kept: Kept | undefined
  let keeper: EdgeSession | undefined
  let taken = false
  for (let i = 0; i < sessions.length; i++) {
    const session = edge.sessions.get(sessions[i]!)
    if (session === undefined) keep(edge, sessions[i]!, delivery)
    else if (session.keeps) {
      if (kept === undefined) {
        kept = new Kept(stanza, to, edge.clock.now())
        kept.holders++
      }
      session.keep(kept)
      keeper = session
    } else {
      session.deliver(stanza, to)
      taken = true
    }
  }
  if (kept === undefined) return
  if (taken) kept.taken = true
  kept.holders--
  keeper!.giveBack(kept) // where none of them keeps it
}

function keep(edge: Edge, session: string, delivery: SessionDelivery): void {
  const early = edge.early.get(session)
  if (early === undefined || early.length >= EARLY_MAX) return
  let bytes = weightOf(delivery)
  for (const waiting of early) bytes += weightOf(waiting)
  if (bytes > EARLY_BYTES_MAX) return
  early.push(delivery.kind === 'stanza' ? { ...delivery, stanza: copyOf(delivery.stanza, delivery.stanza.trace) } : delivery)
}

function weightOf(delivery: SessionDelivery): number {
  return delivery.kind === 'stanza' ? bytesOf(delivery.stanza) : 0
}
