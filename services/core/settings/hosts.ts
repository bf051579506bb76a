// The domains of a server, each with options of its own: what holds for one of them.
//
// Whoever is asked in the name of a domain — a stream, an iq to the host — goes by `factsOf` it. Where the configuration
// says nothing of a domain, that is what holds for all.
import type { Jid } from '#xmpp/jid.ts'
import type { ServerFacts } from '../module.ts'
import { isLoopback } from '../network.ts'
import type { Config } from './config.ts'

/** What `hosts` of the configuration says of one domain; what it leaves out is as everywhere. */
export interface HostSettings {
  readonly registration?: ServerFacts['registration'] | undefined
  readonly admins?: readonly string[] | undefined
  readonly modules: Readonly<Record<string, Readonly<Record<string, unknown>>>>
}

/** What modules may know of a server with this configuration. */
export function serverFacts(config: Config, version: string, moduleOptions: ServerFacts['moduleOptions']): ServerFacts {
  const { domains, registration, admins, hosts } = config
  const { data } = config
  return { domains, registration, version, moduleOptions, admins, hosts, data, loopbackHttp: loopbackHttp(config) }
}

/** Undefined where others than this machine can connect, or where the port is not known before it is opened. */
function loopbackHttp({ listen, trustedProxies, http: { port }, c2s }: Config): string | undefined {
  const [address] = listen
  const isPort = typeof port === 'number' && port !== 0
  const isLocal = listen.every(isLoopback) && trustedProxies.length === 0 && c2s.allowPlainOnLoopback
  if (address === undefined || !isPort || !isLocal) return undefined
  return `http://${address.includes(':') ? `[${address}]` : address}:${port}`
}

/** The same as it holds for one domain. */
export function factsOf(server: ServerFacts, domain: string): ServerFacts {
  const host = server.hosts?.[domain]
  if (host === undefined) return server
  const known = facts.get(host)
  if (known !== undefined) return known
  const moduleOptions = { ...server.moduleOptions }
  for (const [name, options] of Object.entries(host.modules))
    moduleOptions[name] = { ...(moduleOptions[name] as object), ...given(options) }
  const { registration = server.registration, admins = server.admins } = host
  const made = { ...server, registration, admins, moduleOptions }
  facts.set(host, made)
  return made
}

const facts = new WeakMap<HostSettings, ServerFacts>()

function given(options: Readonly<Record<string, unknown>>): object {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined))
}

/**
 * Whether an account may administer a domain (XEP-0133): one that `admins` names may do so with the domain it is on; those
 * that `hosts` names for a domain, with that domain, and then nobody else.
 */
export function isAdmin(server: ServerFacts, domain: string, { bare, domain: own }: Jid): boolean {
  const admins = server.hosts?.[domain]?.admins
  if (admins !== undefined) return admins.includes(bare)
  return own === domain && (server.admins?.includes(bare) ?? false)
}

/** Whether an account administers any domain: nobody may come by its name by asking for it. */
export function isAdminAnywhere({ admins = [], hosts = {} }: ServerFacts, { bare }: Jid): boolean {
  return admins.includes(bare) || Object.values(hosts).some((host) => host.admins?.includes(bare))
}

/**
 * Whether an administrator may do with an account as he likes: not with one that administers a domain which he does not. By a
 * new password of its own he would.
 */
export function mayManage(server: ServerFacts, admin: Jid, account: Jid): boolean {
  return server.domains.every((domain) => !isAdmin(server, domain, account) || isAdmin(server, domain, admin))
}
