// Whether every account has an owner that answers: what a command waits for before it asks any of them.
//
// Of a process that has died the rows say what it owned until others have taken that, and what is asked about all accounts would
// be answered for some. Each partition's owner is asked, and answers when it serves that (core/ownership/take-over.ts, owner.ready).
import type { Caller } from '#core/call.ts'
import { type Clock, pause, type Timer } from '#core/clock.ts'
import { type Ownership, PARTITIONS, type RoleName } from '#core/ownership/ownership.ts'
import { StanzaError } from '#xmpp/error.ts'
import { ADDRESSES, ROLES, whatToStart } from './owners-view.ts'

/** A lease runs out, its log is recovered, edges are asked: more than that takes. */
export const TAKE_OVER_MS = 15_000
/** After this whoever waits is told what for. */
const TOLD_AFTER_MS = 1_000
const AGAIN_MS = 500

export interface Answering {
  readonly ownership: Pick<Ownership, 'look'>
  readonly caller: Caller
  readonly clock: Clock
  /** Told once, in a sentence. */
  readonly onWait: (text: string) => void
}

/** Throws Error that says which role has owners that do not answer, and what to start. */
export async function untilAnswering({ ownership, caller, clock, onWait }: Answering): Promise<void> {
  const open: Record<RoleName, Set<number>> = { router: all(), presence: all() }
  let isOver = false
  const ask = async (role: RoleName, partition: number): Promise<void> => {
    while (!isOver && !(await answers(caller, role, ADDRESSES[partition]!))) await pause(clock, AGAIN_MS)
    open[role].delete(partition)
  }
  const waits = `waiting for up to ${TAKE_OVER_MS / 1000} s, while others take over what it had`
  const told = clock.setTimeout(() => onWait(`${missingOf(open)}: ${waits}`), TOLD_AFTER_MS)
  const looking = clock.setInterval(() => ownership.look?.(), AGAIN_MS)
  let late: Timer | undefined
  try {
    await Promise.race([
      Promise.all(ROLES.flatMap((role) => ADDRESSES.map((_, partition) => ask(role, partition)))),
      new Promise((_, reject) => {
        late = clock.setTimeout(() => reject(new Error(failureOf(open))), TAKE_OVER_MS)
      }),
    ])
  } finally {
    isOver = true
    for (const timer of [told, looking, late]) clock.clearTimeout(timer)
  }
}

/** False where it is to be asked again. */
async function answers(caller: Caller, role: RoleName, address: string): Promise<boolean> {
  try {
    await caller.ask(role, address, 'owner.ready', {})
    return true
  } catch (error) {
    if (!(error instanceof StanzaError)) throw error
    return error.condition === 'feature-not-implemented' // an owner of an older version: it serves it, too, when it answers
  }
}

function all(): Set<number> {
  return new Set(ADDRESSES.keys())
}

function missingOf(open: Readonly<Record<RoleName, ReadonlySet<number>>>): string {
  const missing = ROLES.filter((role) => open[role].size > 0)
  return missing.map((role) => `${open[role].size} of ${PARTITIONS} partitions have no ${role} that answers`).join(', ')
}

function failureOf(open: Readonly<Record<RoleName, ReadonlySet<number>>>): string {
  const role = ROLES.find((role) => open[role].size > 0)!
  return `${missingOf(open)}, after ${TAKE_OVER_MS / 1000} s; ${whatToStart(role)}`
}
