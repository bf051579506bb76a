// XEP-0133: Service Administration, as ad-hoc commands (commands.ts) for who administers a domain.
//
// Each command is a face on what the command line does, too (core/administration.ts), and on the calls of the account's
// owner. It is about accounts of the domain that is asked. Messages that stand for a while are in standing-messages.ts.
// Left out are lists of who may not be talked to (§4.11, §4.12), the list of administrators, which is in the configuration,
// and the end of the process (§4.30, §4.31), which is for whoever can start it again.
import type { Reached } from '#core/administration.ts'
import { type App, defineModule } from '#core/module.ts'
import { mayManage } from '#core/settings/hosts.ts'
import type { MaybePromise } from '#core/storage/store.ts'
import { StanzaError } from '#xmpp/error.ts'
import { type Field, type Form, makeField, makeForm } from '#xmpp/form.ts'
import { bareOf, type Jid, JidError, parseJid } from '#xmpp/jid.ts'
import { formatDateTime } from '#xmpp/time.ts'
import { parseElement } from '#xmpp/xml.ts'
import commands, { type Command, type CommandCall, type Outcome } from './commands.ts'

export const NS_ADMIN = 'http://jabber.org/protocol/admin'

/** Accounts of one command: each is a call to its owner. */
const ACCOUNTS_MAX = 100
/** What is waited for, in all, for what is stored of deleted accounts to be gone. */
const REMOVAL_WAIT_MS = 2_000
/** §4.18 has `none` for no bound; an answer has one. */
const ITEMS = ['25', '50', '75', '100', '150', '200', '1000']

export default defineModule({
  name: 'administration',
  home: 'presence',
  xeps: [{ number: '0133', version: '1.3.1', status: 'partial' }],

  setup(app) {
    const { add } = app.need(commands)
    const users = new Users(app)
    for (const command of [...accountCommands(users), ...questions(users), ...counts(app), ...lists(app)]) add(command)
    add(
      asking('announce', 'Send Announcement to Online Users', [announcement], async ({ domain, values }) => {
        const reached = await reachedBy(app.administration.announce(linesOf(values, 'announcement'), { domain }))
        return { note: `It was sent to ${reached.accounts} users in ${reached.sessions} sessions.` }
      }),
    )
  },
})

/** Waits for the end of an announcement: what it had reached by then. */
export async function reachedBy(announcing: AsyncIterable<Reached>): Promise<Reached> {
  let last: Reached = { accounts: 0, sessions: 0 }
  for await (const reached of announcing) last = reached
  return last
}

const announcement = makeField('text-multi', 'announcement', { label: 'Announcement', required: true })

/** A command with one form (§4.1 and so on: each has a title and the FORM_TYPE). */
export function asking(
  name: string,
  title: string,
  fields: readonly Field[],
  run: (call: CommandCall) => MaybePromise<Outcome | void>,
): Command {
  const form = makeForm('form', NS_ADMIN, fields, { title, instructions: ['Fill out this form.'] })
  return { node: `${NS_ADMIN}#${name}`, name: title, who: 'admin', stages: [() => form], run }
}

/** The lines of a text-multi field as one text. */
export function linesOf(values: CommandCall['values'], name: string): string {
  return (values.get(name) ?? []).join('\n')
}

function resultOf(...fields: readonly Field[]): Form {
  return makeForm('result', NS_ADMIN, fields)
}

/** What the accounts' owners are asked. Whoever asks is told which account a refusal is about. */
class Users {
  readonly app: App

  constructor(app: App) {
    this.app = app
  }

  /** Throws not-allowed for what is no account of the domain. */
  account(text: string, domain: string): Jid {
    const jid = addressOf(text)
    if (jid.resource !== '') throw new StanzaError('not-acceptable', `${text} names a session; an account is NAME@DOMAIN`)
    if (jid.local === '' || jid.domain !== domain) throw new StanzaError('not-allowed', `${text} is no account of ${domain}`)
    return jid
  }

  /** The accounts that a form names. */
  named({ values, domain }: CommandCall): readonly Jid[] {
    const texts = values.get('accountjids') ?? []
    if (texts.length > ACCOUNTS_MAX) throw new StanzaError('not-acceptable', `at most ${ACCOUNTS_MAX} at once`)
    return texts.map((text) => this.account(text, domain))
  }

  /** The one account that a form names. */
  one(call: CommandCall): Jid {
    const [account, ...others] = this.named(call)
    if (account === undefined || others.length > 0) throw new StanzaError('not-acceptable', 'one account at a time')
    return account
  }

  /** Throws not-allowed for one that administers what the asker does not. */
  demandMayManage(account: Jid, call: CommandCall): void {
    if (!mayManage(this.app.server, call.account, account))
      throw new StanzaError('not-allowed', `${account.bare} administers a domain that you do not`)
  }

  /** The accounts that a form names, to be changed. */
  managed(call: CommandCall): readonly Jid[] {
    const accounts = this.named(call)
    for (const account of accounts) this.demandMayManage(account, call)
    return accounts
  }

  /** Does something to each; where one fails, those behind it are left alone, and the refusal says which it was. */
  async each(accounts: readonly Jid[], change: (account: Jid) => Promise<unknown>): Promise<void> {
    for (const account of accounts) {
      try {
        await change(account)
      } catch (error) {
        if (!(error instanceof StanzaError)) throw error
        throw new StanzaError(error.condition, `${account.full}: ${error.text}`, { type: error.type })
      }
    }
  }

  async demandExists(account: Jid): Promise<void> {
    if ((await this.app.ask('router', account.bare, 'account.credentials', {})) === null)
      throw new StanzaError('item-not-found', `${account.bare}: no such account`)
  }
}

function addressOf(text: string): Jid {
  try {
    return parseJid(text)
  } catch (error) {
    if (error instanceof JidError) throw new StanzaError('jid-malformed', `${text} is no address: ${error.message}`)
    throw error
  }
}

/** An administrator who is not to end himself: his command would wait for its own end. */
function demandOthers(accounts: readonly Jid[], { account }: CommandCall): void {
  if (accounts.some(({ bare }) => bare === account.bare)) throw new StanzaError('not-allowed', 'that is your own account')
}

const jidField = (label: string): Field => makeField('jid-single', 'accountjid', { label, required: true })
const jidsField = (label: string): Field => makeField('jid-multi', 'accountjids', { label, required: true })
const passwordField = (name: string, label: string): Field => makeField('text-private', name, { label, required: true })

/** §4.1 to §4.5, §4.7. */
function accountCommands(users: Users): readonly Command[] {
  const { app } = users
  const one = (call: CommandCall): Jid => {
    const account = users.account(call.values.get('accountjid')![0]!, call.domain)
    users.demandMayManage(account, call)
    return account
  }
  const password = ({ values }: CommandCall): string => values.get('password')![0]!
  return [
    asking(
      'add-user',
      'Add User',
      [jidField('The account to add'), passwordField('password', 'Its password'), passwordField('password-verify', 'Again')],
      async (call) => {
        if (password(call) !== call.values.get('password-verify')![0])
          throw new StanzaError('not-acceptable', 'the two passwords differ')
        await app.ask('router', one(call).bare, 'account.create', { password: password(call) }) // §5: conflict
      },
    ),
    asking('delete-user', 'Delete User', [jidsField('The accounts to delete')], async (call) => {
      const accounts = users.managed(call)
      demandOthers(accounts, call)
      const waitMs = REMOVAL_WAIT_MS / accounts.length
      let unfinished = 0
      await users.each(accounts, async ({ bare }) => {
        const { finished } = await app.ask('router', bare, 'account.remove', { waitMs })
        if (!finished) unfinished++
      })
      if (unfinished > 0) return { note: `Gone; of ${unfinished} what is stored is still being deleted.` }
    }),
    asking('disable-user', 'Disable User', [jidsField('The accounts to disable')], async (call) => {
      const accounts = users.managed(call)
      demandOthers(accounts, call)
      await users.each(accounts, ({ bare }) => app.ask('router', bare, 'account.disable', {}))
    }),
    asking('reenable-user', 'Re-Enable User', [jidsField('The accounts to enable')], (call) =>
      users.each(users.managed(call), ({ bare }) => app.ask('router', bare, 'account.enable', {})),
    ),
    asking('end-user-session', 'End User Session', [jidsField('Sessions to end, or accounts to end all of')], async (call) => {
      const jids = (call.values.get('accountjids') ?? []).map(addressOf)
      if (jids.length > ACCOUNTS_MAX) throw new StanzaError('not-acceptable', `at most ${ACCOUNTS_MAX} at once`)
      for (const jid of jids) users.demandMayManage(users.account(jid.bare, call.domain), call)
      let ended = 0
      await users.each(jids, async (jid) => {
        ended += await app.administration.endSessions(jid, 'an administrator has ended the session')
      })
      return { note: `Sessions ended: ${ended}.` }
    }),
    asking(
      'change-user-password',
      'Change User Password',
      [jidField('The account'), passwordField('password', 'Its new password')],
      async (call) => {
        const { bare } = one(call)
        // XEP-0077 §3.3: whoever changes his own stays where he is, and is told that it is done.
        const except = app.sessions(call.account).find(({ jid }) => jid.full === call.from.full && jid.bare === bare)?.session
        await app.ask('router', bare, 'account.password', { password: password(call), except })
      },
    ),
  ]
}

/** §4.8 to §4.10. */
function questions(users: Users): readonly Command[] {
  const { app } = users
  const rosterOf = async ({ bare }: Jid) => parseElement(await app.ask('presence', bare, 'roster.read', {}))
  const about = ({ bare }: Jid): Field => makeField('jid-multi', 'accountjids', { values: [bare] })
  return [
    asking('get-user-roster', 'Get User Roster', [jidsField('The account')], async (call) => {
      const account = users.one(call)
      await users.demandExists(account)
      return { form: resultOf(about(account)), inForm: [await rosterOf(account)] }
    }),
    asking('get-user-lastlogin', 'Get User Last Login Time', [jidsField('The account')], async (call) => {
      const account = users.one(call)
      await users.demandExists(account)
      const sessions = await app.administration.sessionsOf(account)
      const online = Math.max(0, ...sessions.map(({ sinceMs }) => sinceMs))
      // Logins write nothing: of who is offline it is known when he left.
      const ms =
        online ||
        (app.modules.some(({ name }) => name === 'last') ? await app.ask('presence', account.bare, 'last.logout', {}) : null)
      if (ms === null) return { form: resultOf(about(account)), note: 'That is not known.' }
      const form = resultOf(about(account), makeField('text-single', 'lastlogin', { value: formatDateTime(ms) }))
      return online === 0 ? { form, note: 'The account is offline; that is when it was last there.' } : { form }
    }),
    asking('user-stats', 'Get User Statistics', [jidField('The account')], async ({ values, domain }) => {
      const account = users.account(values.get('accountjid')![0]!, domain)
      await users.demandExists(account)
      const sessions = await app.administration.sessionsOf(account)
      const addresses = [...new Set(sessions.map(({ address }) => address))].filter((address) => address !== '')
      const roster = await rosterOf(account)
      return {
        form: resultOf(
          makeField('list-multi', 'ipaddresses', { values: addresses }),
          makeField('text-single', 'rostersize', { value: String(roster.children.length) }),
          makeField('text-multi', 'onlineresources', { values: sessions.map(({ jid }) => parseJid(jid).resource) }),
        ),
      }
    }),
  ]
}

/** §4.13 to §4.17. Online is who has a session; active, who shows presence in one; idle, who does not. */
function counts({ administration }: App): readonly Command[] {
  const count = (name: string, field: string, title: string, of: (domain: string) => Promise<number>): Command => ({
    node: `${NS_ADMIN}#${name}`,
    name: title,
    who: 'admin',
    run: async ({ domain }) => ({
      form: resultOf(makeField('text-single', field, { label: title, value: String(await of(domain)) })),
    }),
  })
  const online = (domain: string) => administration.count(domain)
  return [
    count('get-registered-users-num', 'registeredusersnum', 'Get Number of Registered Users', (domain) =>
      administration.countAccounts(domain),
    ),
    count('get-disabled-users-num', 'disabledusersnum', 'Get Number of Disabled Users', (domain) =>
      administration.countAccounts(domain, { disabled: true }),
    ),
    count(
      'get-online-users-num',
      'onlineusersnum',
      'Get Number of Online Users',
      async (domain) => (await online(domain)).online,
    ),
    count(
      'get-active-users-num',
      'activeusersnum',
      'Get Number of Active Users',
      async (domain) => (await online(domain)).active,
    ),
    count('get-idle-users-num', 'idleusersnum', 'Get Number of Idle Users', async (domain) => {
      const { online: all, active } = await online(domain)
      return all - active
    }),
  ]
}

/** §4.18 to §4.22: the first of them, up to a bound. */
function lists({ administration }: App): readonly Command[] {
  const max = makeField('list-single', 'max_items', {
    label: 'Maximum number of items to show',
    value: '100',
    options: ITEMS.map((value) => ({ value, label: value })),
  })
  const list = (name: string, field: string, title: string, of: (domain: string) => AsyncIterable<string>): Command =>
    asking(name, title, [max], async ({ domain, values }) => {
      const limit = Number(values.get('max_items')?.[0] ?? 100)
      const shown: string[] = []
      let more = false
      for await (const jid of of(domain)) {
        more = shown.length === limit
        if (more) break
        shown.push(jid)
      }
      const form = resultOf(makeField('jid-multi', field, { label: title, values: shown }))
      return more ? { form, note: `There are more than ${limit}; the command line shows all.`, noteType: 'warn' } : { form }
    })
  async function* online(domain: string, fits: (isActive: boolean) => boolean): AsyncIterable<string> {
    let account = ''
    let isActive = false
    for await (const { jid, available } of administration.sessions(domain)) {
      const { bare } = bareOf(parseJid(jid)) // the sessions of one account come one after the other
      if (bare !== account && account !== '' && fits(isActive)) yield account
      isActive = (bare === account && isActive) || available
      account = bare
    }
    if (account !== '' && fits(isActive)) yield account
  }
  return [
    list('get-registered-users-list', 'registereduserjids', 'Get List of Registered Users', (domain) =>
      administration.accounts(domain),
    ),
    list('get-disabled-users-list', 'disableduserjids', 'Get List of Disabled Users', (domain) =>
      administration.accounts(domain, { disabled: true }),
    ),
    list('get-online-users-list', 'onlineuserjids', 'Get List of Online Users', (domain) => online(domain, () => true)),
    list('get-active-users-list', 'activeuserjids', 'Get List of Active Users', (domain) => online(domain, (is) => is)),
    list('get-idle-users-list', 'idleuserjids', 'Get List of Idle Users', (domain) => online(domain, (is) => !is)),
  ]
}
