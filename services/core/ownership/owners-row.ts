// The row that says who owns what in a role.
//
//   pk = o#owners   sk = router   {"epoch":17,"owners":[["<process>",12], …]}     128 entries, ["",0] where it never had an owner
//
// It is changed whole, by a conditional put. `epoch` rises by one with each change, and what was changed has that epoch.
import { type Key, type Row, type Table, VersionConflict } from '#table/table.ts'
import { PARTITIONS, type RoleName } from './ownership.ts'

export const OWNERS = 'o#owners'

export interface OwnersRow {
  /** '' where there is no row yet. */
  readonly version: string
  readonly epoch: number
  /** By partition; '' for nobody. */
  readonly owners: readonly string[]
  /** By partition. */
  readonly epochs: readonly number[]
}

/** What holds before anybody owned anything. */
export const NO_OWNERS: OwnersRow = {
  version: '',
  epoch: 0,
  owners: Array<string>(PARTITIONS).fill(''),
  epochs: Array<number>(PARTITIONS).fill(0),
}

export function ownersKey(role: RoleName): Key {
  return { pk: OWNERS, sk: role }
}

/** Throws Error that names the row where it is no such row: nobody may go on from there by guessing. */
export function readOwnersRow({ pk, sk, version, value }: Row): OwnersRow {
  const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0
  try {
    const { epoch, owners } = JSON.parse(Buffer.from(value).toString('utf8')) as { epoch: unknown; owners: [unknown, unknown][] }
    if (!isCount(epoch) || owners.length !== PARTITIONS) throw new RangeError(`it must have an epoch and ${PARTITIONS} owners`)
    for (const [owner, since] of owners)
      if (typeof owner !== 'string' || !isCount(since) || since > epoch)
        throw new RangeError('an owner is a process and an epoch')
    return {
      version,
      epoch,
      owners: owners.map(([owner]) => owner as string),
      epochs: owners.map(([, since]) => since as number),
    }
  } catch (cause) {
    throw new Error(`the row ${pk} ${sk} does not say who owns what`, { cause })
  }
}

export async function getOwnersRow(table: Table, role: RoleName): Promise<OwnersRow> {
  const row = await table.get(ownersKey(role))
  return row === undefined ? NO_OWNERS : readOwnersRow(row)
}

/** The row with other owners for some partitions, at the next epoch. */
export function ownersRowWith(row: OwnersRow, changes: ReadonlyMap<number, string>, version: string): OwnersRow {
  const epoch = row.epoch + 1
  return {
    version,
    epoch,
    owners: row.owners.map((owner, partition) => changes.get(partition) ?? owner),
    epochs: row.epochs.map((since, partition) => (changes.has(partition) ? epoch : since)),
  }
}

/** False where the stored row is not `before` any more. TableUnavailable rises: then nobody knows. */
export async function putOwnersRow(table: Table, role: RoleName, before: OwnersRow, after: OwnersRow): Promise<boolean> {
  const { version, epoch, owners, epochs } = after
  const text = JSON.stringify({ epoch, owners: owners.map((owner, partition) => [owner, epochs[partition]]) })
  try {
    await table.put({ ...ownersKey(role), version, value: Buffer.from(text, 'utf8') }, before.version)
    return true
  } catch (error) {
    if (error instanceof VersionConflict) return false
    throw error
  }
}
