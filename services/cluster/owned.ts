// Whether every account has an owner that lives: what an edge waits for before it lets anybody in, and says of itself later.
//
// An owner that dies is replaced within seconds, while clients wait: that is no reason to send them elsewhere, where they would
// wait as well. Only what has had no owner for longer than a lease makes the edge unready, until it has one again.
import type { Clock } from '#core/clock.ts'
import type { Health } from '#core/observing/health.ts'
import type { Log } from '#core/observing/log.ts'
import { LEASE_MS } from '#core/ownership/leases.ts'
import type { Membership } from '#core/ownership/membership.ts'
import { type Ownership, PARTITIONS, type RoleName } from '#core/ownership/ownership.ts'
import { ROLES } from './owners-view.ts'

const PART = 'owners'
const HELP = 'processes with the roles router and presence are needed'

export interface Owned {
  readonly membership: Pick<Membership, 'onRead' | 'livenessOf'>
  readonly ownership: Pick<Ownership, 'onChange' | 'ownerAt'>
  readonly clock: Clock
  readonly health: Health
  readonly log: Log
}

/** Resolves when each partition has an owner that lives, in each role. From now on health says what is missing. */
export function untilOwned(owned: Owned): Promise<void> {
  const { membership, ownership, health } = owned
  const watch = new Watch(owned)
  health.expect(PART)
  return new Promise((resolve) => {
    const look = (): void => {
      if (watch.look()) resolve()
    }
    ownership.onChange(look)
    membership.onRead(look) // every 2 s: what takes too long is seen by that
    look()
  })
}

class Watch {
  readonly #owned: Owned
  /** By partition, since when it has had no owner; Infinity where it has one. */
  readonly #sinceMs: Readonly<Record<RoleName, Float64Array>>
  /** Each partition has had one. */
  #begun = false
  #told = ''

  constructor(owned: Owned) {
    this.#owned = owned
    const none = () => new Float64Array(PARTITIONS).fill(Number.POSITIVE_INFINITY)
    this.#sinceMs = { router: none(), presence: none() }
  }

  /** True once it has found that each has an owner. */
  look(): boolean {
    const { health, log } = this.#owned
    const missing = this.#missing()
    if (missing === '') {
      if (this.#begun && this.#told !== '') log.info('owners.back')
      this.#begun = true
      health.up(PART)
    } else {
      health.down(PART, missing)
      if (this.#told === '') log.warn(this.#begun ? 'owners.missing' : 'edge.waits_for_owners', { missing, help: HELP })
    }
    this.#told = missing
    return this.#begun
  }

  /** '' where nothing is. */
  #missing(): string {
    const missing: string[] = []
    for (const role of ROLES) {
      const count = this.#countMissing(role)
      if (count > 0) missing.push(`${count} of ${PARTITIONS} partitions have no ${role} that lives`)
    }
    return missing.join(', ')
  }

  #countMissing(role: RoleName): number {
    const { membership, ownership, clock } = this.#owned
    const sinceMs = this.#sinceMs[role]
    const nowMs = clock.monotonic()
    const patienceMs = this.#begun ? LEASE_MS : 0
    let count = 0
    for (let partition = 0; partition < PARTITIONS; partition++) {
      const owner = ownership.ownerAt(role, partition)
      if (owner !== '' && membership.livenessOf(owner) === 'live') sinceMs[partition] = Number.POSITIVE_INFINITY
      else {
        sinceMs[partition] = Math.min(sinceMs[partition]!, nowMs)
        if (nowMs - sinceMs[partition]! >= patienceMs) count++
      }
    }
    return count
  }
}
