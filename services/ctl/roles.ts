// `--role edge --role router`, or `--role edge,router`: what one process of a cluster does.
import { didYouMean, nearest } from '#core/settings/nearest.ts'
import { ROLES, type Role } from '#embedded/serve.ts'
import { UsageError } from './command.ts'

/** Each once, in the order of their start; all of them where none is given. Throws UsageError on one that there is not. */
export function parseRoles(given: readonly string[] = []): readonly Role[] {
  const named = given.flatMap((text) => text.split(',')).map((text) => text.trim())
  for (const name of named) {
    if ((ROLES as readonly string[]).includes(name)) continue
    const hint = didYouMean(nearest(name, ROLES)) || `; the roles are ${ROLES.join(', ')}`
    throw new UsageError(`there is no role ${JSON.stringify(name)}${hint}`)
  }
  return named.length === 0 ? ROLES : ROLES.filter((role) => named.includes(role))
}
