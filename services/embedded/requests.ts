// What comes from outside with a request to the control socket, read and checked: an account, a domain, a text.
import type { Process } from '#core/process.ts'
import { StanzaError } from '#xmpp/error.ts'
import { type Jid, JidError, parseJid, prepareDomain } from '#xmpp/jid.ts'

export type Fields = Readonly<Record<string, unknown>>

/** Reads NAME@DOMAIN. Throws StanzaError('jid-malformed') that shows the text and says what is wrong with it. */
export function parseAccount(text: unknown): Jid {
  const jid = parseAddress(text)
  if (jid.resource === '') return jid
  throw new StanzaError('jid-malformed', `${JSON.stringify(text)} is no account; an account is NAME@DOMAIN`)
}

/** The same, or NAME@DOMAIN/RESOURCE. */
export function parseAddress(text: unknown): Jid {
  const shown = JSON.stringify(text)
  if (typeof text !== 'string') throw new StanzaError('jid-malformed', 'the account is missing')
  let jid: Jid
  try {
    jid = parseJid(text)
  } catch (error) {
    if (error instanceof JidError) throw new StanzaError('jid-malformed', `${shown} is no address: ${error.message}`)
    throw error
  }
  if (jid.local === '') throw new StanzaError('jid-malformed', `${shown} is no account; an account is NAME@DOMAIN`)
  return jid
}

/** A domain of this server, prepared. Throws StanzaError. */
export function domainOf(process: Process, asked: unknown): string {
  if (typeof asked !== 'string') throw new StanzaError('bad-request', 'the domain is not a text')
  try {
    const domain = prepareDomain(asked)
    demandDomain(process, domain)
    return domain
  } catch (error) {
    if (error instanceof JidError)
      throw new StanzaError('jid-malformed', `${JSON.stringify(asked)} is no domain: ${error.message}`)
    throw error
  }
}

const DOMAINS_SHOWN_MAX = 5

/** Throws item-not-found, with the domains there are. */
export function demandDomain({ config }: Process, domain: string): void {
  const { domains } = config
  if (domains.includes(domain)) return
  const shown = domains.slice(0, DOMAINS_SHOWN_MAX).join(', ')
  const more = domains.length > DOMAINS_SHOWN_MAX ? ` and ${domains.length - DOMAINS_SHOWN_MAX} more` : ''
  throw new StanzaError('item-not-found', `${domain} is not a domain of this server; it has ${shown}${more}`)
}

export function isRecord(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
