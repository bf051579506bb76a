// XEP-0077: In-Band Registration: accounts are made, given another password, and removed.
//
// A stranger may only ask for the fields and fill them in, where registration is open; all else is about the account
// that the asker is logged in as. Field names are those of the schema; a data form is not offered, so none is read.

import { type App, defineModule, type IqCall } from '#core/module.ts'
import { factsOf, isAdminAnywhere } from '#core/settings/hosts.ts'
import { type StanzaCondition, StanzaError } from '#xmpp/error.ts'
import { type Jid, makeJid, prepareLocal } from '#xmpp/jid.ts'
import { childOf, type Element, el, textOf } from '#xmpp/stanza.ts'
import { nameOf, RESERVED, reservedNames } from './registration-names.ts'
import { RegistrationRate } from './registration-rate.ts'

const NS = 'jabber:iq:register'
const NS_FEATURE = 'http://jabber.org/features/iq-register'

interface Options {
  instructions: string
  reserved: readonly string[]
  usernameBytesMax: number
}

export default defineModule<void, Options>({
  name: 'registration',
  home: 'router',
  xeps: [{ number: '0077', version: '2.4' }],
  features: { host: [NS] }, // also where it is closed: passwords are changed by it
  namespaces: [NS],
  strangers: [NS],
  streamFeaturesBeforeLogin: ({ registration }) => (registration === 'open' ? [el('register', NS_FEATURE)] : []), // §8
  options: {
    instructions: {
      default: 'Choose a username and a password.',
      max: 1_000,
      perDomain: true,
      doc: 'Shown above the fields (XEP-0077 §3.1).',
    },
    reserved: { default: RESERVED, max: 1_000, doc: 'Usernames, and what looks like them, that nobody can register.' },
    usernameBytesMax: { default: 64, min: 1, max: 1_023, doc: 'The longest username that can be registered, in bytes of UTF-8.' },
  },

  setup(app) {
    const registration = new Registration(app)
    app.iq('get', NS, 'query', 'stranger', ({ iq }) => refusing(false, () => registration.fields(iq.to!.domain)))
    app.iq('set', NS, 'query', 'stranger', (call) => registration.register(call))
    for (const target of ['self', 'host'] as const) {
      app.iq('get', NS, 'query', target, (call) => refusing(true, () => registration.registered(accountOf(call))))
      app.iq('set', NS, 'query', target, (call) => refusing(false, () => registration.change(accountOf(call), call)))
    }
  },
})

/** Whom a request of somebody logged in is about. He has no business with the other domains that live here. */
function accountOf({ account, iq }: IqCall): Jid {
  const { to } = iq
  if (to !== undefined && to.domain !== account.domain) throw new StanzaError('not-allowed', 'your account is on another domain')
  return account
}

class Registration {
  readonly #app: App<Options>
  readonly #rate: RegistrationRate
  readonly #reserved: ReadonlySet<string>

  constructor(app: App<Options>) {
    this.#app = app
    this.#rate = new RegistrationRate(app.limits.registrationsPerHourPerAddress, app.clock)
    this.#reserved = reservedNames(app.options.reserved)
  }

  /** §3.1: what a stranger has to fill in. */
  fields(domain: string): Element {
    this.#demandOpen(domain)
    return el('query', NS, {}, this.#instructions(domain), el('username', NS), el('password', NS))
  }

  /** §3.1: to somebody who is registered already. */
  registered({ local, domain }: Jid): Element {
    return el(
      'query',
      NS,
      {},
      el('registered', NS),
      this.#instructions(domain),
      el('username', NS, {}, local),
      el('password', NS),
    )
  }

  /** §3.1: a stranger has filled in the fields, which are sent back with a refusal, but for the password. */
  register(call: IqCall): Promise<void> {
    return refusing(withoutSecrets(call.payload), () => this.#register(call))
  }

  async #register({ payload, iq, address }: IqCall): Promise<void> {
    const { domain } = iq.to!
    this.#demandOpen(domain)
    if (childOf(payload, 'remove', NS) !== undefined) throw new StanzaError('unexpected-request', 'log in first') // §3.2
    const username = fieldOf(payload, 'username')
    const password = fieldOf(payload, 'password')
    if (username === '' || password === '') throw new StanzaError('not-acceptable', 'a username and a password are needed')
    const account = makeJid(nameOf(username, this.#reserved, this.#app.options.usernameBytesMax), domain)
    // Whoever is to administer the server is made by who runs it: his name may be free when registration is opened.
    if (isAdminAnywhere(this.#app.server, account)) throw new StanzaError('conflict', 'the username is reserved')
    if (await this.#app.accounts.exists(account)) throw new StanzaError('conflict', 'the username is taken')

    const place = this.#rate.take(address)
    if (place === undefined)
      throw new StanzaError('resource-constraint', 'too many registrations from your address', { type: 'wait' })
    try {
      await this.#app.ask('router', account.bare, 'account.create', { password })
    } catch (error) {
      place.giveBack()
      throw error
    }
    this.#app.log.info('account.registered', { account: account.bare, address })
  }

  /** §3.2 and §3.3. What was sent is not sent back. */
  change(account: Jid, { payload, session }: IqCall): Promise<void> {
    return childOf(payload, 'remove', NS) === undefined
      ? this.#changePassword(account, payload, session?.session)
      : this.#remove(account, payload)
  }

  /** §3.2: with all its data; then its sessions end with not-authorized, behind the answer. */
  async #remove(account: Jid, payload: Element): Promise<void> {
    if (payload.children.filter((child) => typeof child !== 'string').length > 1)
      throw new StanzaError('bad-request', 'remove stands alone')
    await this.#app.removeAccount(account)
    this.#app.log.info('account.removed', { account: account.bare })
  }

  /** §3.3. Durable before it is answered. Of the account's sessions only the one that asks stays. */
  async #changePassword(account: Jid, payload: Element, asking: string | undefined): Promise<void> {
    if (childOf(payload, 'username', NS) === undefined || childOf(payload, 'password', NS) === undefined) {
      throw new StanzaError('bad-request', 'a username and a password are needed')
    }
    if (!isSameName(fieldOf(payload, 'username'), account)) throw new StanzaError('not-acceptable', 'you have an account') // §3.1.1
    const password = fieldOf(payload, 'password')
    if (password === '') throw new StanzaError('not-acceptable', 'the password is empty') // the old one is kept
    await this.#app.accounts.setPassword(account, password)
    await this.#app.emit('account.credentials-changed', { account, except: asking })
    this.#app.log.info('account.password_changed', { account: account.bare })
  }

  #demandOpen(domain: string): void {
    if (factsOf(this.#app.server, domain).registration !== 'open')
      throw new StanzaError('service-unavailable', 'registration is closed') // §3.1
  }

  #instructions(domain: string): Element {
    return el('instructions', NS, {}, this.#app.optionsOf(domain).instructions)
  }
}

/** The fields that were sent and may be shown: those we know, without the password. */
function withoutSecrets(query: Element): Element {
  const username = childOf(query, 'username', NS)
  return el('query', NS, {}, ...(username === undefined ? [] : [username]))
}

/**
 * RFC 6120 §8.3.1: an error MAY repeat what was refused; here, only this of it. XEP-0077 §9 wants the old codes besides
 * the conditions.
 */
async function refusing<T>(echo: Element | boolean, task: () => T | Promise<T>): Promise<T> {
  try {
    return await task()
  } catch (error) {
    if (!(error instanceof StanzaError)) throw error
    const { condition, text, type, extra } = error
    throw new StanzaError(condition, text, { type, extra, echo, code: CODES[condition] })
  }
}

/** XEP-0086 §2, of what registration is refused with. */
const CODES: Partial<Record<StanzaCondition, string>> = {
  'bad-request': '400',
  conflict: '409',
  'item-not-found': '404',
  'not-acceptable': '406',
  'not-allowed': '405',
  'resource-constraint': '500',
  'service-unavailable': '503',
  'unexpected-request': '400',
}

/** The text of a field, '' where it is absent. */
function fieldOf(query: Element, name: string): string {
  const field = childOf(query, name, NS)
  return field === undefined ? '' : textOf(field)
}

/** Some clients send the whole address. */
function isSameName(username: string, account: Jid): boolean {
  if (username === account.bare) return true
  try {
    return prepareLocal(username) === account.local
  } catch {
    return false
  }
}
