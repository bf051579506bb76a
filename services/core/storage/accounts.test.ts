import { describe, expect, test } from 'vitest'
import { memoryTable } from '#table/memory.ts'
import { TableUnavailable } from '#table/table.ts'
import { parseJid } from '#xmpp/jid.ts'
import { manualClock } from '../clock.ts'
import { Commit } from '../commits/commit.ts'
import { directLog } from '../commits/direct-log.ts'
import { silentLog } from '../observing/log.ts'
import { Accounts, type Unfinished } from './accounts.ts'
import { decodeCredentials, HASHINGS_WAITING_MAX, verifyPassword } from './scram-keys.ts'
import { Store } from './store.ts'

const BILL = parseJid('bill@example.org')

function setUp(table = memoryTable()) {
  const clock = manualClock()
  const commit = new Commit(directLog(table, clock, silentLog), silentLog)
  const store = new Store(table, commit, [])
  return { table, commit, store, clock, accounts: new Accounts(table, store, clock, 4_096) }
}

async function listed(accounts: Accounts, domain = 'example.org'): Promise<string[]> {
  const found: string[] = []
  for await (const { bare } of accounts.list(domain)) found.push(bare)
  return found.sort()
}

async function unfinishedOf(accounts: Accounts): Promise<Unfinished[]> {
  const found: Unfinished[] = []
  for await (const unfinished of accounts.unfinished()) found.push(unfinished)
  return found
}

async function opens(accounts: Accounts, password: string): Promise<boolean> {
  const stored = await accounts.row(BILL, (row) => row?.credentials)
  return stored !== undefined && verifyPassword(decodeCredentials(stored), password)
}

describe('create', () => {
  test('makes an account that is there for any process, with its password and nothing that shows it', async () => {
    const { accounts, table } = setUp()
    expect(await accounts.exists(BILL)).toBe(false)
    await accounts.create(BILL, 'Calliope')
    expect(await accounts.exists(BILL)).toBe(true)
    expect(await opens(setUp(table).accounts, 'Calliope')).toBe(true)
    expect(await opens(accounts, 'Clio')).toBe(false)
    const row = await table.get({ pk: 'a#bill@example.org', sk: 'account' })
    expect(Buffer.from(row!.value).toString()).not.toContain('Calliope')
  })

  test('one that exists is a conflict, at any process', async () => {
    const { accounts, table } = setUp()
    await accounts.create(BILL, 'Calliope')
    const other = setUp(table).accounts
    await expect(other.create(BILL, 'Clio')).rejects.toMatchObject({ condition: 'conflict' })
    expect(await opens(other, 'Calliope')).toBe(true)
  })

  test('of two at once, one is a conflict', async () => {
    const { accounts, table } = setUp()
    const results = await Promise.allSettled([accounts.create(BILL, 'one'), setUp(table).accounts.create(BILL, 'two')])
    expect(results.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected'])
  })

  test.each(['', '\u0085', 'x'.repeat(1_025)])('a password that cannot be used is not-acceptable', async (password) => {
    const { accounts } = setUp()
    await expect(accounts.create(BILL, password)).rejects.toMatchObject({ condition: 'not-acceptable', type: 'modify' })
    expect(await accounts.exists(BILL)).toBe(false)
  })

  test('while too many are being hashed, one is asked to wait', async () => {
    const { accounts } = setUp()
    const many = Array.from({ length: HASHINGS_WAITING_MAX + 10 }, (_, i) =>
      accounts.create(parseJid(`a${i}@example.org`), 'secret'),
    )
    const refused = (await Promise.allSettled(many)).filter((result) => result.status === 'rejected')
    expect(refused.length).toBeGreaterThan(0)
    for (const { reason } of refused) expect(reason).toMatchObject({ condition: 'resource-constraint', type: 'wait' })
  })
})

describe('setPassword', () => {
  test('the new one holds and the old one does not, at once and for good', async () => {
    const { accounts, commit, table } = setUp()
    await accounts.create(BILL, 'Calliope')
    await accounts.setPassword(BILL, 'Clio')
    expect([await opens(accounts, 'Clio'), await opens(accounts, 'Calliope')]).toEqual([true, false])
    await commit.settled()
    expect(await opens(setUp(table).accounts, 'Clio')).toBe(true)
  })

  test('of nobody is item-not-found, and makes no account', async () => {
    const { accounts, table } = setUp()
    await expect(accounts.setPassword(BILL, 'Clio')).rejects.toMatchObject({ condition: 'item-not-found' })
    expect(await setUp(table).accounts.exists(BILL)).toBe(false)
  })
})

describe('disable and enable', () => {
  test('the account is there, and is disabled with its reason, for good and until it is enabled', async () => {
    const { accounts, commit, table } = setUp()
    await accounts.create(BILL, 'Calliope')
    expect(await accounts.disabledReason(BILL)).toBeUndefined()
    await accounts.disable(BILL, 'spam')
    await commit.settled()
    const other = setUp(table)
    expect(await other.accounts.disabledReason(BILL)).toBe('spam')
    expect([await other.accounts.exists(BILL), await opens(other.accounts, 'Calliope')]).toEqual([true, true])
    await other.accounts.setPassword(BILL, 'Clio')
    expect(await other.accounts.disabledReason(BILL)).toBe('spam')
    await other.accounts.enable(BILL)
    await other.commit.settled()
    const last = setUp(table).accounts
    expect([await last.disabledReason(BILL), await opens(last, 'Clio')]).toEqual([undefined, true])
  })

  test('of nobody is item-not-found, and nobody is not disabled', async () => {
    const { accounts } = setUp()
    await expect(accounts.disable(BILL, '')).rejects.toMatchObject({ condition: 'item-not-found' })
    await expect(accounts.enable(BILL)).rejects.toMatchObject({ condition: 'item-not-found' })
    expect(await accounts.disabledReason(BILL)).toBeUndefined()
  })

  test('the later reason holds; one without is disabled as well', async () => {
    const { accounts } = setUp()
    await accounts.create(BILL, 'Calliope')
    await accounts.disable(BILL, 'spam')
    await accounts.disable(BILL, '')
    expect(await accounts.disabledReason(BILL)).toBe('')
  })

  test.each(['two\nlines', 'bell\u0007', '\ud800', 'x'.repeat(501)])('%j is no reason', async (reason) => {
    const { accounts } = setUp()
    await accounts.create(BILL, 'Calliope')
    await expect(accounts.disable(BILL, reason)).rejects.toMatchObject({ condition: 'not-acceptable' })
    expect(await accounts.disabledReason(BILL)).toBeUndefined()
  })
})

describe('list', () => {
  test('has every account of a domain and none of another', async () => {
    const { accounts } = setUp()
    const names = Array.from({ length: 40 }, (_, i) => `a${i}@example.org`)
    for (const name of names) await accounts.create(parseJid(name), 'secret')
    await accounts.create(parseJid('bill@example.net'), 'secret')
    expect(await listed(accounts)).toEqual([...names].sort())
    expect(await listed(accounts, 'example.net')).toEqual(['bill@example.net'])
  })

  test('passes over a name whose account was never finished', async () => {
    const { accounts, table } = setUp()
    await accounts.create(BILL, 'Calliope')
    await table.delete({ pk: 'a#bill@example.org', sk: 'account' })
    expect(await listed(setUp(table).accounts)).toEqual([])
  })
})

describe('remove', () => {
  test('leaves neither the account nor its name', async () => {
    const { accounts, table } = setUp()
    await accounts.create(BILL, 'Calliope')
    await accounts.erase(BILL)
    expect([await accounts.exists(BILL), await listed(accounts)]).toEqual([false, []])
    for (let n = 0; n < 16; n++) {
      for await (const row of table.query(`u#example.org#${n.toString(16).padStart(2, '0')}`)) expect(row).toBeUndefined()
    }
  })

  test('once it is marked there is no such account, and nobody has its name', async () => {
    const { accounts, table } = setUp()
    await accounts.create(BILL, 'Calliope')
    await accounts.markRemoved(BILL)
    const others = setUp(table).accounts
    for (const known of [accounts, others]) {
      expect([await known.exists(BILL), await known.isRemoved(BILL), await listed(known)]).toEqual([false, true, []])
      expect(await known.row(BILL, (row) => row)).toBeNull()
      const wait = { condition: 'resource-constraint', type: 'wait' }
      await expect(known.create(BILL, 'Clio')).rejects.toMatchObject(wait)
    }
    await expect(others.setPassword(BILL, 'Clio')).rejects.toMatchObject({ condition: 'item-not-found' })
    await expect(others.enable(BILL)).rejects.toMatchObject({ condition: 'item-not-found' })
    const row = await table.get({ pk: 'a#bill@example.org', sk: 'account' })
    expect(Object.keys(JSON.parse(Buffer.from(row!.value).toString()))).toEqual(['createdAt', 'removed']) // no key of the password
    expect((await unfinishedOf(others)).map(({ account }) => account)).toEqual([BILL])
  })

  test('it is sealed until it is let go', async () => {
    const { accounts } = setUp()
    await accounts.create(BILL, 'Calliope')
    await accounts.markRemoved(BILL)
    accounts.unseal(BILL)
    expect(accounts.isSealed(BILL)).toBe(true)
    accounts.letGo(BILL)
    accounts.unseal(BILL)
    expect(accounts.isSealed(BILL)).toBe(false)
  })

  test('marking nobody is item-not-found', async () => {
    const { accounts } = setUp()
    await expect(accounts.markRemoved(BILL)).rejects.toMatchObject({ condition: 'item-not-found' })
    expect(accounts.isSealed(BILL)).toBe(false)
  })

  test('whoever takes the name meanwhile used to be lost from the list', async () => {
    const { accounts, store, table } = setUp()
    await accounts.create(BILL, 'Calliope')
    const purge = store.purge.bind(store)
    store.purge = async (account, steps) => {
      await purge(account, steps)
      await setUp(table).accounts.create(BILL, 'Clio')
    }
    await accounts.erase(BILL)
    expect(await listed(setUp(table).accounts)).toEqual([BILL.bare])
  })

  test('an owner who is late used to take what was entered since from the removals: nobody would have finished that', async () => {
    const { accounts, table } = setUp()
    const late = setUp(table).accounts
    await accounts.create(BILL, 'Calliope')
    const entry = await accounts.markRemoved(BILL)
    const [read] = await unfinishedOf(late)
    expect(read).toEqual({ account: BILL, entry })
    await accounts.erase(BILL)
    await accounts.forgetUnfinished({ account: BILL, entry })
    const next = setUp(table).accounts
    await next.create(BILL, 'Clio')
    const nextEntry = await next.markRemoved(BILL)
    await late.forgetUnfinished(read!)
    expect(await unfinishedOf(late)).toEqual([{ account: BILL, entry: nextEntry }])
    await next.forgetUnfinished({ account: BILL, entry: nextEntry })
    expect(await unfinishedOf(late)).toEqual([])
  })

  test('nor does he take a name from the list that somebody else has by now', async () => {
    const { accounts, table } = setUp()
    await accounts.create(BILL, 'Calliope')
    let isLate = false
    const late = setUp({
      get: (key) => table.get(key),
      put: (row, condition) => table.put(row, condition),
      query: (pk, range) => table.query(pk, range),
      close: () => table.close(),
      async delete(key, condition) {
        if (key.pk.startsWith('u#') && !isLate) {
          isLate = true
          const next = setUp(table).accounts
          await next.erase(BILL)
          await next.create(BILL, 'Clio')
        }
        return table.delete(key, condition)
      },
    })
    await late.accounts.erase(BILL)
    const names: string[] = []
    for await (const { bare } of accounts.names('example.org')) names.push(bare)
    expect([isLate, names]).toEqual([true, [BILL.bare]])
  })

  test('of nobody is no fault', async () => {
    const { accounts } = setUp()
    await accounts.erase(BILL)
    expect(await accounts.exists(BILL)).toBe(false)
  })
})

test('an account whose owner was stopped while it hashed used to be made late, where its next owner took the name for free', async () => {
  const { table, store, clock } = setUp()
  let isOurs = true
  const accounts = new Accounts(table, store, clock, 4_096, () => {
    if (!isOurs) throw new TableUnavailable('another process may own the account')
  })
  const made = accounts.create(BILL, 'wherefore')
  isOurs = false
  await expect(made).rejects.toThrow(TableUnavailable)
  const rows: string[] = []
  for await (const name of accounts.names(BILL.domain)) rows.push(name.bare)
  expect([await table.get({ pk: `a#${BILL.bare}`, sk: 'account' }), rows]).toEqual([undefined, []])
})
