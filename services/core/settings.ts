// Every key of the server, in one place: name, default, bounds and what it means.
//
// docs/configuration.md is printed from here (`npm run docs`); the options of modules are declared in the modules.
import { isIP } from 'node:net'
import * as z from 'zod'
import { prepareDomain } from '#xmpp/jid.ts'
import {
  flag,
  list,
  type ModuleOptions,
  maybeFlag,
  maybeText,
  optionsSchema,
  port,
  section,
  text,
  whole,
  word,
} from './options.ts'

const KIB = 1024
const MIB = 1024 * KIB

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
  loginFailuresPerStream: whole(5, 'Failed logins before the stream ends (RFC 6120 §6.4.5).', 1, 100),
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
  writeBufferBytes: whole(
    4 * MIB,
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
      right: 'an IP address, such as 127.0.0.1 or ::',
      entry: (address) => {
        if (isIP(address) === 0) throw new Error('names are not looked up')
        return address
      },
    },
  ),
  data: text('./data', 'The folder of what this process keeps: the embedded table, certificates, uploads.', {
    min: 1,
    max: 4096,
  }),
  tls: section('Certificates', {
    cert: maybeText('File of the certificate and its chain, PEM; without it a self-signed one is made in `data`.'),
    key: maybeText('File of its private key, PEM.'),
  }),
  c2s: section('Clients over TCP', {
    port: port(5222, 'Where clients connect and then start TLS (RFC 6120 §5).'),
    tlsPort: port(5223, 'Where clients connect with TLS from the first byte (XEP-0368).'),
    requireTls: flag(true, 'A client must have started TLS before it authenticates.'),
    allowPlainOnLoopback: flag(
      false,
      'A client on a loopback address may authenticate without TLS, over TCP and WebSocket; refused from any other address.',
    ),
    proxyProtocol: flag(false, 'Each TCP connection begins with a PROXY header; `true` is not in this version.'),
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
  }),
  trustedProxies: list([], 'Addresses or networks whose X-Forwarded-For and X-Forwarded-Proto headers are believed.', {
    max: 1000,
    right: 'an IP address or a network, such as 10.0.0.1 or 10.0.0.0/8',
    entry: network,
  }),
  registration: word(
    'closed',
    ['open', 'invite', 'closed'],
    'Who may make an account (XEP-0077): anyone, or nobody; `invite` is not in this version.',
  ),
  scram: section('Passwords', {
    iterations: whole(
      10_000,
      'Rounds of SCRAM for passwords set from now on (RFC 7677 asks for 4096 at least); each login costs a client as many.',
      4096,
      1_000_000,
    ),
  }),
  bus: section('Between processes', {
    driver: word('memory', ['memory', 'nats'], '`memory`: one process; `nats` is not in this version.'),
    servers: list([], 'For `nats`: where its servers are.', { max: 100, right: 'an address, such as nats://127.0.0.1:4222' }),
  }),
  table: section('Storage', {
    driver: word('sqlite', ['sqlite', 'dynamodb'], '`sqlite`: a file in `data`; `dynamodb` is not in this version.'),
    endpoint: maybeText('For `dynamodb`: the address of the service, where it is not AWS.'),
    region: maybeText('For `dynamodb`: the AWS region.'),
    prefix: maybeText('For `dynamodb`: what the names of its tables begin with.'),
  }),
  limits: section('Limits', LIMITS),
  log: section('Log', {
    level: word('info', ['debug', 'info', 'warn', 'error'], 'The least that is written to standard output.'),
    pretty: maybeFlag('For people instead of one JSON object per line; by default where standard output is a terminal.'),
  }),
}

export type Settings = z.output<z.ZodObject<typeof SHAPE>>

/** The whole schema. Every module has `enabled` besides its own options. */
export function settingsSchema(modules: ModuleOptions) {
  const sections: Record<string, z.ZodObject> = {}
  for (const [name, specs] of Object.entries(modules))
    sections[name] = optionsSchema(name, { enabled: { default: true, doc: 'False leaves the module out.' }, ...specs })
  return z.strictObject({ ...SHAPE, modules: section('Modules', sections) })
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
