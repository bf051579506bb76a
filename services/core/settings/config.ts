// The configuration: one YAML file and the environment, checked whole before a port is opened.
//
// Every key is in settings.ts and is also an environment variable: c2s.tlsPort is ROOKERY_C2S_TLS_PORT, and wins over the
// file. All faults are collected and thrown at once, each with where it was written and what would be right.
//
// Without a file, and as long as only this machine can connect, the server is a toy that works at once: anyone may register, and
// loopback needs no TLS. A file, an address beyond loopback or a trusted proxy brings back the safe defaults.
import { accessSync, constants, readFileSync, statSync } from 'node:fs'
import { isIPv4 } from 'node:net'
import { isMap, isScalar, isSeq, LineCounter, parseDocument, visit } from 'yaml'
import type { HostSettings } from './hosts.ts'
import { didYouMean, nearest } from './nearest.ts'
import { faultsOf, type Key, type Kind, keysOf, type ModuleOptions, sectionsOf, valueAt } from './options.ts'
import { LAPTOP, type Settings, settingsSchema } from './settings.ts'

/** A port, or `off` where nothing shall listen. */
export type Port = number | 'off'

/** Relative paths in it are as they were given: from the working directory. */
export interface Config extends Settings {
  /** Each with `enabled` and every option of the module. */
  modules: Record<string, Record<string, unknown>>
  /** What is different in some domains. */
  hosts: Record<string, HostSettings>
}

export interface LoadedConfig {
  readonly config: Config
  /** `laptop`: no file, and only this machine can connect. `environment`: no file, and the safe defaults. */
  readonly source: 'file' | 'environment' | 'laptop'
  readonly file: string | undefined
}

export class ConfigError extends Error {
  /** `rookery.yaml:3:9: c2s.port is 70000; it must be …` */
  readonly faults: readonly string[]

  constructor(subject: string, faults: readonly string[]) {
    super(
      `${subject}: ${faults.length === 1 ? 'a fault' : `${faults.length} faults`}\n${faults.map((fault) => `  ${fault}`).join('\n')}`,
    )
    this.name = 'ConfigError'
    this.faults = faults
  }
}

export interface LoadOptions {
  /** Its path; with `text`, only what faults call it. */
  readonly file?: string
  /** Instead of reading `file`. */
  readonly text?: string
  /** By default the environment of this process. */
  readonly env?: NodeJS.ProcessEnv
  /** Of every module there is; a section for any other is a fault. */
  readonly moduleOptions?: ModuleOptions
}

/** Reads the file, and looks whether the files that it names can be read. Throws ConfigError, naming every fault. */
export function loadConfig({ file, text, env = process.env, moduleOptions = {} }: LoadOptions): LoadedConfig {
  const written = file !== undefined || text !== undefined ? readFile(file, text) : undefined
  const hosts = written?.value.hosts
  const schema = settingsSchema(moduleOptions, isSection(hosts) ? Object.keys(hosts) : [])
  const sections = [...sectionsOf(schema)].map(({ path }) => path)
  const raw = openSections(written?.value ?? {}, sections)
  const { variables, unknown } = readEnvironment(env, [...keysOf(settingsSchema(moduleOptions))], raw) // domains are no names of variables
  const laptop = written === undefined && isLaptop(raw)
  if (laptop) for (const { path, value } of LAPTOP) if (valueAt(raw, path) === undefined) setAt(raw, path, value)

  let checked = schema.safeParse(raw)
  const faults = checked.success ? [] : faultsOf(schema, checked.error.issues, raw)
  // What is wrong by itself is taken out, so that the rest can still be held against each other.
  const bad = new Set(faults.map(({ path }) => removeAt(raw, path)))
  if (!checked.success) checked = schema.safeParse(openSections(raw, sections))
  if (checked.success)
    for (const { keys, path, text } of contradictions(checked.data as Config))
      if (!keys.some((key) => bad.has(key) || bad.has(key.split('.')[0]!)))
        faults.push({ path: path ?? keys[0]!.split('.'), text })

  if (checked.success && faults.length === 0 && unknown.length === 0)
    return {
      config: withAddresses(checked.data as Config),
      source: laptop ? 'laptop' : written ? 'file' : 'environment',
      file,
    }
  const lines = faults.map((fault) => placeOf(fault.path, variables, written) + fault.text)
  throw new ConfigError(written?.name ?? 'the environment', [...lines, ...unknown])
}

function withAddresses(config: Config): Config {
  const listen = withoutOverlap(config.listen)
  const { metrics } = config
  return {
    ...config,
    listen,
    metrics: { ...metrics, listen: metrics.listen.length === 0 ? listen : withoutOverlap(metrics.listen) },
  }
}

/** `::` takes every address of IPv4 as well: what stands beside it would be a port taken by ourselves. */
function withoutOverlap(listen: readonly string[]): string[] {
  return listen.includes('::')
    ? ['::']
    : listen.includes('0.0.0.0')
      ? listen.filter((address) => address === '0.0.0.0' || !isIPv4(address))
      : [...listen]
}

// The file -----------------------------------------------------------------------------------------------------------

type Section = Record<string, unknown>

function isSection(value: unknown): value is Section {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

interface Written {
  readonly name: string
  readonly value: Section
  /** `rookery.yaml:3:9` of the deepest part of the path that is there. */
  place(path: readonly PropertyKey[]): string
}

function readFile(file: string | undefined, text: string | undefined): Written {
  const name = file ?? 'configuration'
  try {
    text ??= readFileSync(file!, 'utf8')
  } catch (error) {
    throw new ConfigError(name, [`${name} cannot be read: ${(error as Error).message}`])
  }
  const lines = new LineCounter()
  const at = (offset: number) => {
    const { line, col } = lines.linePos(offset)
    return `${name}:${line}:${col}`
  }
  const document = parseDocument(text, {
    lineCounter: lines,
    prettyErrors: false,
    strict: true,
    uniqueKeys: true,
    logLevel: 'error', // a key that is a list is a fault of ours to name, not a warning of Node's
  })
  const wrong: { message: string; pos: readonly [number, ...unknown[]] }[] = [...document.errors, ...document.warnings]
  const anchors = new Set<string>()
  visit(document, {
    Value(_key, { anchor }) {
      if (anchor !== undefined) anchors.add(anchor)
    },
    Alias(_key, alias) {
      if (!anchors.has(alias.source))
        wrong.push({ message: `there is no &${alias.source} before *${alias.source}`, pos: alias.range! })
    },
  })
  if (wrong.length > 0)
    throw new ConfigError(
      name,
      wrong.map(({ pos, message }) => `${at(pos[0])}: ${message}`),
    )
  let value: unknown
  try {
    value = document.toJS({ maxAliasCount: 100 }) ?? {}
  } catch (error) {
    throw new ConfigError(name, [`${name}: ${(error as Error).message}`])
  }
  if (typeof value !== 'object' || Array.isArray(value))
    throw new ConfigError(name, [`${name}:1:1: the file must hold keys and their values, such as "domains: [example.org]"`])

  return { name, value: value as Section, place: (path) => at(offsetOf(document.contents, path)) }
}

function offsetOf(node: unknown, path: readonly PropertyKey[]): number {
  let offset = 0
  for (const part of path) {
    if (isMap(node)) {
      const pair = node.items.find(({ key }) => isScalar(key) && String(key.value) === part)
      if (!pair) return offset
      offset = (pair.key as { range?: [number, number, number] }).range?.[0] ?? offset
      node = pair.value
    } else if (isSeq(node) && typeof part === 'number') {
      node = node.items[part]
      offset = (node as { range?: [number, number, number] } | undefined)?.range?.[0] ?? offset
    } else return offset
  }
  return offset
}

/** A copy in which every section is there: one that is missing or empty (`tls:`) is one without keys. */
function openSections(value: Section, sections: readonly (readonly string[])[]): Section {
  const raw = copy(value) as Section
  for (const path of sections) if ((valueAt(raw, path) ?? undefined) === undefined) setAt(raw, path, {})
  return raw
}

/** Without sharing: an alias (`*limits`) is the same object twice, and one of them may be changed. */
function copy(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(copy)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, copy(inner)]))
}

/** Does nothing where a part of the way is no section: that is a fault of its own. */
function setAt(raw: Section, path: readonly string[], value: unknown): void {
  const section = valueAt(raw, path.slice(0, -1))
  if (typeof section === 'object' && section !== null) (section as Section)[path.at(-1)!] = value
}

/** Takes out the key, whole where one entry of its list is meant. Returns its name. */
function removeAt(raw: Section, path: readonly PropertyKey[]): string {
  const entry = path.findIndex((part) => typeof part === 'number')
  const key = (entry < 0 ? path : path.slice(0, entry)) as string[]
  const section = valueAt(raw, key.slice(0, -1))
  if (typeof section === 'object' && section !== null) delete (section as Section)[key.at(-1)!]
  return key.join('.')
}

// The environment ----------------------------------------------------------------------------------------------------

const PREFIX = 'ROOKERY_'

/** c2s.tlsPort: ROOKERY_C2S_TLS_PORT. modules.mam.pageMax: ROOKERY_MODULES_MAM_PAGE_MAX. */
export function variableOf(path: readonly string[]): string {
  const words = path.map((part) => part.replace(/([a-z0-9])([A-Z])/g, '$1_$2').replace(/[^A-Za-z0-9]/g, '_'))
  return PREFIX + words.join('_').toUpperCase()
}

/** Puts what the environment says into `raw`. An empty variable counts as none. */
function readEnvironment(
  env: NodeJS.ProcessEnv,
  keys: readonly Key[],
  raw: Section,
): { variables: Map<string, string>; unknown: string[] } {
  const byVariable = new Map<string, Key>()
  for (const key of keys) {
    const variable = variableOf(key.path)
    if (byVariable.has(variable)) throw new Error(`${key.name} and ${byVariable.get(variable)!.name} are both ${variable}`)
    byVariable.set(variable, key)
  }
  const variables = new Map<string, string>()
  const unknown: string[] = []
  for (const variable of Object.keys(env).sort()) {
    const value = env[variable]?.trim() ?? ''
    if (!variable.startsWith(PREFIX) || value === '' || isServiceLink(variable, value)) continue
    const key = byVariable.get(variable)
    if (key) {
      setAt(raw, key.path, fromVariable(key.doc.kind, value))
      variables.set(key.name, variable)
    } else unknown.push(`${variable} is not a variable of ours${didYouMean(nearest(variable, byVariable.keys()))}`)
  }
  return { variables, unknown }
}

/** Kubernetes tells every container of the services beside it; of one called rookery-http, in ROOKERY_HTTP_PORT=tcp://10.0.0.1:5280. */
function isServiceLink(variable: string, value: string): boolean {
  return (
    /_SERVICE_(HOST|PORT(_[A-Z0-9_]+)?)$/.test(variable) ||
    /_PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?$/.test(variable) ||
    (variable.endsWith('_PORT') && /^(tcp|udp|sctp):\/\//.test(value))
  )
}

const FLAGS: Readonly<Record<string, boolean>> = {
  true: true,
  yes: true,
  on: true,
  1: true,
  false: false,
  no: false,
  off: false,
  0: false,
}

/** What cannot be read stays text, for the schema to refuse. */
function fromVariable(kind: Kind, value: string): unknown {
  switch (kind) {
    case 'number':
    case 'port':
      return /^-?\d+$/.test(value) ? Number(value) : value
    case 'flag':
      return FLAGS[value.toLowerCase()] ?? value
    case 'list':
      return value.split(',').map((entry) => entry.trim())
    case 'text':
      return value
  }
}

function placeOf(path: readonly PropertyKey[], variables: ReadonlyMap<string, string>, written: Written | undefined): string {
  const entry = path.findIndex((part) => typeof part === 'number')
  const variable = variables.get((entry < 0 ? path : path.slice(0, entry)).join('.'))
  if (variable !== undefined) return `${variable}: `
  return written ? `${written.place(path)}: ` : ''
}

// What must agree ----------------------------------------------------------------------------------------------------

/** True while nobody but the users of this machine can connect: neither directly nor through a proxy on it. */
function isLaptop(raw: Section): boolean {
  const { listen = [], trustedProxies = [] } = raw
  const proxies = Array.isArray(trustedProxies) ? trustedProxies.length : 1
  return (
    proxies === 0 &&
    (valueAt(raw, ['c2s', 'proxyProtocol']) ?? false) === false &&
    [listen].flat().every((address) => typeof address === 'string' && isLoopback(address))
  )
}

function isLoopback(address: string): boolean {
  return address === '::1' || (isIPv4(address) && address.startsWith('127.'))
}

interface Contradiction {
  /** The first is where the fault is shown. None is looked at if one of them is wrong by itself. */
  readonly keys: readonly string[]
  /** Where its name has a dot in it. */
  readonly path?: readonly string[]
  readonly text: string
}

const PORTS = ['c2s.port', 'c2s.tlsPort', 'websocket.port', 'http.port', 'metrics.port'] as const

/** Of what `hosts` says, and of who may administer what. */
function* contradictionsOfHosts({ domains, admins, hosts }: Config): Iterable<Contradiction> {
  for (const [domain, host] of Object.entries(hosts)) {
    const path = ['hosts', domain]
    if (!domains.includes(domain)) {
      const hint = didYouMean(nearest(domain, domains)) || `; they are ${domains.slice(0, 10).join(', ')}`
      yield { keys: ['hosts', 'domains'], path, text: `hosts.${domain} is none of the domains${hint}` }
    }
    if (host.registration === 'invite')
      yield {
        keys: ['hosts'],
        path: [...path, 'registration'],
        text: `hosts.${domain}.registration: invite is not available in this version; use open or closed`,
      }
    for (const admin of host.admins ?? []) {
      if (!domains.includes(domainOf(admin)))
        yield {
          keys: ['hosts', 'domains'],
          path: [...path, 'admins'],
          text: `hosts.${domain}.admins: ${admin} is on none of the domains`,
        }
    }
  }
  for (const admin of admins)
    if (!domains.includes(domainOf(admin)))
      yield { keys: ['admins', 'domains'], text: `admins: ${admin} is on none of the domains` }
}

function domainOf(account: string): string {
  return account.slice(account.lastIndexOf('@') + 1)
}

function* contradictions(config: Config): Iterable<Contradiction> {
  yield* contradictionsOfHosts(config)
  const { tls, bus, table, limits } = config
  const taken = new Map<unknown, string>()
  for (const key of PORTS) {
    const port = valueAt(config, key.split('.')) as Port
    const other = taken.get(port)
    if (other !== undefined)
      yield { keys: [key, other], text: `${key} is ${port}, as is ${other}; each must have its own, or be off` }
    else if (typeof port === 'number' && port !== 0) taken.set(port, key)
  }

  yield* contradictionsOfTls(tls)
  if (limits.stanzaBytesBeforeLogin > limits.stanzaBytes)
    yield {
      keys: ['limits.stanzaBytesBeforeLogin', 'limits.stanzaBytes'],
      text: `limits.stanzaBytesBeforeLogin is ${limits.stanzaBytesBeforeLogin}; it must be at most limits.stanzaBytes, which is ${limits.stanzaBytes}`,
    }

  const absent = 'is not available in this version'
  if (config.registration === 'invite')
    yield { keys: ['registration'], text: `registration: invite ${absent}; use open or closed` }
  const others = [...contradictionsOfBus(bus), ...contradictionsOfTable(table)]
  yield* others
  if (others.length === 0) yield* contradictionsOfForm(config)
}

/** A bus and a table are both of one process, or both of many. */
function* contradictionsOfForm({ bus, table }: Config): Iterable<Contradiction> {
  if (bus.driver === 'nats' && table.driver === 'sqlite')
    yield {
      keys: ['bus.driver', 'table.driver'],
      text: 'bus.driver is nats, and table.driver is sqlite, a file that several processes cannot share; set table.driver to dynamodb, or bus.driver to memory',
    }
  if (bus.driver === 'memory' && table.driver === 'dynamodb')
    yield {
      keys: ['table.driver', 'bus.driver'],
      text: 'table.driver is dynamodb, and bus.driver is memory; what several processes can write they must also talk about: set bus.driver to nats, or table.driver to sqlite',
    }
}

const FOR_DYNAMODB = ['endpoint', 'region', 'prefix', 'create', 'accessKeyId', 'secretAccessKey'] as const

function* contradictionsOfTable(table: Config['table']): Iterable<Contradiction> {
  const { driver, endpoint, prefix, accessKeyId, secretAccessKey } = table
  if (driver === 'sqlite') {
    for (const key of FOR_DYNAMODB)
      if (table[key] !== undefined)
        yield { keys: [`table.${key}`, 'table.driver'], text: `table.${key} is for table.driver: dynamodb, and it is sqlite` }
    return
  }
  const url = endpoint === undefined ? undefined : URL.parse(endpoint)
  if (endpoint !== undefined && !/^https?:$/.test(url?.protocol ?? ''))
    yield {
      keys: ['table.endpoint'],
      text: `table.endpoint is ${JSON.stringify(endpoint)}; it must be an address, such as http://127.0.0.1:8000`,
    }
  if (prefix !== undefined && !/^[\w.-]{1,200}$/.test(prefix))
    yield {
      keys: ['table.prefix'],
      text: `table.prefix is ${JSON.stringify(prefix)}; it must be at most 200 of a-z, A-Z, 0-9, _, - and .`,
    }
  const [there, missing] = accessKeyId === undefined ? ['secretAccessKey', 'accessKeyId'] : ['accessKeyId', 'secretAccessKey']
  if ((accessKeyId === undefined) !== (secretAccessKey === undefined))
    yield { keys: [`table.${there}`, `table.${missing}`], text: `table.${there} has no table.${missing}; give both, or neither` }
  else if (accessKeyId !== undefined && endpoint === undefined)
    yield {
      keys: ['table.accessKeyId', 'table.endpoint'],
      text: 'table.accessKeyId is for DynamoDB Local, and there is no table.endpoint; for AWS leave it out, and give this process a role or AWS_ACCESS_KEY_ID',
    }
}

function* contradictionsOfBus({ driver, servers, ...bus }: Config['bus']): Iterable<Contradiction> {
  const files = {
    'bus.credentials': bus.credentials,
    'bus.tls.ca': bus.tls.ca,
    'bus.tls.cert': bus.tls.cert,
    'bus.tls.key': bus.tls.key,
  }
  const given = { ...files, 'bus.user': bus.user, 'bus.password': bus.password, 'bus.token': bus.token }
  if (driver === 'memory') {
    const idle = Object.entries(given).flatMap(([key, value]) => (value === undefined ? [] : [key]))
    for (const key of servers.length > 0 ? ['bus.servers', ...idle] : idle)
      yield { keys: [key, 'bus.driver'], text: `${key} is for bus.driver: nats, and that is memory` }
    return
  }
  if (servers.length === 0)
    yield {
      keys: ['bus.driver', 'bus.servers'],
      text: 'bus.driver is nats, and bus.servers names none; give at least one, such as nats://127.0.0.1:4222',
    }
  if (new Set(servers.map((server) => server.startsWith('tls://'))).size > 1)
    yield {
      keys: ['bus.servers'],
      text: 'bus.servers are partly tls:// and partly nats://; use TLS with all of them, or with none',
    }
  const ways = (['bus.credentials', 'bus.user', 'bus.token'] as const).filter((key) => given[key] !== undefined)
  if (ways.length > 1) yield { keys: ways, text: `${ways.join(' and ')} are both given; one says who we are` }
  for (const [key, other] of [
    ['bus.user', 'bus.password'],
    ['bus.password', 'bus.user'],
    ['bus.tls.cert', 'bus.tls.key'],
    ['bus.tls.key', 'bus.tls.cert'],
  ] as const)
    if (given[key] !== undefined && given[other] === undefined)
      yield { keys: [key, other], text: `${key} has no ${other}; give both, or neither` }
  for (const [key, file] of Object.entries(files)) {
    const reason = file === undefined ? undefined : whyUnreadable(file)
    if (reason !== undefined) yield { keys: [key], text: `${key} is ${JSON.stringify(file)}, which cannot be read: ${reason}` }
  }
}

function* contradictionsOfTls({ cert, key, clientCa }: Config['tls']): Iterable<Contradiction> {
  const neither = 'give both, or neither for a self-signed certificate'
  if (key.length === 0 && cert.length > 0) yield { keys: ['tls.cert', 'tls.key'], text: `tls.cert has no tls.key; ${neither}` }
  else if (cert.length === 0 && key.length > 0)
    yield { keys: ['tls.key', 'tls.cert'], text: `tls.key has no tls.cert; ${neither}` }
  else if (cert.length !== key.length)
    yield {
      keys: ['tls.key', 'tls.cert'],
      text: `tls.key lists ${key.length}, and tls.cert ${cert.length}; each certificate has its key, in the same order`,
    }
  const named = [
    ...cert.map((file, n) => ({ key: 'tls.cert', name: cert.length > 1 ? `tls.cert[${n}]` : 'tls.cert', file })),
    ...key.map((file, n) => ({ key: 'tls.key', name: key.length > 1 ? `tls.key[${n}]` : 'tls.key', file })),
    ...(clientCa === undefined ? [] : [{ key: 'tls.clientCa', name: 'tls.clientCa', file: clientCa }]),
  ]
  for (const { key, name, file } of named) {
    const reason = whyUnreadable(file)
    if (reason !== undefined) yield { keys: [key], text: `${name} is ${JSON.stringify(file)}, which cannot be read: ${reason}` }
  }
}

function whyUnreadable(file: string): string | undefined {
  try {
    accessSync(file, constants.R_OK)
    return statSync(file).isFile() ? undefined : 'it is not a file'
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ENOENT' ? 'there is no such file' : (error as Error).message
  }
}
