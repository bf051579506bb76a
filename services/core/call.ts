// Questions that one role asks the owner of an account and that want an answer at once: credentials, a bind, an
// account to make. Names and fields are JSON; a StanzaError thrown over there is thrown over here.
import { type Bus, BusTimeout, NoResponders, type Subscription } from '#bus/bus.ts'
import { TableUnavailable } from '#table/table.ts'
import { type ErrorType, type StanzaCondition, StanzaError } from '#xmpp/error.ts'
import type { Log } from './log.ts'
import type { Ownership, RoleName } from './ownership.ts'

const CALL_TIMEOUT_MS = 10_000

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

export function openCaller(bus: Bus, ownership: Ownership): Caller {
  async function request(role: RoleName, process: string, account: string, name: string, fields: unknown): Promise<never> {
    const body = Buffer.from(JSON.stringify({ name, account, fields }))
    let answer: { told?: unknown; condition?: StanzaCondition; type?: ErrorType; text?: string }
    try {
      answer = JSON.parse(Buffer.from(await bus.request(`call.${role}.${process}`, body, CALL_TIMEOUT_MS)).toString('utf8'))
    } catch (error) {
      if (error instanceof BusTimeout || error instanceof NoResponders) {
        throw new StanzaError('resource-constraint', 'the service is not reachable at the moment', { type: 'wait' })
      }
      throw error
    }
    if (answer.condition !== undefined) throw new StanzaError(answer.condition, answer.text, { type: answer.type })
    return answer.told as never
  }
  return {
    ask: (role, account, name, fields) => request(role, ownership.ownerOf(role, account), account, name, fields),
    askOwner: (role, process, name, fields) => request(role, process, '', name, fields),
  }
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

/** Answers the calls to one role of this process. */
export function answerCalls(bus: Bus, role: RoleName, process: string, handlers: CallHandlers, log: Log): Subscription {
  return bus.subscribe(`call.${role}.${process}`, (body, reply) => {
    void answer(body).then((answer) => reply(Buffer.from(JSON.stringify(answer))))
  })

  async function answer(body: Uint8Array): Promise<object> {
    let name = ''
    try {
      const question = JSON.parse(Buffer.from(body).toString('utf8')) as { name: keyof Calls; account: string; fields: never }
      name = question.name
      const handler = handlers[question.name] as ((account: string, fields: never) => unknown) | undefined
      if (handler === undefined) throw new StanzaError('feature-not-implemented', `nobody answers ${name}`)
      return { told: await handler(question.account, question.fields) }
    } catch (error) {
      if (error instanceof StanzaError) return { condition: error.condition, type: error.type, text: error.text }
      if (error instanceof TableUnavailable) {
        log.warn('call.refused', { role, name, error })
        return { condition: 'resource-constraint', type: 'wait', text: 'the storage is not reachable at the moment' }
      }
      log.error('call.broke', { role, name, error })
      return { condition: 'internal-server-error', text: '' }
    }
  }
}
