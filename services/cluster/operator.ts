// A process that is there for one command: it asks those who own accounts, and owns nothing itself.
//
// It has no lease and takes part in nothing. Who owns what it reads once; should that change meanwhile, whoever is asked
// does not answer, and the command says so.
import { systemClock } from '#core/clock.ts'
import type { Config } from '#core/config.ts'
import { directLog } from '#core/direct-log.ts'
import type { Log } from '#core/log.ts'
import { Metrics } from '#core/metrics.ts'
import type { AnyModule } from '#core/module.ts'
import { getOwnersRow, type OwnersRow } from '#core/owners-row.ts'
import { type Ownership, partitionOf, type RoleName } from '#core/ownership.ts'
import { accountCalls, type Perform } from '#embedded/account-calls.ts'
import { makeProcess } from '#embedded/parts.ts'
import type { Table } from '#table/table.ts'
import { lowercaseId } from '#xmpp/id.ts'
import { openBus, openTable } from './parts.ts'

export interface Operator {
  readonly perform: Perform
  close(): Promise<void>
}

/** Throws Error that says what is in the way: no NATS, no table, or nobody who owns accounts. */
export async function openOperator(config: Config, modules: readonly AnyModule[], log: Log): Promise<Operator> {
  const id = lowercaseId()
  const metrics = new Metrics()
  const clock = systemClock
  const table = await openTable(config, { log, metrics })
  try {
    const ownership = await readOwnership(table)
    const { bus, close } = await openBus(config, `rookery command ${id}`, { log, metrics })
    const openLog = (_role: RoleName, log: Log) => directLog(table, clock, log)
    const process = makeProcess(config, modules, { id, bus, table, ownership, openLog, clock, log, metrics })
    return {
      perform: accountCalls(process),
      async close() {
        await close()
        await table.close()
      },
    }
  } catch (error) {
    await table.close()
    throw error
  }
}

/** As the rows say it now. Throws Error where some accounts have no owner. */
export async function readOwnership(table: Table): Promise<Ownership> {
  const rows: Readonly<Record<RoleName, OwnersRow>> = {
    router: await getOwnersRow(table, 'router'),
    presence: await getOwnersRow(table, 'presence'),
  }
  for (const [role, { owners }] of Object.entries(rows))
    if (owners.includes(''))
      throw new Error(
        `no process of the cluster is ${role} for all accounts; start one: bin/rookery run --role ${role} --config FILE`,
      )
  return {
    ownerOf: (role, account) => rows[role].owners[partitionOf(account)]!,
    ownersOf: (role) => [...new Set(rows[role].owners)],
    ownerAt: (role, partition) => rows[role].owners[partition]!,
    epochAt: (role, partition) => rows[role].epochs[partition]!,
    epoch: (role) => rows[role].epoch,
    onChange: () => {},
    sure: () => false,
    owns: () => false,
  }
}
