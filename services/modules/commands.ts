// XEP-0050: Ad-Hoc Commands: what a module offers to be done by filling in forms, in any client.
//
// A module says what its command is called, who may give it and which forms it asks for; the stages, their order and the
// sessions are kept here. All commands are commands of the host: an administrator sees those for administrators, every
// account those about itself. The home is presence, so that a command may wait for what the router does in the name of
// the same account.
//
// A session belongs to the one resource that began it. It is forgotten when it is completed, canceled or left alone for
// too long; its id shows that it was once given here, so that one that has ended can be told from one that never was.
import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto'
import { type App, defineModule, type IqCall } from '#core/module.ts'
import { isAdmin } from '#core/settings/hosts.ts'
import type { MaybePromise } from '#core/storage/store.ts'
import { StanzaError } from '#xmpp/error.ts'
import { type Field, type Form, formElement, formOf, submitted } from '#xmpp/form.ts'
import { randomId } from '#xmpp/id.ts'
import type { Jid } from '#xmpp/jid.ts'
import { NS_DATA } from '#xmpp/ns.ts'
import { attr, type Element, el } from '#xmpp/stanza.ts'
import disco, { NS_DISCO_INFO, NS_DISCO_ITEMS } from './disco.ts'

const NS = 'http://jabber.org/protocol/commands'

export interface Command {
  readonly node: string
  readonly name: string
  /** `admin`: who administers the domain that is asked (core/settings/hosts.ts). `self`: each account of the domain, about itself. */
  readonly who: 'admin' | 'self'
  /** One form for each stage, in their order; each sees what was filled in before it. Without one it is done at once. */
  readonly stages?: readonly ((call: CommandCall) => MaybePromise<Form>)[]
  /** Does it. Throws StanzaError; then the last form may be submitted again. */
  run(call: CommandCall): MaybePromise<Outcome | void>
}

export interface CommandCall {
  /** Who asks, and his account. */
  readonly from: Jid
  readonly account: Jid
  /** The domain that is asked. */
  readonly domain: string
  /** What was filled in so far: as `submitted` gives it (xmpp/form.ts), of all stages together. */
  readonly values: ReadonlyMap<string, readonly string[]>
}

export interface Outcome {
  /** For people. §3.6: of type `error` where it has failed although it is completed. */
  readonly note?: string
  readonly noteType?: 'info' | 'warn' | 'error'
  readonly form?: Form
  /** What stands in the form besides its fields. */
  readonly inForm?: readonly Element[]
}

export interface Commands {
  /** Throws Error where there is one of that node. */
  add(command: Command): void
}

interface Options {
  sessionsPerAccountMax: number
  sessionsMax: number
  sessionBytesMax: number
  sessionSeconds: number
}

export default defineModule<Commands, Options>({
  name: 'commands',
  home: 'presence',
  xeps: [{ number: '0050', version: '1.3.0' }],
  features: { host: [NS, NS_DATA] }, // §2.1
  namespaces: [NS],
  options: {
    sessionsPerAccountMax: { default: 10, min: 1, max: 1_000, doc: 'Commands that one account may have begun and not ended.' },
    sessionsMax: { default: 1_000, min: 1, max: 100_000, doc: 'The same of all accounts of a process together.' },
    sessionBytesMax: { default: 65_536, min: 1_024, max: 1_048_576, doc: 'What may be filled in in one command, in characters.' },
    sessionSeconds: { default: 600, min: 10, max: 86_400, doc: 'How long a command waits for the next form.' },
  },

  setup(app) {
    const commands = new Map<string, Command>()
    const conversations = new Conversations(app, commands)
    const { nodes } = app.need(disco)
    const all: Commands = {
      add(command) {
        if (commands.has(command.node)) throw new Error(`two commands have the node ${command.node}`)
        commands.set(command.node, command)
        nodes.add(command.node, (call) => {
          demandMay(app, command, call)
          return infoOf('command-node', command.name, [NS, NS_DATA]) // §2.2
        })
      },
    }
    nodes.add(
      NS,
      () => infoOf('command-list', 'Commands', [NS, NS_DISCO_ITEMS]),
      (call) => {
        const jid = call.iq.to!.domain
        const mine = [...commands.values()].filter((command) => may(app, command, call))
        return mine.map(({ node, name }) => el('item', NS_DISCO_ITEMS, { jid, node, name })) // §2.2
      },
    )
    app.iq('set', NS, 'command', 'host', (call) => quiet(() => conversations.take(call)))
    return all
  },
})

function infoOf(type: string, name: string, features: readonly string[]): readonly Element[] {
  return [
    el('identity', NS_DISCO_INFO, { category: 'automation', type, name }),
    ...features.map((feature) => el('feature', NS_DISCO_INFO, { var: feature })),
  ]
}

function may({ server }: App<Options>, { who }: Command, { account, iq }: IqCall): boolean {
  const { domain } = iq.to!
  return who === 'admin' ? isAdmin(server, domain, account) : account.domain === domain
}

function demandMay(app: App<Options>, command: Command, call: IqCall): void {
  if (!may(app, command, call)) throw new StanzaError('forbidden', '', { type: 'cancel' }) // §4.4
}

/** One that has begun and not ended. */
interface Conversation {
  readonly id: string
  readonly command: Command
  readonly from: Jid
  readonly account: Jid
  readonly domain: string
  expiresMs: number
  /** The stage whose form has been offered, and what was filled in in those before it and in it, by stage. */
  stage: number
  offered: Form
  readonly filled: ReadonlyMap<string, readonly string[]>[]
  /** A request is being answered. */
  busy: boolean
}

const ACTIONS = ['cancel', 'complete', 'execute', 'next', 'prev'] as const
type Action = (typeof ACTIONS)[number]

class Conversations {
  readonly #app: App<Options>
  readonly #commands: ReadonlyMap<string, Command>
  /** By their ids, the one that was left alone for longest first. */
  readonly #open = new Map<string, Conversation>()
  readonly #secret = randomBytes(32)

  constructor(app: App<Options>, commands: ReadonlyMap<string, Command>) {
    this.#app = app
    this.#commands = commands
    app.on('accounts.released', ({ gone }) => {
      for (const { id, account } of this.#open.values()) if (gone(account.bare)) this.#open.delete(id)
    })
  }

  /** A `<command/>` to the host. */
  take(call: IqCall): Promise<Element> {
    const { payload } = call
    const command = this.#commands.get(attr(payload, 'node'))
    if (command === undefined) throw new StanzaError('item-not-found', 'there is no such command') // §4.4
    demandMay(this.#app, command, call)
    demandEnglish(payload)
    const action = actionOf(payload)
    const id = payload.attrs.sessionid
    return id === undefined ? this.#begin(command, action, call) : this.#goOn(command, action, id, call)
  }

  async #begin(command: Command, action: Action, { iq, account }: IqCall): Promise<Element> {
    if (action !== 'execute') throw refused('bad-action', 'the command has not begun')
    const { from } = iq
    const { domain } = iq.to!
    const id = this.#newId(from)
    const [first] = command.stages ?? []
    const call = { from, account, domain, values: NOTHING_FILLED_IN }
    if (first === undefined) return completed(command, id, await this.#run(command, call))
    this.#demandRoom(account)
    const begun = { id, command, from, account, domain, expiresMs: 0, stage: 0, offered: NO_FORM, filled: [], busy: false }
    this.#keep(begun)
    try {
      return await this.#offer(begun, 0)
    } catch (error) {
      this.#open.delete(id) // nobody has been told its id, to cancel it
      throw error
    }
  }

  async #goOn(command: Command, action: Action, id: string, { iq, payload }: IqCall): Promise<Element> {
    const conversation = this.#find(id, iq.from)
    if (conversation.command !== command || conversation.domain !== iq.to!.domain)
      throw refused('bad-sessionid', 'that session is of another command')
    if (conversation.busy) throw new StanzaError('unexpected-request', 'the request before this one is not answered yet')
    this.#keep(conversation)
    conversation.busy = true
    try {
      return await this.#act(conversation, action, payload)
    } finally {
      conversation.busy = false
    }
  }

  #act(conversation: Conversation, action: Action, payload: Element): Promise<Element> | Element {
    const { command, id, stage } = conversation
    const isLast = stage === command.stages!.length - 1
    switch (action) {
      case 'cancel':
        this.#open.delete(id)
        return el('command', NS, { node: command.node, sessionid: id, status: 'canceled' }) // §2.4.3
      case 'prev':
        if (stage === 0) throw refused('bad-action', 'this is the first form')
        return this.#offer(conversation, stage - 1)
      case 'next':
        if (isLast) throw refused('bad-action', 'this is the last form')
        break
      case 'complete':
        if (!isLast) throw refused('bad-action', 'there are more forms')
        break
      case 'execute': // §3.4: whatever was said to be the default
    }
    this.#fill(conversation, payload)
    return isLast ? this.#complete(conversation) : this.#offer(conversation, stage + 1)
  }

  async #complete(conversation: Conversation): Promise<Element> {
    const { command, id } = conversation
    const outcome = await this.#run(command, callOf(conversation, command.stages!.length))
    this.#open.delete(id)
    return completed(command, id, outcome)
  }

  /** What an administrator does is logged, with his name. */
  async #run(command: Command, call: CommandCall): Promise<Outcome | void> {
    const outcome = await command.run(call)
    const { node, who } = command
    if (who === 'admin') this.#app.log.info('command.completed', { node, by: call.from.full, domain: call.domain })
    return outcome
  }

  /** Takes what was submitted. §3.5.1 has a form of type cancel count as submitted. */
  #fill(conversation: Conversation, payload: Element): void {
    const { filled, offered, stage } = conversation
    const values = bad(() => {
      const form = formOf(payload)
      if (form === undefined) throw new StanzaError('bad-request', 'there is no form')
      return submitted(offered, form.type === 'cancel' ? { ...form, type: 'submit' } : form)
    })
    const before = filled.slice(0, stage).reduce((sum, values) => sum + lengthOf(values), 0)
    if (before + lengthOf(values) > this.#app.options.sessionBytesMax) throw refused('bad-payload', 'that is too much')
    filled[stage] = values
  }

  async #offer(conversation: Conversation, stage: number): Promise<Element> {
    const { command, filled, id } = conversation
    const form = await command.stages![stage]!(callOf(conversation, stage))
    conversation.stage = stage
    conversation.offered = withValues(form, filled[stage]) // §2.4.2: what was filled in before is remembered
    const isLast = stage === command.stages!.length - 1
    const forwards = isLast ? 'complete' : 'next'
    const actions = el('actions', NS, { execute: forwards }, ...(stage > 0 ? [el('prev', NS)] : []), el(forwards, NS))
    return commandElement(command, id, 'executing', actions, formElement(conversation.offered))
  }

  // --- which there are

  #keep(conversation: Conversation): void {
    conversation.expiresMs = this.#app.clock.monotonic() + this.#app.options.sessionSeconds * 1_000
    this.#open.delete(conversation.id)
    this.#open.set(conversation.id, conversation)
  }

  /** Those that were left alone for too long make room. Throws not-allowed for an account that has begun too many (§3.3). */
  #demandRoom(account: Jid): void {
    this.#forgetExpired()
    const { sessionsMax, sessionsPerAccountMax } = this.#app.options
    let mine = 0
    for (const conversation of this.#open.values()) if (conversation.account.bare === account.bare) mine++
    if (mine >= sessionsPerAccountMax)
      throw new StanzaError('not-allowed', `you have begun ${mine} commands; complete or cancel one of them`)
    if (this.#open.size >= sessionsMax) throw new StanzaError('resource-constraint', 'too many commands are under way')
  }

  #forgetExpired(): void {
    const now = this.#app.clock.monotonic()
    for (const { id, expiresMs, busy } of this.#open.values()) {
      if (expiresMs > now) return
      if (!busy) this.#open.delete(id)
    }
  }

  #find(id: string, from: Jid): Conversation {
    this.#forgetExpired()
    const conversation = this.#open.get(id)
    if (conversation !== undefined && conversation.from.full === from.full) return conversation
    if (conversation !== undefined || !this.#wasGiven(id, from)) throw refused('bad-sessionid', 'that session is not yours')
    throw new StanzaError('not-allowed', 'the session has ended', { extra: el('session-expired', NS) }) // §4.4
  }

  #newId(from: Jid): string {
    const name = randomId(12)
    return `${name}.${this.#signature(name, from)}`
  }

  #wasGiven(id: string, from: Jid): boolean {
    const [name = '', signature = ''] = id.split('.')
    const right = Buffer.from(this.#signature(name, from))
    const shown = Buffer.from(signature)
    return shown.length === right.length && timingSafeEqual(shown, right)
  }

  #signature(name: string, from: Jid): string {
    return createHmac('sha256', this.#secret).update(`${name} ${from.full}`).digest('base64url').slice(0, 16)
  }
}

const NOTHING_FILLED_IN: ReadonlyMap<string, readonly string[]> = new Map()
const NO_FORM: Form = { type: 'form', instructions: [], fields: [] }

function callOf({ from, account, domain, filled }: Conversation, stages: number): CommandCall {
  return { from, account, domain, values: new Map(filled.slice(0, stages).flatMap((values) => [...values])) }
}

function completed(command: Command, id: string, outcome: Outcome | void): Element {
  const { note, noteType = 'info', form, inForm = [] } = outcome ?? {}
  const payload: Element[] = []
  if (form !== undefined) {
    const x = formElement(form)
    payload.push(inForm.length === 0 ? x : { ...x, children: [...x.children, ...inForm] })
  }
  if (note !== undefined) payload.push(el('note', NS, { type: noteType }, note))
  return commandElement(command, id, 'completed', ...payload)
}

/** §3.7: every answer says which language it is in. */
function commandElement({ node }: Command, sessionid: string, status: string, ...payload: readonly Element[]): Element {
  return el('command', NS, { node, sessionid, status, 'xml:lang': 'en' }, ...payload)
}

function actionOf(payload: Element): Action {
  const action = attr(payload, 'action') || 'execute'
  const known = ACTIONS.find((one) => one === action)
  if (known === undefined) throw refused('malformed-action', 'there is no such action')
  return known
}

/**
 * §3.7. A client repeats the language of its stream on every stanza, and is answered in the only one we have all the
 * same; one that asks for this very command in another is told that there is none.
 */
function demandEnglish(payload: Element): void {
  const lang = attr(payload, 'xml:lang')
  if (lang !== '' && !/^en(?:-|$)/i.test(lang)) throw refused('bad-locale', 'commands are in English')
}

/** bad-request with one of the conditions of §4.4. */
function refused(condition: 'bad-action' | 'bad-locale' | 'bad-payload' | 'bad-sessionid' | 'malformed-action', text: string) {
  return new StanzaError('bad-request', text, { extra: el(condition, NS) })
}

/** What was filled in may be a password: no refusal repeats it. */
async function quiet<T>(task: () => Promise<T>): Promise<T> {
  try {
    return await task()
  } catch (error) {
    if (!(error instanceof StanzaError)) throw error
    const { condition, text, type, extra } = error
    throw new StanzaError(condition, text, { type, extra, echo: false })
  }
}

/** What is wrong with a form is wrong with the payload. */
function bad<T>(read: () => T): T {
  try {
    return read()
  } catch (error) {
    if (error instanceof StanzaError) throw refused('bad-payload', error.text)
    throw error
  }
}

function withValues(form: Form, values: ReadonlyMap<string, readonly string[]> | undefined): Form {
  if (values === undefined) return form
  const filledIn = (field: Field): Field => {
    const known =
      field.type === 'fixed' || field.type === 'hidden' || field.type === 'text-private' ? undefined : values.get(field.var)
    return known === undefined ? field : { ...field, values: known }
  }
  return { ...form, fields: form.fields.map(filledIn) }
}

function lengthOf(values: ReadonlyMap<string, readonly string[]>): number {
  let length = 0
  for (const list of values.values()) for (const text of list) length += text.length
  return length
}
