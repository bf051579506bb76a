// Every key of the server, in one place: name, default, bounds and what it means.
//
// docs/configuration.md is printed from here (`npm run docs`); the options of modules are declared in the modules.
import { isIP } from 'node:net'
import * as z from 'zod'
import { checkServerUrl } from '#bus/server-url.ts'
import { parseJid, prepareDomain } from '#xmpp/jid.ts'
import { SCRAM_HASHES } from '../storage/scram-keys.ts'
import {
  flag,
  list,
  type ModuleOptions,
  maybeFlag,
  maybeText,
  optionsSchema,
  override,
  perDomainSchema,
  port,
  section,
  text,
  whole,
  word,
} from './options.ts'

const KIB = 1024
const MIB = 1024 * KIB

const ADDRESS = {
  right: 'an IP address, such as 127.0.0.1 or ::',
  entry: (address: string) => {
    if (isIP(address) === 0) throw new Error('names are not looked up')
    return address
  },
}

const LIMITS = {
  stanzaBytes: whole(
    256 * KIB,
    'Bytes of one stanza; a bigger one ends the stream with policy-violation (RFC 6120 §13.12 asks for 10000 at least; the most leaves room for addresses in a row of storage).',
    10_000,
    384_000,
  ),
  stanzaBytesBeforeLogin: whole(
    10_000,
    'The same until the client has authenticated; not more than `stanzaBytes`.',
    10_000,
    384_000,
  ),
  depth: whole(100, 'Elements within each other in one stanza.', 10, 1000),
  attributes: whole(64, 'Attributes of one element.', 16, 1000),
  elements: whole(15_000, 'Elements of one stanza.', 100, 100_000),
  namespaceBytes: whole(256, 'Bytes of one namespace name.', 64, 4096),
  loginTimeoutMs: whole(
    30_000,
    'From connecting to a bound resource; then the stream ends with connection-timeout.',
    1000,
    600_000,
  ),
  connectionsBeforeLogin: whole(
    5000,
    'Connections that have not logged in, of all clients together; one more is closed at once.',
    10,
    1_000_000,
  ),
  connectionsPerAddress: whole(
    1000,
    'Connections from one IP address (of IPv6, the first 64 bits), logged in or not; one more is closed at once. This machine and `trustedProxies` have no such bound. 0: nobody has.',
    0,
    1_000_000,
  ),
  loginsPerSecond: whole(
    1000,
    'Logins that begin in a second on one edge when many come at once; the others wait their turn, and who would wait longer than half of `loginTimeoutMs` is told to come again. 0: no bound.',
    0,
    1_000_000,
  ),
  loginFailuresPerStream: whole(5, 'Failed logins before the stream ends (RFC 6120 §6.4.5).', 1, 100),
  loginFailuresPerAccountAndAddress: whole(
    10,
    'Wrong passwords for one account from one IP address (of IPv6, the first 64 bits) within `loginFailureWindowMs`; then, until it is over, each login to that account from there is refused with temporary-auth-failure, whatever the password. 0: no bound.',
    0,
    1_000_000,
  ),
  loginFailuresPerAddress: whole(
    100,
    'The same from one IP address for all accounts together. Behind a proxy, set `trustedProxies`, or all of its users count as one address. 0: no bound.',
    0,
    1_000_000,
  ),
  loginFailuresPerAccount: whole(
    50,
    'Wrong passwords for one account from all addresses within `loginFailureWindowMs`; from then on each login to it waits, a second for every so many, at most five: nobody can lock another one out. 0: no bound.',
    0,
    1_000_000,
  ),
  loginFailureWindowMs: whole(600_000, 'How long a wrong password is remembered, from the first one on.', 1000, 86_400_000),
  registrationsPerHourPerAddress: whole(10, 'Accounts that one IP address may register in an hour; 0: no bound.', 0, 1_000_000),
  sessionsPerAccount: whole(
    100,
    'Resources that one account may have bound at once; one more is refused with resource-constraint.',
    1,
    10_000,
  ),
  inFlightPerSession: whole(
    64,
    'Stanzas of one session that are not acked yet; with so many, it is not read from until some are.',
    1,
    10_000,
  ),
  bytesPerSecond: whole(
    512 * KIB,
    'Bytes of one session that are read in a second, once its burst is used up; what comes faster waits in its socket. 0: no bound.',
    0,
    1024 * MIB,
  ),
  bytesBurst: whole(MIB, 'Bytes of one session that are read as fast as they come.', 64 * KIB, 1024 * MIB),
  stanzasPerSecond: whole(1000, 'As `bytesPerSecond`, in stanzas. 0: no bound.', 0, 1_000_000),
  stanzasBurst: whole(5000, 'As `bytesBurst`, in stanzas.', 100, 1_000_000),
  bytesPerSecondBeforeLogin: whole(
    4 * KIB,
    'Bytes of one stream that are read in a second until it has logged in, after twice `stanzaBytesBeforeLogin`; of elements then 5, after 50. 0: no bound.',
    0,
    1024 * MIB,
  ),
  unackedStanzas: whole(
    1000,
    'Stanzas that one client may leave unacknowledged (XEP-0198) while it is away, in half of `writeBufferBytes`, and four times as much while it is there; beyond that its session ends, and what it has not had goes to others or is kept.',
    100,
    100_000,
  ),
  resumeSeconds: whole(
    300,
    'For how long a session waits for its client after its connection was lost, and is shown as online (XEP-0198); a client may ask for less. 0: sessions are not resumed.',
    0,
    86_400,
  ),
  inactiveStanzas: whole(
    1000,
    'Presences and events that wait for one client while it says that it is inactive (XEP-0352), of each resource of a contact the latest, in 1 MiB; with so many they are all sent. 0: nothing waits, and XEP-0352 is not offered.',
    0,
    100_000,
  ),
  idleSeconds: whole(
    300,
    'A client that has been silent for so long is asked whether it is there, and cut off when it says nothing for 60 seconds more; of WebSockets, whose pings do the same, none is. 0: nobody is asked.',
    0,
    86_400,
  ),
  writeBufferBytes: whole(
    MIB,
    'Bytes that may wait for one client once the kernel takes no more; one that lags further behind is cut off when it takes nothing for 30 seconds, or when four times as much waits.',
    512 * KIB,
    256 * MIB,
  ),
}

const SHAPE = {
  domains: list(['localhost'], 'The domains whose accounts live here.', {
    min: 1,
    max: 1000,
    right: 'a domain name, such as example.org',
    entry: prepareDomain,
  }),
  listen: list(
    ['127.0.0.1'],
    'The addresses that every port below is opened on; `0.0.0.0` stands for all of IPv4, `::` for all of both.',
    {
      min: 1,
      max: 100,
      ...ADDRESS,
    },
  ),
  data: text('./data', 'The folder of what this process keeps: the embedded table, certificates, uploads.', {
    min: 1,
    max: 4096,
  }),
  tls: section('Certificates', {
    cert: list(
      [],
      'Files of certificates, each with its chain, PEM. Each is shown for the hosts that it names, the first also for all others; without any, a self-signed one is made in `data`. They are read again when they change, and on SIGHUP.',
      { max: 1000 },
    ),
    key: list([], 'Files of their private keys, PEM, in the same order.', { max: 1000 }),
    clientCa: maybeText(
      'File of the authorities whose certificates clients may log in with over TCP, PEM (SASL EXTERNAL, XEP-0178); without it no client is asked for one.',
    ),
  }),
  c2s: section('Clients over TCP', {
    port: port(5222, 'Where clients connect and then start TLS (RFC 6120 §5).'),
    tlsPort: port(5223, 'Where clients connect with TLS from the first byte (XEP-0368).'),
    requireTls: flag(true, 'A client must have started TLS before it authenticates.'),
    allowPlainOnLoopback: flag(
      false,
      'A client on a loopback address may authenticate without TLS, over TCP and WebSocket; refused from any other address.',
    ),
    proxyProtocol: flag(
      false,
      'Each TCP connection begins with a PROXY header, of version 1 or 2, and is closed if it does not, or if it comes from any other address than those of `trustedProxies`; where there are none, than this machine. That a client came to the proxy by TLS is believed of `trustedProxies` only.',
    ),
  }),
  websocket: section('Clients over WebSocket (RFC 7395)', {
    port: port(5290, 'Where browsers connect.'),
    path: text('/xmpp-websocket', 'The path of the endpoint.', {
      max: 200,
      form: /^\/[\w.~/-]*$/,
      right: 'a path, such as /xmpp-websocket',
    }),
    tls: flag(false, 'TLS on this port, with the certificate above; false where a proxy in front does it.'),
  }),
  http: section('HTTP', {
    port: port(5280, 'Front page, host-meta, chat page.'),
  }),
  metrics: section('Metrics and health', {
    port: port(9090, 'Where `/metrics` and the health checks are; keep it from the public.'),
    listen: list([], 'The addresses of this port; none: those of `listen` above.', { max: 100, ...ADDRESS }),
  }),
  trustedProxies: list(
    [],
    'Addresses or networks whose X-Forwarded-For and X-Forwarded-Proto headers are believed, and with `c2s.proxyProtocol` their PROXY headers.',
    {
      max: 1000,
      right: 'an IP address or a network, such as 10.0.0.1 or 10.0.0.0/8',
      entry: network,
    },
  ),
  registration: word(
    'closed',
    ['open', 'invite', 'closed'],
    'Who may make an account (XEP-0077): anyone, or nobody; `invite` is not in this version.',
  ),
  admins: list(
    [],
    'Accounts that may administer the domain they are on, from any client with ad-hoc commands (XEP-0050, XEP-0133).',
    { max: 1000, right: 'an account, such as admin@example.org', entry: preparedAccount },
  ),
  scram: section('Passwords', {
    iterations: whole(
      10_000,
      'Rounds of SCRAM for passwords set from now on (RFC 7677 asks for 4096 at least); each login costs a client as many.',
      4096,
      1_000_000,
    ),
    hashes: list(
      [...SCRAM_HASHES],
      'The SCRAM mechanisms that are offered, each also as -PLUS where there is TLS. Keys are stored for all three; take out one that accounts brought from elsewhere have no keys for, or their clients will choose it and fail.',
      {
        min: 1,
        max: SCRAM_HASHES.length,
        right: SCRAM_HASHES.join(', '),
        entry: (name) => {
          if (!SCRAM_HASHES.some((hash) => hash === name)) throw new Error('no such hash')
          return name
        },
      },
    ),
  }),
  bus: section('Between processes', {
    driver: word('memory', ['memory', 'nats'], '`memory`: all roles are in this process; `nats`: they meet on a NATS server.'),
    servers: list(
      [],
      'For `nats`: where its servers are, as `nats://HOST:PORT`, or `tls://HOST:PORT`; of one that stands alone the others of its cluster are learnt.',
      { max: 100, right: 'an address, such as nats://127.0.0.1:4222', entry: checkServerUrl },
    ),
    prefix: text('rookery', 'For `nats`: what every subject begins with; a deployment has its own where several share a NATS.', {
      max: 100,
      form: /^[\w-]+(?:\.[\w-]+)*$/,
      right: 'letters, digits, - and _, with dots between them',
    }),
    credentials: maybeText(
      'For `nats`: the file of credentials that `nsc` writes, or of an nkey seed (SU…). It is read again for each connection.',
    ),
    user: maybeText('For `nats`: the name to log in with, together with `password`.'),
    password: maybeText('For `nats`: its password; better in the environment than in a file that many can read.'),
    token: maybeText('For `nats`: the token to log in with.'),
    tls: section('TLS between processes', {
      ca: maybeText(
        'For `nats`: file of the authorities whose certificates its servers may have, PEM; else those Node.js knows.',
      ),
      cert: maybeText('For `nats`: file of a certificate of our own, PEM, where its servers ask for one.'),
      key: maybeText('For `nats`: file of its private key, PEM.'),
    }),
  }),
  table: section('Storage', {
    driver: word('sqlite', ['sqlite', 'dynamodb'], '`sqlite`: a file in `data`, for one process; `dynamodb`: for a cluster.'),
    endpoint: maybeText('For `dynamodb`: where it is, if it is not AWS, such as http://127.0.0.1:8000.'),
    region: maybeText('For `dynamodb`: the AWS region; by default that of the environment (`AWS_REGION`) or the profile.'),
    prefix: maybeText('For `dynamodb`: its table is called `<prefix>-rows`; by default `rookery-rows`.'),
    create: maybeFlag(
      'For `dynamodb`: the table is made at the first start, paid by request and with its TTL on, which is the default; false where it is made otherwise.',
    ),
    accessKeyId: maybeText(
      'For DynamoDB Local only, which takes any. AWS: leave it out; keys come from the environment, the profile or the role of this process.',
    ),
    secretAccessKey: maybeText('For DynamoDB Local only, likewise any.'),
  }),
  presence: section('Presence', {
    windowMs: whole(
      1000,
      'Of what a resource shows in quick succession contacts are told the first at once and then, each time this has passed, the latest; that it comes or goes they are always told at once. 0: they are told everything.',
      0,
      60_000,
    ),
  }),
  limits: section('Limits', LIMITS),
  log: section('Log', {
    level: word('info', ['debug', 'info', 'warn', 'error'], 'The least that is written to standard output.'),
    pretty: maybeFlag('For people instead of one JSON object per line; by default where standard output is a terminal.'),
  }),
}

export type Settings = z.output<z.ZodObject<typeof SHAPE>>

/** The whole schema. Every module has `enabled` besides its own options; `hosts` are the domains with options of their own. */
export function settingsSchema(modules: ModuleOptions, hosts: readonly string[] = []) {
  const sections: Record<string, z.ZodObject> = {}
  for (const [name, specs] of Object.entries(modules))
    sections[name] = optionsSchema(name, { enabled: { default: true, doc: 'False leaves the module out.' }, ...specs })
  const perDomain = Object.fromEntries(hosts.map((domain) => [domain, hostSchema(modules)]))
  return z.strictObject({ ...SHAPE, modules: section('Modules', sections), hosts: section('Domains', perDomain) })
}

/** What one domain may have otherwise than the others. */
function hostSchema(modules: ModuleOptions) {
  const sections: Record<string, z.ZodObject> = {}
  for (const [name, specs] of Object.entries(modules)) {
    const schema = perDomainSchema(name, specs)
    if (schema !== undefined) sections[name] = schema
  }
  const { registration, admins } = SHAPE
  return section('One domain', {
    registration: override(registration),
    admins: override(admins),
    modules: section('Modules', sections),
  })
}

function preparedAccount(text: string): string {
  const { bare, local, resource } = parseJid(text)
  if (local === '' || resource !== '') throw new Error('an account is NAME@DOMAIN')
  return bare
}

/** What stands in for the defaults on a laptop: nobody but this machine's users can connect. */
export const LAPTOP: readonly { readonly path: readonly [string] | readonly [string, string]; readonly value: unknown }[] = [
  { path: ['registration'], value: 'open' },
  { path: ['c2s', 'allowPlainOnLoopback'], value: true },
  { path: ['limits', 'registrationsPerHourPerAddress'], value: 0 },
]

function network(text: string): string {
  const [address, bits, ...more] = text.split('/')
  const version = isIP(address!)
  if (version === 0) throw new Error('names are not looked up')
  if (bits !== undefined && (more.length > 0 || !/^\d{1,3}$/.test(bits) || Number(bits) > (version === 4 ? 32 : 128)))
    throw new Error('no such network')
  return text
}
