// What a stream is offered (RFC 6120 §4.3.2), and who may log in on it.

import type { ServerFacts } from '#core/module.ts'
import { factsOf } from '#core/settings/hosts.ts'
import { NS_BIND, NS_CLIENT, NS_SASL, NS_SESSION, NS_TLS } from '#xmpp/ns.ts'
import { type Element, el } from '#xmpp/stanza.ts'
import { serialise } from '#xmpp/xml.ts'
import type { ChannelBindingType, Connection } from '../listeners/connection.ts'
import { NO_BINDINGS } from '../listeners/tls-facts.ts'
import type { Edge } from '../main.ts'
import { certifiedOf } from '../sasl/external.ts'
import type { SaslContext } from '../sasl/mechanism.ts'
import type { Offer } from '../sasl/offer.ts'
import { NS_CSI } from '../sessions/inactive.ts'
import { NS_SM } from '../sessions/stream-management.ts'
import { inlineFeatures, NS_SASL2 } from './sasl2.ts'

const NS_CHANNEL_BINDING = 'urn:xmpp:sasl-cb:0' // XEP-0440
const NS_LIMITS = 'urn:xmpp:stream-limits:0' // XEP-0478

/** Inside TLS; where TLS is not required; or from loopback, where the switch allows it. */
export function mayLogIn(edge: Edge, connection: Connection): boolean {
  return connection.encrypted || !edge.c2s.requireTls || (edge.c2s.allowPlainOnLoopback && connection.loopback)
}

/** What a login on a stream is told of it, and what it is offered: the same whenever it is asked, as long as the TLS is the same. */
export function saslContextOf(edge: Edge, connection: Connection, domain: string): SaslContext {
  const { encrypted, loopback, clientCertificate } = connection
  const channelBinding = (type: ChannelBindingType) => connection.channelBinding?.(type)
  const certified = clientCertificate === undefined ? NOBODY : certifiedOf(clientCertificate.xmppAddrs, domain)
  const offer = edge.offers.of({
    plainAllowed: encrypted || (edge.c2s.allowPlainOnLoopback && loopback), // it shows the password to whoever listens
    certified: certified.length > 0,
    bindings: connection.channelBindings ?? NO_BINDINGS,
  })
  return { encrypted, offer, certified, channelBinding }
}

const NOBODY: readonly string[] = []

/** As text, with the stream's namespace around it. */
export function featuresBeforeLogin(edge: Edge, connection: Connection, domain: string): string {
  const { canStartTls, encrypted } = connection
  const offer = mayLogIn(edge, connection) ? saslContextOf(edge, connection, domain).offer : undefined
  const kind = `${canStartTls} ${encrypted} ${offer?.name}`
  return once(edge, domain, kind, (facts) => [
    ...(canStartTls ? [el('starttls', NS_TLS, {}, ...(offer === undefined ? [el('required', NS_TLS)] : []))] : []), // §5.4.1
    ...(offer === undefined ? [] : loginFeatures(edge, facts, offer, encrypted)),
  ])
}

function loginFeatures(
  edge: Edge,
  facts: ServerFacts,
  { bindings, mechanisms }: Offer,
  isEncrypted: boolean,
): readonly Element[] {
  const { limits, modules } = edge
  const types = bindings.map((type) => el('channel-binding', NS_CHANNEL_BINDING, { type }))
  return [
    ...(types.length > 0 ? [el('sasl-channel-binding', NS_CHANNEL_BINDING, {}, ...types)] : []),
    el('mechanisms', NS_SASL, {}, ...mechanisms.map((name) => el('mechanism', NS_SASL, {}, name))),
    ...(isEncrypted // XEP-0388 §2.1, §4
      ? [
          el(
            'authentication',
            NS_SASL2,
            {},
            ...mechanisms.map((name) => el('mechanism', NS_SASL2, {}, name)),
            inlineFeatures(edge, bindings),
          ),
        ]
      : []),
    streamLimits(limits.stanzaBytesBeforeLogin, Math.floor(limits.loginTimeoutMs / 1_000)),
    ...modules.flatMap((module) => module.streamFeaturesBeforeLogin?.(facts) ?? []),
  ]
}

/** The drivers of WebSockets ask for themselves whether a client is there: it need not say anything. */
export function featuresAfterLogin(edge: Edge, { framing }: Connection, domain: string): string {
  const { limits, modules } = edge
  return once(edge, domain, framing, (facts) => [
    el('bind', NS_BIND),
    el('session', NS_SESSION, {}, el('optional', NS_SESSION)), // RFC 3921 §3, for old clients
    el('sm', NS_SM), // XEP-0198 §2
    ...(limits.inactiveStanzas > 0 ? [el('csi', NS_CSI)] : []), // XEP-0352 §4.1
    ...modules.flatMap((module) => module.streamFeatures?.(facts, modules) ?? []),
    streamLimits(limits.stanzaBytes, framing === 'frame' ? 0 : limits.idleSeconds),
  ])
}

/** Behind a login by XEP-0388 that has bound a resource, or resumed a session. */
export function featuresWhenBound({ limits }: Edge, { framing }: Connection): string {
  return serialise([streamLimits(limits.stanzaBytes, framing === 'frame' ? 0 : limits.idleSeconds)], NS_CLIENT)
}

/** XEP-0478 §3.1. `idleSeconds` of 0 are not told. */
function streamLimits(bytes: number, idleSeconds: number): Element {
  const told = [el('max-bytes', NS_LIMITS, {}, String(bytes))]
  if (idleSeconds > 0) told.push(el('idle-seconds', NS_LIMITS, {}, String(idleSeconds)))
  return el('limits', NS_LIMITS, {}, ...told)
}

/** Made once for each of the few kinds of stream of an edge, and for domains with options of their own. */
function once(edge: Edge, domain: string, kind: string, make: (facts: ServerFacts) => readonly Element[]): string {
  const facts = factsOf(edge.server, domain)
  let byFacts = made.get(edge)
  if (byFacts === undefined) made.set(edge, (byFacts = new Map()))
  let byKind = byFacts.get(facts)
  if (byKind === undefined) byFacts.set(facts, (byKind = new Map()))
  const known = byKind.get(kind)
  if (known !== undefined) return known
  const features = serialise(make(facts), NS_CLIENT)
  byKind.set(kind, features)
  return features
}

const made = new WeakMap<Edge, Map<ServerFacts, Map<string, string>>>()
