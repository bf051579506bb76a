// One query a login, where the two roles of an account are two processes: what the router has just read to let somebody in, it
// passes on to presence (core/storage/readings.ts does so inside one process).
//
//   rows.<process>   { "account", "ageMs", "rows": { "<key>": "<JSON>" } }, without credentials; lost it costs a query
//
// What comes may not be older than what the table would tell. Rows that the router writes it does not pass on while they are not
// in the table, and what it writes later it tells behind them (core/storage/shared.ts). Those that presence writes have not been
// written since the router read them: presence has held the account for QUIET_MS, has written nothing of it for as long, and
// is sure of that; what is on its way for longer than the rest of QUIET_MS comes from no bus that is up.
import { BODY_BYTES_MAX, type Subscription } from '#bus/bus.ts'
import type { Owner } from '../owner.ts'
import { withoutCredentials } from './accounts.ts'
import { QUIET_MS } from './readings.ts'
import { ACCOUNT_RECORD } from './store.ts'

/** What was read before that is not passed on: it leaves as much for the way. */
const AGE_MS_MAX = QUIET_MS / 2

interface PassedOn {
  readonly account: string
  readonly ageMs: number
  readonly rows: Readonly<Record<string, string>>
}

/** At the router: somebody has logged in. Nothing where the account was in memory, and so nothing has been read. */
export function passOn({ process, held }: Owner, account: string): void {
  const { bus, ownership, readings, clock, id } = process
  if (held.all) return
  const to = ownership.ownerOf('presence', account)
  if (to === '' || to === id || !ownership.sure()) return // else another router may have written of it, long ago
  const reading = readings.takeReading(account)
  if (reading?.rows === undefined) return
  const ageMs = clock.monotonic() - reading.sinceMs
  if (ageMs > AGE_MS_MAX) return
  const rows: Record<string, string> = {}
  for (const [key, row] of reading.rows)
    rows[key] = key === ACCOUNT_RECORD ? JSON.stringify(withoutCredentials(JSON.parse(row.text))) : row.text
  const body = Buffer.from(JSON.stringify({ account, ageMs, rows } satisfies PassedOn))
  if (body.length <= BODY_BYTES_MAX) bus.publish(`rows.${to}`, body)
}

/** At presence. */
export function takePassedOn({ process, held, log }: Owner): Subscription {
  const { bus, ownership, readings, clock, id } = process
  return bus.subscribe(`rows.${id}`, (body) => {
    try {
      const { account, ageMs, rows } = JSON.parse(Buffer.from(body).toString('utf8')) as PassedOn
      const heldMs = clock.monotonic() - held.sinceMs(account)
      if (ownership.sure() && ageMs <= AGE_MS_MAX && heldMs >= QUIET_MS) readings.offer(account, rows)
    } catch (error) {
      log.error('rows.refused', { error })
    }
  })
}
