// A process that is there for one command: it asks those who own accounts, and owns nothing itself.
//
// It has no lease and takes part in nothing. It begins when every account has an owner that answers, and so waits while one that
// has died is being replaced; should that change in the middle, what is about one account is asked of the next owner.

import { openCaller } from '#core/call.ts'
import { systemClock } from '#core/clock.ts'
import { directLog } from '#core/commits/direct-log.ts'
import type { AnyModule } from '#core/module.ts'
import type { Log } from '#core/observing/log.ts'
import { Metrics } from '#core/observing/metrics.ts'
import type { RoleName } from '#core/ownership/ownership.ts'
import type { Config } from '#core/settings/config.ts'
import { accountCalls, type Perform } from '#embedded/account-calls.ts'
import { makeProcess } from '#embedded/parts.ts'
import { lowercaseId } from '#xmpp/id.ts'
import { untilAnswering } from './answering.ts'
import { OwnersView } from './owners-view.ts'
import { openBus, openTable } from './parts.ts'

export interface Operator {
  readonly perform: Perform
  close(): Promise<void>
}

/** Throws Error that says what is in the way: no NATS, no table, or accounts that nobody owns. `onWait`: see answering.ts. */
export async function openOperator(
  config: Config,
  modules: readonly AnyModule[],
  log: Log,
  onWait: (text: string) => void,
): Promise<Operator> {
  const id = lowercaseId()
  const metrics = new Metrics()
  const clock = systemClock
  const table = await openTable(config, { log, metrics })
  try {
    const ownership = await OwnersView.open(table, clock, log)
    const { bus, close } = await openBus(config, `rookery command ${id}`, { log, metrics })
    ownership.follow(bus)
    try {
      await untilAnswering({ ownership, caller: openCaller(bus, ownership, clock), clock, onWait })
    } catch (error) {
      await close()
      throw error
    }
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
