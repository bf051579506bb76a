// What the suites of contract.ts are written with.
import { expect } from 'vitest'
import { type Key, type Range, type Row, type Table, VersionConflict } from './table.ts'

export function rowOf(pk: string, sk: string, fields: Partial<Omit<Row, keyof Key>> = {}): Row {
  return { pk, sk, version: 'v', value: bytes('value'), ...fields }
}

/** In one shape, whichever class of octets and whichever way of leaving out a field a driver has. */
export function plain(row: Row | undefined): unknown {
  return row && { pk: row.pk, sk: row.sk, version: row.version, value: [...row.value], expiresAtS: row.expiresAtS }
}

export async function rowsOf(table: Table, pk: string, range?: Range): Promise<Row[]> {
  const rows: Row[] = []
  for await (const row of table.query(pk, range)) rows.push(row)
  return rows
}

export async function sksOf(table: Table, pk: string, range?: Range): Promise<string[]> {
  return (await rowsOf(table, pk, range)).map(({ sk }) => sk)
}

/** The places of the writes that were done; the others must have met a VersionConflict. */
export async function winnersOf(writes: Promise<void>[]): Promise<number[]> {
  const ends = await Promise.allSettled(writes)
  for (const end of ends) if (end.status === 'rejected') expect(end.reason).toBeInstanceOf(VersionConflict)
  return ends.flatMap((end, place) => (end.status === 'fulfilled' ? [place] : []))
}

export const bytes = (text: string): Uint8Array => new TextEncoder().encode(text)

/** fast-check prints the seed of a run that failed. */
export function seeded(): { seed?: number } {
  const seed = process.env.TEST_SEED
  return seed === undefined ? {} : { seed: Number(seed) }
}
