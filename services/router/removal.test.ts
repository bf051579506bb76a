import { afterEach, describe, expect, test } from 'vitest'
import { manualClock } from '#core/clock.ts'
import type { AnyModule } from '#core/module.ts'
import { memoryLog } from '#core/observing/log.ts'
import type { Owner } from '#core/owner.ts'
import { Registry } from '#core/ownership/registry.ts'
import offline from '#modules/offline.ts'
import registration from '#modules/registration.ts'
import { memoryTable } from '#table/memory.ts'
import type { Table } from '#table/table.ts'
import { flakyTable, type HarnessOptions, harness, type TestServer } from '#test/harness.ts'
import { diary } from '#test/support/diary.ts'
import { rowsOf } from '#test/support/rows.ts'
import { type Jid, parseJid } from '#xmpp/jid.ts'
import { NS_CLIENT } from '#xmpp/ns.ts'
import { el, find } from '#xmpp/stanza.ts'
import { Removals } from './removal.ts'

const ROMEO = 'romeo@example.org'
const JULIET = 'juliet@example.org'
const NS_REGISTER = 'jabber:iq:register'

const MODULES: readonly AnyModule[] = [diary, offline, registration]

/** The table of a test, whose deletions wait from the moment it is shut. */
function gated(table: Table): Table & { shut(): void; open(): void } {
  let gate: Promise<void> | undefined
  let letGo = (): void => {}
  return {
    get: (key) => table.get(key),
    put: (row, condition) => table.put(row, condition),
    delete: async (key, condition) => {
      await gate
      return table.delete(key, condition)
    },
    query: (pk, range) => table.query(pk, range),
    shut() {
      gate = new Promise((resolve) => {
        letGo = resolve
      })
    },
    open() {
      gate = undefined
      letGo()
    },
  }
}

const opened: { open(): void }[] = []
const servers: TestServer[] = []
afterEach(async () => {
  for (const table of opened.splice(0)) table.open()
  for (const server of servers.splice(0)) await server.stop()
})

async function start(options: HarnessOptions): Promise<TestServer> {
  const server = await harness(MODULES, options)
  servers.push(server)
  return server
}

/** So many entries in a diary. */
async function fill(table: Table, account: string, rows: number): Promise<void> {
  for (let n = 0; n < rows; n++)
    await table.put({ pk: `j#diary#${account}`, sk: `${n}`, version: 'v', value: Buffer.from('dear diary') })
}

/** Romeo has a long diary, and is being deleted: his rows are not, as long as the gate is shut. */
async function underWay(rows = 2_500) {
  const inner = memoryTable()
  const table = gated(inner)
  opened.push(table)
  const server = await start({ table })
  const romeo = await server.online(`${ROMEO}/orchard`)
  const juliet = await server.online(`${JULIET}/balcony`)
  await fill(inner, ROMEO, rows)
  table.shut()
  const told = await remove(server, 1)
  return { inner, table, server, romeo, juliet, told }
}

function remove(server: TestServer, waitMs = 2_000) {
  return server.caller.ask('router', ROMEO, 'account.remove', { waitMs })
}

/** Asks until there is nothing left to do. Gives the rows that were deleted, as they were told. */
async function finished(server: TestServer): Promise<number[]> {
  const rows: number[] = []
  for (;;) {
    const told = await server.caller.ask('router', ROMEO, 'account.removal', {})
    if (told.finished) return rows
    rows.push(told.rows)
  }
}

const ofRomeo = (table: Table) => rowsOf(table, `a#${ROMEO}`, `j#diary#${ROMEO}`)

function unfinished(table: Table): Promise<string[]> {
  return rowsOf(table, 'o#removals')
}

function register(server: TestServer) {
  const fields = [el('username', NS_REGISTER, {}, 'romeo'), el('password', NS_REGISTER, {}, 'x')]
  return server.stranger('set', el('query', NS_REGISTER, {}, ...fields))
}

describe('an account with more rows than a call has time for', () => {
  test('its deletion used to end in a timeout: it is gone at once, and its rows follow', async () => {
    const { inner, table, server, romeo, juliet, told } = await underWay()
    expect(told).toEqual({ finished: false, rows: 0 })
    expect(await server.exists(ROMEO)).toBe(false)
    await expect(server.bind(`${ROMEO}/orchard`)).rejects.toMatchObject({ condition: 'not-allowed' })
    expect(romeo.closed?.condition).toBe('not-authorized')
    juliet.message(ROMEO, 'are you there?')
    const refusal = await juliet.next(({ name, type }) => name === 'message' && type === 'error')
    expect(find(refusal, 'error', NS_CLIENT)!.children[0]).toMatchObject({ name: 'service-unavailable' })
    expect(await rowsOf(inner, `j#diary#${ROMEO}`)).toHaveLength(2_500)
    table.open()
    await finished(server)
    expect([await ofRomeo(inner), await unfinished(inner)]).toEqual([[], []])
  })

  test('nobody has the name before they are gone: resource-constraint, to be tried later', async () => {
    const { inner, table, server } = await underWay()
    const wait = { condition: 'resource-constraint', type: 'wait', text: 'the account that had this name is still being deleted' }
    await expect(server.account(ROMEO)).rejects.toMatchObject(wait)
    const open = await start({ table: inner, config: { registration: 'open' } })
    servers.reverse() // the one that is stuck is let go first
    expect(await rowsOf(inner, `j#diary#${ROMEO}`)).not.toEqual([])
    expect(await register(open)).toMatchObject(wait)
    table.open()
    await finished(server)
    await finished(open)
    expect(await register(open)).toBeUndefined()
    expect(await ofRomeo(inner)).toEqual([`a#${ROMEO} account`])
  })

  test('who asks for it again is told that there is no such account', async () => {
    const { server } = await underWay()
    await expect(remove(server)).rejects.toMatchObject({ condition: 'item-not-found' })
  })

  test('it is in no list', async () => {
    const { server } = await underWay()
    expect(await accountsOf(server)).toEqual([JULIET])
  })

  test('how far it is can be asked', async () => {
    const { table, server } = await underWay(3_500)
    const asking = finished(server)
    table.open()
    const rows = await asking
    expect(rows).toEqual([...rows].sort((a, b) => a - b))
    expect(server.log.lines.find(({ event }) => event === 'account.erased')?.fields).toMatchObject({
      account: ROMEO,
      rows: 3_500,
    })
  })
})

async function accountsOf(server: TestServer): Promise<readonly string[]> {
  const asked = { disabled: false, after: '', limit: 100 }
  return (await server.caller.ask('router', 'example.org', 'accounts.page', asked)).accounts
}

describe('a process that dies while it deletes', () => {
  test('is followed by one that goes on, and what is left is nobody’s', async () => {
    const { inner } = await underWay()
    const next = await start({ table: inner })
    servers.reverse()
    await next.quiet()
    await finished(next)
    expect(next.log.lines.map(({ event }) => event)).toContain('account.removal_resumed')
    expect([await ofRomeo(inner), await unfinished(inner)]).toEqual([[], []])
    await next.account(ROMEO)
    expect(await next.exists(ROMEO)).toBe(true)
  })

  test('so does one that is stopped', async () => {
    const { inner, table, server } = await underWay(5_500)
    const stopping = server.stop()
    table.open()
    await stopping
    expect(await rowsOf(inner, `a#${ROMEO}`)).toEqual([`a#${ROMEO} account`])
    const next = await start({ table: inner })
    await next.quiet()
    await finished(next)
    expect([await ofRomeo(inner), await unfinished(inner)]).toEqual([[], []])
  })

  test('before it was decided has not deleted anything, and an account that stands is none to be finished', async () => {
    const inner = memoryTable()
    const before = await start({ table: inner })
    await before.account(ROMEO)
    await before.stop()
    await inner.put({ pk: 'o#removals', sk: 'any', version: 'v', value: Buffer.from(ROMEO) })
    const next = await start({ table: inner })
    await next.quiet()
    expect(await next.exists(ROMEO)).toBe(true)
  })

  test('behind its last row has freed the name', async () => {
    const { inner, table, server } = await underWay(1)
    const [left] = await unfinished(inner)
    table.open()
    await finished(server)
    const [pk, sk] = left!.split(' ') as [string, string]
    await inner.put({ pk, sk, version: 'v', value: Buffer.from(ROMEO) })
    await server.stop()
    const next = await start({ table: inner })
    await next.account(ROMEO)
    await next.quiet()
    expect([await next.exists(ROMEO), await accountsOf(next), await unfinished(inner)]).toEqual([
      true,
      [ROMEO, JULIET].sort(),
      [],
    ])
  })
})

test('a table that goes away in the middle is waited for', async () => {
  const inner = memoryTable()
  const table = flakyTable(inner)
  const clock = manualClock()
  const server = await start({ table, clock })
  const juliet = await server.online(`${JULIET}/balcony`)
  await server.account(ROMEO)
  await fill(inner, ROMEO, 2_500)
  const removed = remove(server)
  juliet.message(ROMEO, 'are you there?')
  while (await server.exists(ROMEO)) await new Promise((resolve) => setImmediate(resolve))
  table.away = true
  await clock.settle(1_000)
  table.away = false
  for (let n = 0; n < 20; n++) await clock.settle(1_000)
  await removed
  await server.quiet()
  expect([await ofRomeo(inner), await unfinished(inner)]).toEqual([[], []])
})

test('many at once wait for their turn, and all are deleted', async () => {
  const inner = memoryTable()
  const server = await start({ table: inner })
  const names = Array.from({ length: 12 }, (_, n) => `player${n}@example.org`)
  for (const name of names) {
    await server.account(name)
    await fill(inner, name, 20)
  }
  await Promise.all(names.map((name) => server.caller.ask('router', parseJid(name).bare, 'account.remove', {})))
  await server.quiet()
  expect(await rowsOf(inner, ...names.flatMap((name) => [`a#${name}`, `j#diary#${name}`]))).toEqual([])
  expect(await accountsOf(server)).toEqual([])
})

test('accounts that went to another owner while others waited used to let all of those in at once', async () => {
  let letGo = (): void => {}
  const gate = new Promise<void>((resolve) => (letGo = resolve))
  const erased: string[] = []
  let running = 0
  let most = 0
  const accounts = {
    isSealed: () => false,
    exists: () => true,
    markRemoved: async () => 'entry',
    forgetUnfinished: async () => {},
    async erase({ bare }: Jid) {
      most = Math.max(most, ++running)
      await gate
      running--
      erased.push(bare)
    },
    ...{ hold() {}, letGo() {}, unseal() {} },
  }
  const parts = {
    ...{ accounts, log: memoryLog(), process: { clock: manualClock() } },
    ...{ caller: { ask: async () => null }, hooks: { emit: async () => {} }, commit: { demandHeld() {} } },
  }
  const removals = new Removals(parts as unknown as Owner, new Registry())
  const names = Array.from({ length: 12 }, (_, n) => `player${n}@example.org`)
  for (const name of names) await removals.begin(parseJid(name))
  const gone = names.slice(4, 8)
  await removals.release((account) => gone.includes(account))
  expect([removals.size, most]).toEqual([8, 4])
  letGo()
  while (removals.size > 0) await new Promise((resolve) => setImmediate(resolve))
  expect([erased, most]).toEqual([names.filter((name) => !gone.includes(name)), 4])
})

test('one that its owner of before has begun and nobody here has taken up yet used to be told as done', async () => {
  const clock = manualClock()
  const accounts = { isRemoved: async () => true }
  const removals = new Removals({ accounts, process: { clock } } as unknown as Owner, new Registry())
  const asked = removals.progress(parseJid(ROMEO), 100)
  await clock.settle(100)
  expect(await asked).toEqual({ finished: false, rows: 0 })
})
