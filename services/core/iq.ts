// Finding who answers an iq, and turning what he returns or throws into the answer (RFC 6120 §8.2.3, §8.4).

import { BODY_BYTES_MAX } from '#bus/bus.ts'
import { TableUnavailable } from '#table/table.ts'
import { StanzaError } from '#xmpp/error.ts'
import type { Element, Stanza } from '#xmpp/stanza.ts'
import { asStanzaError, errorOf, resultOf } from './answer.ts'
import type { AnyModule, IqCall, IqHandler, IqTarget } from './module.ts'
import type { Log } from './observing/log.ts'
import type { RoleName } from './ownership/ownership.ts'

/** The payload of a result: with the head, whose id may be as long as a stanza, it has to fit into one body of the bus. */
export const RESULT_BYTES_MAX = BODY_BYTES_MAX - 300_000

interface Registered {
  readonly module: string
  readonly run: IqHandler
}

/** Which role answers which namespace, from what the modules declare: all that an edge needs to know. */
export class IqHomes {
  readonly #homes = new Map<string, RoleName>()
  readonly #strangers = new Set<string>()

  /** Throws Error where two modules of different homes declare one namespace. */
  constructor(modules: readonly AnyModule[]) {
    for (const { name, home, namespaces = [], strangers = [] } of modules) {
      for (const ns of namespaces) {
        const other = this.#homes.get(ns)
        if (other !== undefined && other !== home) throw new Error(`iqs in ${ns} have two homes; module ${name} says ${home}`)
        this.#homes.set(ns, home)
      }
      for (const ns of strangers) this.#strangers.add(ns)
    }
  }

  /** The role that answers an iq with this child, `{ns}name`; the router answers what nobody knows. */
  homeOf(child: string): RoleName {
    return this.#homes.get(namespaceOf(child)) ?? 'router'
  }

  /** Whether a stream that has not logged in may ask this. */
  forStrangers(child: string): boolean {
    return this.#strangers.has(namespaceOf(child))
  }
}

/** `{ns}name` to ns. */
function namespaceOf(child: string): string {
  return child.slice(1, child.lastIndexOf('}'))
}

/** The iq handlers of one role: those of the modules whose home it is. */
export class IqTable {
  readonly #handlers = new Map<string, Registered>()
  readonly #targets = new Map<string, Set<IqTarget>>()

  /** Throws Error where two modules answer the same iq, or a module one that it does not declare: by name, at start. */
  add(module: AnyModule, type: 'get' | 'set', ns: string, name: string, target: IqTarget, run: IqHandler): void {
    if (!module.namespaces?.includes(ns))
      throw new Error(`module ${module.name} answers iqs in ${ns} and does not declare it in namespaces`)
    const child = `{${ns}}${name}`
    const key = keyOf(type, target, child)
    const taken = this.#handlers.get(key)
    if (taken !== undefined)
      throw new Error(`modules ${taken.module} and ${module.name} both answer iq ${type} ${child} to ${target}`)
    this.#handlers.set(key, { module: module.name, run })
    const targets = this.#targets.get(child) ?? new Set()
    this.#targets.set(child, targets.add(target))
  }

  /** Throws service-unavailable where nobody answers this namespace here, feature-not-implemented where only this request is unknown. */
  find(type: string, target: IqTarget, child: string): Registered {
    const found =
      this.#handlers.get(keyOf(type, target, child)) ??
      (target === 'self' ? this.#handlers.get(keyOf(type, 'account', child)) : undefined)
    if (found !== undefined) return found
    const targets = this.#targets.get(child)
    const known = targets?.has(target) || (target === 'self' && targets?.has('account'))
    throw known ? new StanzaError('feature-not-implemented') : new StanzaError('service-unavailable')
  }
}

/** Runs the handler. Calls `answer` once with the result or the error; a result too large is resource-constraint. TableUnavailable rises. */
export function runIq(
  table: IqTable,
  target: IqTarget,
  call: Omit<IqCall, 'payload' | 'afterwards'>,
  log: Log,
  answer: (stanza: Stanza) => void,
): void | Promise<void> {
  const { iq } = call
  const refuse = (error: unknown): void => {
    if (error instanceof TableUnavailable) throw error
    if (!(error instanceof StanzaError)) log.error('iq.broke', { child: iq.child, target, error })
    const refusal = errorOf(iq, asStanzaError(error))
    if (refusal !== undefined) answer(refusal)
  }
  let behind: (() => void) | undefined
  const afterwards = (task: () => void): void => {
    behind = task
  }
  const result = (payload: Element | void): void => {
    const made = resultOf(iq, payload)
    const bytes = made.payload.length
    if (bytes > RESULT_BYTES_MAX) {
      log.warn('iq.result_too_large', { child: iq.child, target, bytes })
      return refuse(
        new StanzaError('resource-constraint', `the answer has ${bytes} bytes; at most ${RESULT_BYTES_MAX} can be sent`),
      )
    }
    answer(made)
    try {
      behind?.()
    } catch (error) {
      log.error('iq.broke', { child: iq.child, target, error }) // it has been answered, and is answered once
    }
  }
  let returned: Element | void | Promise<Element | void>
  try {
    const { run } = table.find(iq.type, target, iq.child)
    returned = run({ ...call, payload: payloadOf(iq), afterwards })
  } catch (error) {
    return refuse(error)
  }
  if (returned instanceof Promise) return returned.then(result, refuse)
  result(returned)
}

function payloadOf(iq: Stanza): Element {
  const [payload] = iq.tree()
  if (payload === undefined) throw new StanzaError('bad-request', 'a get or set has exactly one child') // RFC 6120 §8.2.3
  return payload
}

function keyOf(type: string, target: IqTarget, child: string): string {
  return `${type} ${target} ${child}`
}
