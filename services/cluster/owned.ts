// Whether every account has an owner: what an edge waits for before it lets anybody in.
import type { Health } from '#core/health.ts'
import type { Log } from '#core/log.ts'
import type { Membership } from '#core/membership.ts'
import { type Ownership, PARTITIONS, type RoleName } from '#core/ownership.ts'

const ROLES: readonly RoleName[] = ['router', 'presence']
const PART = 'owners'

export interface Owned {
  readonly membership: Pick<Membership, 'onRead' | 'livenessOf'>
  readonly ownership: Pick<Ownership, 'onChange' | 'ownerAt'>
  readonly health: Health
  readonly log: Log
}

/**
 * Resolves when each partition has an owner that lives, in each role. Until then it is what health says is missing; from then on
 * it is not looked at: what happens to an owner later is for others to mend while clients wait.
 */
export function untilOwned(owned: Owned): Promise<void> {
  const { membership, ownership, health, log } = owned
  health.expect(PART)
  return new Promise((resolve) => {
    let isDone = false
    let told = ''
    const look = (): void => {
      if (isDone) return
      const missing = missingOf(owned)
      isDone = missing === ''
      if (isDone) {
        health.up(PART)
        return resolve()
      }
      health.down(PART, missing)
      if (told === '')
        log.warn('edge.waits_for_owners', { missing, help: 'processes with the roles router and presence are needed' })
      told = missing
    }
    ownership.onChange(look)
    membership.onRead(look)
    look()
  })
}

/** '' where nothing is. */
function missingOf({ membership, ownership }: Owned): string {
  const missing: string[] = []
  for (const role of ROLES) {
    let count = 0
    for (let partition = 0; partition < PARTITIONS; partition++) {
      const owner = ownership.ownerAt(role, partition)
      if (owner === '' || membership.livenessOf(owner) !== 'live') count++
    }
    if (count > 0) missing.push(`${count} of ${PARTITIONS} partitions have no ${role} that lives`)
  }
  return missing.join(', ')
}
