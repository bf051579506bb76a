// Owners in turn over the same accounts, on a table that answers late, loses answers and carries out what was given up: whatever
// happens, the table ends as if all flushes that were durable had been written one after the other, and no others.
import { describe, test } from 'vitest'
import { runOwners } from '../ownership/owners-run.fixture.ts'

const SEEDS = Number(process.env.SEEDS ?? 2_000)

describe('owners in turn', () => {
  test('whatever is late, lost or done twice: what was durable is there, and nothing else', { timeout: 120_000 }, async () => {
    const { TEST_SEED } = process.env // the one that failed is in the error
    const first = TEST_SEED === undefined ? 1 : Number(TEST_SEED)
    const last = TEST_SEED === undefined ? SEEDS : first
    for (let seed = first; seed <= last; seed++) await runOwners(seed, 20 + (seed % 120))
  })
})
