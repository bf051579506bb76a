// XEP-0012: Last Activity: how long the host is up, and how long ago an account logged out.
//
// Logins and changes of presence write nothing; the end of the last available resource is the one exception, and only
// here: one row of some hundred bytes, staged with whatever else is written in that turn, and nothing waits for it but
// its own ack. Without it the question of this specification has no answer after a restart; whoever would rather
// spare the write, or the knowledge, turns `storeLogout` off. A server that is killed writes nothing: the logout
// before that one stands.
//
// That a resource has gone is seen where its account is told of it, as its own resources are (RFC 6121 §4.5.2): so it
// makes no difference whether a client took its leave or was cut off.
import { type App, defineModule, type IqCall } from '#core/module.ts'
import type { AccountRecord } from '#core/storage/store.ts'
import { StanzaError } from '#xmpp/error.ts'
import { bareOf, type Jid, parseJid } from '#xmpp/jid.ts'
import { NS_CLIENT } from '#xmpp/ns.ts'
import { attr, type Element, el, type Stanza, textOf } from '#xmpp/stanza.ts'

const NS = 'jabber:iq:last'
const REQUEST = `{${NS}}query`
/** A status that is longer is cut: it is read with every login. */
const STATUS_LENGTH_MAX = 500

declare module '#core/call.ts' {
  interface Calls {
    /** When an account logged out, for who administers it; null where that is not known. */
    'last.logout': { ask: Record<string, never>; tell: number | null }
  }
}

interface Options {
  storeLogout: boolean
}

interface Logout {
  readonly atMs: number
  readonly status: string
}

export default defineModule<void, Options>({
  name: 'last',
  home: 'presence',
  xeps: [{ number: '0012', version: '2.0' }],
  features: { host: [NS], account: [NS] }, // §6
  namespaces: [NS],
  options: {
    storeLogout: {
      default: true,
      doc: 'Whether it is stored when an account logged out and with what status, for contacts who may see its presence: one small write a logout.',
    },
  },

  setup(app) {
    const logouts = app.record<Logout | null>('last', null)
    const startedMs = app.clock.monotonic()
    app.iq('get', NS, 'query', 'host', () => answer(app.clock.monotonic() - startedMs)) // §5
    app.iq('get', NS, 'query', 'account', (call) => answerFor(app, logouts, call)) // §3; also for one's own account
    app.answer('last.logout', (account) => logouts.read(parseJid(account), (logout) => logout?.atMs ?? null))
    if (app.role === 'presence' && app.options.storeLogout) {
      app.on('presence.left', ({ jid, farewell }) => note(app, logouts, bareOf(jid), farewell))
    }
    if (app.role === 'router') app.guard('inbound', (stanza, { account }) => demandEntitledToResource(app, stanza, account))
  },
})

async function answerFor(app: App<Options>, logouts: AccountRecord<Logout | null>, { account, iq }: IqCall): Promise<Element> {
  if (iq.from.bare !== account.bare && !(await app.seenBy(account, iq.from))) throw new StanzaError('forbidden')
  // A resource that is connected and has shown no presence is not shown here either (§8).
  if (isAvailable(app, account)) return answer(0)
  const logout = await logouts.read(account, (logout) => logout)
  if (logout === null) throw new StanzaError('item-not-found', 'no logout is known')
  return answer(app.clock.now() - logout.atMs, logout.status)
}

/** A clock that was set back makes no time negative. */
function answer(ms: number, status = ''): Element {
  const seconds = String(Math.max(0, Math.floor(ms / 1_000)))
  return el('query', NS, { seconds }, ...(status === '' ? [] : [status]))
}

function isAvailable(app: App<Options>, account: Jid): boolean {
  return app.sessions(account).some(({ available }) => available)
}

async function note(app: App<Options>, logouts: AccountRecord<Logout | null>, account: Jid, farewell: Stanza): Promise<void> {
  if (isAvailable(app, account)) return
  const logout = { atMs: app.clock.now(), status: statusOf(farewell) }
  await logouts.update(account, () => logout)
}

/** The status without a language, else the first (RFC 6121 §4.7.2.2); '' for none. */
function statusOf(farewell: Stanza): string {
  if (farewell.payload.length === 0) return ''
  const all = farewell.tree().filter(({ name, ns }) => name === 'status' && ns === NS_CLIENT)
  const status = all.find((one) => attr(one, 'xml:lang') === '') ?? all[0]
  return status === undefined ? '' : cut(textOf(status))
}

/** Not within a character. */
function cut(text: string): string {
  return text.length <= STATUS_LENGTH_MAX ? text : text.slice(0, STATUS_LENGTH_MAX).replace(/[\uD800-\uDBFF]$/, '')
}

/** §4: the client answers for itself, but not whom its account would not show its presence. */
function demandEntitledToResource(app: App<Options>, stanza: Stanza, account: Jid): void | Promise<void> {
  if (stanza.name !== 'iq' || stanza.child !== REQUEST || stanza.type !== 'get') return
  if (stanza.to === undefined || stanza.to.resource === '' || stanza.from.bare === account.bare) return
  return app.seenBy(account, stanza.from).then((entitled) => {
    if (!entitled) throw new StanzaError('forbidden')
  })
}
