// What comes for the second time: was anything of it stored the first time, and under which archive id?
//
// An envelope that nobody acked is sent again to the account's next owner, who cannot know what became of it. A journal keeps
// with each entry the cause it follows from, as the row's version: so the entry itself tells. Stored again under its own id it is
// the same row, and what is shown of it has the same stanza-id, by which a client knows it (XEP-0359).
import type { Table } from '#table/table.ts'
import { archiveIdAt, isArchiveId } from './archive-id.ts'
import { journalKey } from './journal.ts'

/** What is sent again is sent again soon: entries that are older are not looked at. */
export const RECALLED_MS = 600_000
/** Entries of one journal that are looked at. */
const ENTRIES_MAX = 1_000
/** Behind all archive ids. */
const LATEST = archiveIdAt(36 ** 9)

/** The archive id under which an account's journals have an entry of this cause; undefined where they have none. */
export async function recall(
  table: Table,
  journals: readonly string[],
  account: string,
  cause: string,
  nowMs: number,
): Promise<string | undefined> {
  const range = { from: archiveIdAt(nowMs - RECALLED_MS), to: LATEST, reverse: true, limit: ENTRIES_MAX }
  for (const journal of journals) {
    for await (const { sk, version } of table.query(journalKey(journal, account), range)) {
      if (isOf(cause, version) && isArchiveId(sk)) return sk
    }
  }
  return undefined
}

/** An owner's log puts what orders the versions of a row before it, and a space (core/log-item.ts). */
function isOf(cause: string, version: string): boolean {
  return version.endsWith(cause) && (version.length === cause.length || version.at(-cause.length - 1) === ' ')
}
