// Questions that one role asks the owner of an account and that want an answer at once: credentials, a bind, an
// account to make. Names and fields are JSON; a StanzaError thrown over there is thrown over here.
//
// In a cluster the owner may die, and the account get another one. Who is asked too early waits until he is ready; who is
// asked too late says so, and is not asked again: a call waits through a take-over, for CALL_TIMEOUT_MS in all. A question
// may so be answered twice, by two owners, but for those that must not be (`NOT_TWICE`).
import { type Bus, BusTimeout, NoResponders, type Subscription } from '#bus/bus.ts'
import { TableUnavailable } from '#table/table.ts'
import { type ErrorType, type StanzaCondition, StanzaError } from '#xmpp/error.ts'
import { asBuffer } from '#xmpp/xml.ts'
import { type Clock, pause, systemClock, type Timer } from './clock.ts'
import type { Log } from './observing/log.ts'
import { type Ownership, partitionOf, type RoleName } from './ownership/ownership.ts'

const CALL_TIMEOUT_MS = 10_000
/** How soon an owner is asked again, or the next one. */
const AGAIN_MS = 50
/** How often is looked whether an account has become ours, or this process sure. */
const LOOK_MS = 25
/** Calls that wait for that at a time. */
const WAITING_MAX = 10_000
/** The second answer would be another one: there is such an account already, there is none any more. */
const NOT_TWICE: ReadonlySet<string> = new Set(['account.create', 'account.remove', 'iq.stranger'])

/** Asked again where nothing is heard for so long: the bus may have lost it. Reads, at little cost, for which somebody waits. */
const ASKED_AGAIN: ReadonlySet<string> = new Set(['account.credentials'])
const SILENT_MS = 2_000

/** What a process can be asked. Declared by whoever answers, next to the answer. */
// biome-ignore lint/suspicious/noEmptyInterface: a type cannot be added to
export interface Calls {}

export type Asked<N extends keyof Calls> = Calls[N] extends { ask: infer A } ? A : never
export type Told<N extends keyof Calls> = Calls[N] extends { tell: infer T } ? T : never

export type CallHandlers = { [N in keyof Calls]?: (account: string, fields: Asked<N>) => Told<N> | Promise<Told<N>> }

export interface Caller {
  /** Throws the StanzaError of a refusal (without `extra`), or resource-constraint where no owner answers. */
  ask<N extends keyof Calls>(role: RoleName, account: string, name: N, fields: Asked<N>): Promise<Told<N>>
  /** The same of one process that owns accounts (Ownership.ownersOf): about no account, or about all of its own. */
  askOwner<N extends keyof Calls>(role: RoleName, process: string, name: N, fields: Asked<N>): Promise<Told<N>>
}

/** As JSON: what was told, or why not. `moved`: it is for somebody else to answer. */
interface Answer {
  readonly told?: unknown
  readonly condition?: StanzaCondition
  readonly type?: ErrorType
  readonly text?: string
  readonly moved?: boolean
}

/** Nobody has answered, and it may be asked again: it was not handled, or it may be handled twice. */
const AGAIN = Symbol('again')

/** A question whose answer the next owner of the partition may give as well. */
interface Waiting {
  readonly role: RoleName
  readonly partition: number
  readonly moved: (again: typeof AGAIN) => void
}

export function openCaller(bus: Bus, ownership: Ownership, clock: Clock = systemClock): Caller {
  const waiting = new Set<Waiting>()
  ownership.onChange((role, partitions) => {
    for (const each of waiting) if (each.role === role && partitions.includes(each.partition)) each.moved(AGAIN)
  })

  async function request(role: RoleName, process: string, body: Uint8Array, timeoutMs: number): Promise<Answer> {
    return JSON.parse(textOf(await bus.request(`call.${role}.${process}`, body, timeoutMs)))
  }

  /** Of the owner there is now, or of whoever follows him while he does not answer. */
  async function askOnce(role: RoleName, account: string, name: string, body: Buffer, leftMs: number) {
    const owner = ownership.ownerOf(role, account)
    if (owner === '') return AGAIN
    const asked = request(role, owner, body, leftMs)
    if (NOT_TWICE.has(name)) return asked
    let entry: Waiting | undefined
    let timer: Timer | undefined
    const again = new Promise<typeof AGAIN>((resolve) => {
      entry = { role, partition: partitionOf(account), moved: resolve }
      waiting.add(entry)
      if (ASKED_AGAIN.has(name)) timer = clock.setTimeout(() => resolve(AGAIN), SILENT_MS)
    })
    asked.catch(() => {}) // where nobody waits for it any more
    return Promise.race([asked, again]).finally(() => {
      waiting.delete(entry!)
      clock.clearTimeout(timer)
    })
  }

  async function askOwnerOf(role: RoleName, account: string, name: string, fields: unknown): Promise<Answer> {
    for (const untilMs = clock.monotonic() + CALL_TIMEOUT_MS; ; ) {
      const leftMs = Math.ceil(untilMs - clock.monotonic())
      if (leftMs <= 0) throw unreachable()
      const body = Buffer.from(JSON.stringify({ name, account, fields, epoch: ownership.epoch(role) }))
      try {
        const answer = await askOnce(role, account, name, body, leftMs)
        if (answer !== AGAIN && answer.moved !== true) return answer
      } catch (error) {
        if (!(error instanceof NoResponders)) throw error // else he is dead, or not there yet
      }
      ownership.look?.()
      await pause(clock, Math.min(AGAIN_MS, leftMs))
    }
  }

  const askProcess = (role: RoleName, process: string, account: string, name: string, fields: unknown) =>
    request(role, process, Buffer.from(JSON.stringify({ name, account, fields })), CALL_TIMEOUT_MS)

  return {
    ask: (role, account, name, fields) =>
      tell(
        bus.lossless
          ? askProcess(role, ownership.ownerOf(role, account), account, name, fields)
          : askOwnerOf(role, account, name, fields),
      ),
    askOwner: (role, process, name, fields) => tell(askProcess(role, process, '', name, fields)),
  }
}

/** What the answer tells, or the refusal that it is. */
async function tell(asking: Promise<Answer>): Promise<never> {
  let answer: Answer
  try {
    answer = await asking
  } catch (error) {
    if (error instanceof BusTimeout || error instanceof NoResponders) throw unreachable()
    throw error
  }
  if (answer.condition !== undefined) throw new StanzaError(answer.condition, answer.text, { type: answer.type })
  return answer.told as never
}

function unreachable(): StanzaError {
  return new StanzaError('resource-constraint', 'the service is not reachable at the moment', { type: 'wait' })
}

/** The calls that modules answer. */
export class Answers {
  readonly #handlers = new Map<string, unknown>()

  /** Throws Error where it is answered already. */
  add<N extends keyof Calls>(name: N, handler: NonNullable<CallHandlers[N]>): void {
    if (this.#handlers.has(name)) throw new Error(`two modules answer the call ${name}`)
    this.#handlers.set(name, handler)
  }

  /** With those of the role itself. Throws Error where both answer one. */
  beside(own: CallHandlers): CallHandlers {
    const both = Object.keys(own).find((name) => this.#handlers.has(name))
    if (both !== undefined) throw new Error(`a module and its role both answer the call ${both}`)
    return { ...own, ...(Object.fromEntries(this.#handlers) as CallHandlers) }
  }
}

/** Where accounts come and go: what is asked about one is answered while it is ours. */
export interface CallGate {
  readonly ownership: Ownership
  readonly clock: Clock
}

interface Question {
  readonly name: keyof Calls
  readonly account: string
  readonly fields: never
  /** Of the ownership row that the asker goes by. */
  readonly epoch?: number
}

/** Answers the calls to one role of this process. */
export function answerCalls(
  bus: Bus,
  role: RoleName,
  process: string,
  handlers: CallHandlers,
  log: Log,
  gate?: CallGate,
): Subscription {
  let waiting = 0
  return bus.subscribe(`call.${role}.${process}`, (body, reply) => {
    void answer(body).then((answer) => reply(Buffer.from(JSON.stringify(answer))))
  })

  async function answer(body: Uint8Array): Promise<Answer> {
    let question: Question | undefined
    try {
      question = JSON.parse(textOf(body)) as Question
      const { account } = question
      if (gate === undefined || account === '') return { told: await handle(question) }
      if (!(await admits(gate, question))) return { moved: true }
      return await whenSure(gate, role, question, { told: await handle(question) })
    } catch (error) {
      const refusal = refusalOf(error, question?.name ?? '')
      return gate === undefined || question === undefined ? refusal : whenSure(gate, role, question, refusal)
    }
  }

  async function handle({ name, account, fields }: Question): Promise<unknown> {
    const handler = handlers[name] as ((account: string, fields: never) => unknown) | undefined
    if (handler === undefined) throw new StanzaError('feature-not-implemented', `nobody answers ${name}`)
    return handler(account, fields)
  }

  /** Waits until the account is known to be ours, and is ready; false where it is somebody else's. */
  async function admits({ ownership, clock }: CallGate, { account, epoch = 0 }: Question): Promise<boolean> {
    const partition = partitionOf(account)
    const isKnown = (): boolean => ownership.epoch(role) >= epoch
    if (isKnown() && ownership.owns(role, account)) return true
    if (waiting >= WAITING_MAX) throw unreachable()
    waiting++
    try {
      for (const untilMs = clock.monotonic() + CALL_TIMEOUT_MS; clock.monotonic() < untilMs; ) {
        if (!isKnown()) ownership.look?.()
        else if (ownership.ownerAt(role, partition) !== process) return false
        else if (ownership.owns(role, account)) return true
        await pause(clock, LOOK_MS)
      }
    } finally {
      waiting--
    }
    throw unreachable()
  }

  function refusalOf(error: unknown, name: string): Answer {
    if (error instanceof StanzaError) return { condition: error.condition, type: error.type, text: error.text }
    if (error instanceof TableUnavailable) {
      log.warn('call.refused', { role, name, error })
      return { condition: 'resource-constraint', type: 'wait', text: 'the storage is not reachable at the moment' }
    }
    log.error('call.broke', { role, name, error })
    return { condition: 'internal-server-error', text: '' }
  }
}

/** Nothing is said by a process that is not sure; and what it did for an account it has lost may have come to nothing. */
async function whenSure(gate: CallGate, role: RoleName, { name, account }: Question, answer: Answer): Promise<Answer> {
  const { ownership, clock } = gate
  for (const untilMs = clock.monotonic() + CALL_TIMEOUT_MS; !ownership.sure() && clock.monotonic() < untilMs; )
    await pause(clock, LOOK_MS)
  if (!ownership.sure()) return { moved: true }
  return account === '' || NOT_TWICE.has(name) || ownership.owns(role, account) ? answer : { moved: true }
}

function textOf(body: Uint8Array): string {
  return asBuffer(body).toString('utf8')
}
