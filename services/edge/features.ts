// What a stream is offered (RFC 6120 §4.3.2), and who may log in on it.
import { NS_BIND, NS_SASL, NS_SESSION, NS_TLS } from '#xmpp/ns.ts'
import { type Element, el } from '#xmpp/stanza.ts'
import type { Connection } from './connection.ts'
import type { Edge } from './main.ts'
import { mechanisms } from './sasl/mechanism.ts'

/** Inside TLS; where TLS is not required; or from loopback, where the switch allows it. */
export function mayLogIn(edge: Edge, connection: Connection): boolean {
  return connection.encrypted || !edge.c2s.requireTls || (edge.c2s.allowPlainOnLoopback && connection.loopback)
}

/** PLAIN shows the password to whoever listens: inside TLS only, or from loopback where the switch allows it. */
export function plainAllowed(edge: Edge, connection: Connection): boolean {
  return connection.encrypted || (edge.c2s.allowPlainOnLoopback && connection.loopback)
}

export function featuresBeforeLogin(edge: Edge, connection: Connection): readonly Element[] {
  const features: Element[] = []
  const open = mayLogIn(edge, connection)
  if (connection.canStartTls) features.push(el('starttls', NS_TLS, {}, ...(open ? [] : [el('required', NS_TLS)]))) // §5.4.1
  if (!open) return features
  const offered = mechanisms({ encrypted: connection.encrypted, plainAllowed: plainAllowed(edge, connection) })
  features.push(el('mechanisms', NS_SASL, {}, ...offered.map((name) => el('mechanism', NS_SASL, {}, name))))
  for (const module of edge.modules) features.push(...(module.streamFeaturesBeforeLogin?.(edge.server) ?? []))
  return features
}

/** The same for every stream of an edge. */
export function featuresAfterLogin(edge: Edge): readonly Element[] {
  const known = afterLogin.get(edge)
  if (known !== undefined) return known
  const features = [
    el('bind', NS_BIND),
    el('session', NS_SESSION, {}, el('optional', NS_SESSION)), // RFC 3921 §3, for old clients
    ...edge.modules.flatMap((module) => module.streamFeatures?.(edge.server, edge.modules) ?? []),
  ]
  afterLogin.set(edge, features)
  return features
}

const afterLogin = new WeakMap<Edge, readonly Element[]>()
