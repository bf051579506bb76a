// Resource binding: RFC 6120 §7. A logged-in stream asks for a resource, and becomes a session.
import { errorOf } from '#core/answer.ts'
import type { Delivery } from '#core/envelope.ts'
import { StanzaError, StreamError } from '#xmpp/error.ts'
import { randomId } from '#xmpp/id.ts'
import { type Jid, NO_JID, prepareResource, withResource } from '#xmpp/jid.ts'
import { NS_BIND, NS_CLIENT } from '#xmpp/ns.ts'
import type { ScannedElement } from '#xmpp/scan.ts'
import { childOf, el, stanza, textOf } from '#xmpp/stanza.ts'
import type { Edge } from './main.ts'
import { EdgeSession } from './session.ts'
import type { ClientStream } from './stream.ts'

const BIND = `{${NS_BIND}}bind`

/** The first element after the login. Throws StreamError for what is no bind. */
export function takeBind(element: ScannedElement, account: Jid, edge: Edge, stream: ClientStream): void {
  const { id } = element
  if (
    element.ns !== NS_CLIENT ||
    element.name !== 'iq' ||
    element.child !== BIND ||
    element.type !== 'set' ||
    element.childCount !== 1
  ) {
    throw new StreamError('not-authorized', 'bind a resource first') // §7.1
  }
  const refuse = (error: StanzaError): void =>
    stream.answer(errorOf(stanza('iq', withResource(account, 'x'), { id, type: 'set' }), error))
  if (id === '') return refuse(new StanzaError('bad-request', 'an iq has an id')) // §8.1.3
  let resource = ''
  try {
    resource = resourceOf(element)
  } catch (error) {
    return refuse(new StanzaError('bad-request', (error as Error).message)) // §7.7.2.1
  }
  const session = randomId(12)
  const early: Delivery[] = []
  edge.early.set(session, early)
  const binding = edge.bind(account, session, resource).finally(() => edge.early.delete(session))
  stream.wait(binding, (bound) => {
    if (bound instanceof StanzaError) return refuse(bound)
    const made = new EdgeSession(session, bound, edge, stream)
    stream.bound(made)
    if (stream.state === 'closed') return
    stream.answer(stanza('iq', NO_JID, { id, type: 'result' }, el('bind', NS_BIND, {}, el('jid', NS_BIND, {}, bound.full))))
    for (const delivery of early) made.receive(delivery)
  })
}

/** Prepared; '' where the client leaves it to us. Throws JidError. */
function resourceOf(element: ScannedElement): string {
  const bind = element.element().children.find((child) => typeof child !== 'string')
  const asked = typeof bind === 'object' ? childOf(bind, 'resource', NS_BIND) : undefined
  const text = asked === undefined ? '' : textOf(asked)
  return text === '' ? '' : prepareResource(text)
}
