// What another process of the cluster can be told, while an upgrade rolls: it reads the version of envelopes that its lease says
// (core/ownership/leases.ts), and nothing newer. What that version has no words for is not said to it, as is logged once.
import { ENVELOPE_VERSION } from '../envelope.ts'
import type { Members, Process } from '../process.ts'

/** The version in which something is written for this process: the newest that both know. */
export function speaksOf({ members }: Pick<Process, 'members'>, process: string): number {
  return members === undefined ? ENVELOPE_VERSION : Math.min(members.speaksOf(process), ENVELOPE_VERSION)
}

const told = new WeakMap<Members, Set<string>>()

/** That this process is too old for something it should be told: once of each. */
export function tellTooOld({ members, log }: Pick<Process, 'members' | 'log'>, process: string): void {
  if (members === undefined) return
  const processes = told.get(members) ?? new Set()
  told.set(members, processes)
  if (processes.has(process)) return
  processes.add(process)
  log.error('peer.too_old', {
    process,
    speaks: members.speaksOf(process),
    needed: ENVELOPE_VERSION,
    help: 'who is online is not shown between the two until that process is upgraded, too: upgrade edges and presence together',
  })
}
