import { describe, expect, test } from 'vitest'
import { memoryTable } from '#table/memory.ts'
import type { Table } from '#table/table.ts'
import type { Caller } from '../call.ts'
import { accountsAuth } from './auth.ts'
import { deriveCredentials, encodeCredentials, SCRAM_HASHES, type ScramHash } from './scram-keys.ts'

const ROMEO = 'romeo@example.org'
const NOBODY = 'nobody@example.org'
const credentials = await deriveCredentials('pencil', 10)
const stored = encodeCredentials(credentials)

/** A router that knows Romeo, with keys of some hashes. */
function callerOf({ hashes = [...SCRAM_HASHES] as ScramHash[], disabled = undefined as string | undefined } = {}): Caller {
  const ask = async (_role: string, account: string, _name: string, { hash }: { hash?: ScramHash }) => {
    if (account !== ROMEO) return null
    const scram = Object.fromEntries(
      hashes.filter((name) => hash === undefined || name === hash).map((name) => [name, stored.scram[name]]),
    )
    return disabled === undefined ? { scram } : { scram, disabled }
  }
  return { ask, askOwner: ask } as never
}

const authOn = (table: Table, caller = callerOf(), hashes: readonly string[] = SCRAM_HASHES) =>
  accountsAuth({ caller, table, hashes, iterations: 4096 })
const base64 = (data: Uint8Array) => Buffer.from(data).toString('base64')

describe('scramKeys', () => {
  test.each(SCRAM_HASHES)('%s: those that are stored, and the standing', async (hash) => {
    const { keys, standing } = await authOn(memoryTable()).scramKeys(ROMEO, hash)
    expect(base64(keys.storedKey)).toBe(stored.scram[hash]!.storedKey)
    expect(standing).toEqual({ disabled: undefined, generation: 0 })
    const off = await authOn(memoryTable(), callerOf({ disabled: 'spam' })).scramKeys(ROMEO, hash)
    expect(off.standing).toEqual({ disabled: 'spam', generation: 0 })
  })

  test('RFC 5802 §9: for nobody, and for whoever has none of that hash, there is a salt that stays the same over restarts', async () => {
    const table = memoryTable()
    const salts: string[] = []
    for (const caller of [callerOf(), callerOf({ hashes: ['SHA-1'] }), callerOf()]) {
      const { keys, standing } = await authOn(table, caller).scramKeys(NOBODY, 'SHA-256')
      expect(standing).toBeUndefined()
      expect(keys).toMatchObject({ iterations: 4096 })
      salts.push(base64(keys.salt))
    }
    expect(new Set(salts).size).toBe(1)
    const old = await authOn(table, callerOf({ hashes: ['SHA-1'] })).scramKeys(ROMEO, 'SHA-256')
    expect(old.standing).toBeUndefined()
    expect(base64(old.keys.salt)).not.toBe(salts[0])
    expect(base64((await authOn(memoryTable()).scramKeys(NOBODY, 'SHA-256')).keys.salt)).not.toBe(salts[0])
  })

  test('of two processes that start at once, both make the same salt', async () => {
    const table = memoryTable()
    const auths = [authOn(table), authOn(table)]
    const [one, other] = await Promise.all(auths.map((auth) => auth.scramKeys(NOBODY, 'SHA-1')))
    expect(base64(one!.keys.salt)).toBe(base64(other!.keys.salt))
  })

  test('while the table is away it rejects, and then it goes on', async () => {
    const table = memoryTable()
    let away = true
    const flaky = {
      ...table,
      get: (key: Parameters<Table['get']>[0]) => (away ? Promise.reject(new Error('away')) : table.get(key)),
    }
    const auth = authOn({ ...flaky, put: table.put.bind(table) } as Table)
    await expect(auth.scramKeys(ROMEO, 'SHA-1')).rejects.toThrow('away')
    away = false
    expect((await auth.scramKeys(ROMEO, 'SHA-1')).standing).toBeDefined()
  })
})

describe('verify', () => {
  test('tells the standing of whoever knows the password, and nothing of anybody else', async () => {
    const auth = authOn(memoryTable())
    expect(await auth.verify(ROMEO, 'pencil')).toEqual({ disabled: undefined, generation: 0 })
    expect(await auth.verify(ROMEO, 'pen')).toBeUndefined()
    expect(await auth.verify(NOBODY, 'pencil')).toBeUndefined()
    const old = authOn(memoryTable(), callerOf({ hashes: ['SHA-1'], disabled: '' }))
    expect(await old.verify(ROMEO, 'pencil')).toEqual({ disabled: '', generation: 0 })
  })
})

test('standing is told without a password', async () => {
  const auth = authOn(memoryTable(), callerOf({ disabled: 'spam' }))
  expect([await auth.standing(ROMEO), await auth.standing(NOBODY)]).toEqual([{ disabled: 'spam', generation: 0 }, undefined])
})

test('it supports the hashes that are configured, strongest first', () => {
  expect(authOn(memoryTable(), callerOf(), ['SHA-1', 'SHA-512']).supports.scram).toEqual(['SHA-512', 'SHA-1'])
})
