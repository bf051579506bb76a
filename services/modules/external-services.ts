// XEP-0215: External Service Discovery: where clients find STUN and TURN, for calls, and what they log in there with.
//
// TURN servers and this one share a secret. A credential is a user name that begins with the second at which it expires, and
// as its password the HMAC of that name (draft-uberti-behave-turn-rest-00; coturn: `use-auth-secret`), so neither has to ask the
// other. Behind the colon of the name is what tells one account from another in the log of a TURN server, and not who it is.
import { createHmac } from 'node:crypto'
import { type App, defineModule, type IqCall } from '#core/module.ts'
import { StanzaError } from '#xmpp/error.ts'
import type { Jid } from '#xmpp/jid.ts'
import { NS_DISCO_INFO } from '#xmpp/ns.ts'
import { attr, childrenOf, type Element, el } from '#xmpp/stanza.ts'
import { formatDateTime } from '#xmpp/time.ts'

const NS = 'urn:xmpp:extdisco:2'
/** COMPAT: of version 0.6, which clients still ask in; its elements are the same. */
const NS_OLD = 'urn:xmpp:extdisco:1'

interface Options {
  services: readonly string[]
  turnSecret: string
  credentialSeconds: number
}

/** RFC 7064, RFC 7065. */
interface Service {
  readonly type: 'stun' | 'stuns' | 'turn' | 'turns'
  readonly host: string
  readonly port: string
  readonly transport: 'udp' | 'tcp'
}

export default defineModule<void, Options>({
  name: 'external-services',
  home: 'router',
  xeps: [{ number: '0215', version: '1.0.0' }],
  namespaces: [NS, NS_OLD],
  options: {
    services: {
      default: [],
      max: 50,
      perDomain: true,
      entry: {
        right:
          'a URI such as stun:stun.example.org, turn:turn.example.org:3478?transport=udp or turns:turn.example.org:5349?transport=tcp',
        prepare: checkedService,
      },
      doc: 'STUN and TURN servers that clients are told of, for calls: URIs as `turn:turn.example.org:3478?transport=udp`.',
    },
    turnSecret: {
      default: '',
      max: 500,
      perDomain: true,
      doc: 'The secret that the TURN servers share with this one (coturn: `use-auth-secret`, `static-auth-secret`); better in the environment than in a file that many can read.',
    },
    credentialSeconds: {
      default: 43_200,
      min: 60,
      max: 604_800,
      perDomain: true,
      doc: 'How long the credentials for TURN hold that a client is given.',
    },
  },

  hostForms({ services }) {
    return services.length === 0 ? [] : [NS, NS_OLD].map((ns) => el('feature', NS_DISCO_INFO, { var: ns })) // §5
  },

  setup(app) {
    for (const domain of app.server.domains) {
      const { services, turnSecret } = app.optionsOf(domain)
      const turn = services.find((uri) => isTurn(parseService(uri)))
      if (turn !== undefined && turnSecret === '')
        throw new Error(`modules.external-services.turnSecret is missing: without it nobody can log in to ${turn}`)
    }
    for (const ns of [NS, NS_OLD]) {
      app.iq('get', ns, 'services', 'host', (call) => list(app, call, ns))
      app.iq('get', ns, 'credentials', 'host', (call) => credentials(app, call, ns))
    }
  },
})

/** §3.1, §3.2. */
function list(app: App<Options>, call: IqCall, ns: string): Element {
  const options = optionsFor(app, call)
  const type = attr(call.payload, 'type')
  const services = options.services.map(parseService).filter((service) => type === '' || service.type === type)
  const elements = services.map((service) => elementOf(service, call.account, options, ns, app.clock.now()))
  return el('services', ns, { type: type === '' ? undefined : type }, ...elements)
}

/** §3.3: of one service, which may have several ports and transports. */
function credentials(app: App<Options>, call: IqCall, ns: string): Element {
  const options = optionsFor(app, call)
  const [asked, ...others] = childrenOf(call.payload, 'service', ns)
  if (asked === undefined || others.length > 0) throw new StanzaError('bad-request', 'credentials are asked for one service')
  const [type, host, port] = [attr(asked, 'type'), attr(asked, 'host'), attr(asked, 'port')]
  if (type === '' || host === '') throw new StanzaError('bad-request', 'a service has a host and a type')
  const found = options.services
    .map(parseService)
    .filter((service) => service.type === type && service.host === host && (port === '' || service.port === port))
  if (found.length === 0) throw new StanzaError('item-not-found', 'there is no such service')
  return el('credentials', ns, {}, ...found.map((service) => elementOf(service, call.account, options, ns, app.clock.now())))
}

/** Throws forbidden to whoever has no account here: relaying costs, and it is the users of this server it is paid for. */
function optionsFor(app: App<Options>, { session, iq }: IqCall): Options {
  if (session === undefined) throw new StanzaError('forbidden', 'these services are for the users of this server')
  const options = app.optionsOf(iq.to!.domain)
  if (options.services.length === 0) throw new StanzaError('service-unavailable')
  return options
}

function elementOf(
  service: Service,
  account: Jid,
  { turnSecret, credentialSeconds }: Options,
  ns: string,
  nowMs: number,
): Element {
  const { type, host, port, transport } = service
  if (!isTurn(service)) return el('service', ns, { type, host, port, transport })
  const expiresS = Math.floor(nowMs / 1_000) + credentialSeconds
  const username = `${expiresS}:${createHmac('sha256', turnSecret).update(`account\0${account.bare}`, 'utf8').digest('hex').slice(0, 16)}`
  const password = createHmac('sha1', turnSecret).update(username, 'utf8').digest('base64')
  const expires = formatDateTime(expiresS * 1_000)
  return el('service', ns, { type, host, port, transport, restricted: '1', username, password, expires })
}

function isTurn({ type }: Service): boolean {
  return type === 'turn' || type === 'turns'
}

/** Throws Error where it is none. */
function parseService(uri: string): Service {
  const match =
    /^(stuns?|turns?):(\[[0-9a-f:.]+\]|[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?)(?::(\d{1,5}))?(?:\?transport=(udp|tcp))?$/i.exec(uri)
  if (match === null) throw new Error('no address of STUN or TURN')
  const [, scheme, host, port, transport] = match as unknown as [string, string, string, string | undefined, string | undefined]
  const type = scheme.toLowerCase() as Service['type']
  const isTls = type.endsWith('s')
  if (port !== undefined && (Number(port) === 0 || Number(port) > 65_535)) throw new Error('no port')
  return {
    type,
    host: host.replace(/^\[|\]$/g, ''),
    port: port ?? (isTls ? '5349' : '3478'),
    transport: (transport?.toLowerCase() as 'udp' | 'tcp' | undefined) ?? (isTls ? 'tcp' : 'udp'),
  }
}

function checkedService(uri: string): string {
  parseService(uri)
  return uri
}
