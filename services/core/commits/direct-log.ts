// The commit of an owner whose table is at hand: what is durable is in the table.
//
// All rows of a flush are put in one turn, which SQLite makes one transaction. The owner of an address is its only writer and
// lives as long as its table, so nothing carries a condition.
import type { Table } from '#table/table.ts'
import { randomId } from '#xmpp/id.ts'
import type { Clock } from '../clock.ts'
import type { Log } from '../observing/log.ts'
import type { CommitLog } from './commit.ts'
import { writeOut } from './write-out.ts'

export function directLog(table: Table, clock: Clock, log: Log): CommitLog {
  return {
    versionBytes: 0,
    async write(writes, applied) {
      await writeOut(writes, (write) => ('put' in write ? table.put(write.put) : table.delete(write.delete)), { clock, log })
      applied()
    },
    version: () => randomId(),
  }
}
