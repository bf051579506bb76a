import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, expect, test } from 'vitest'
import { type AnyModule, defineModule } from '#core/module.ts'
import { memoryLog } from '#core/observing/log.ts'
import type { Config } from '#core/settings/config.ts'
import { presenceModules } from '#presence/main.ts'
import { openSqliteTable } from '#table/sqlite.ts'
import type { Table } from '#table/table.ts'
import { diary } from '#test/support/diary.ts'
import { type Jid, parseJid } from '#xmpp/jid.ts'
import type { AccountRequest } from './account-calls.ts'
import { openAtRest } from './at-rest.ts'
import { tryLockFolder } from './folder-lock.ts'
import { testConfig } from './process.fixture.ts'

const folders: string[] = []
afterEach(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true })
})

function config(): Config {
  const made = testConfig()
  folders.push(made.data)
  return made
}

/** One command: opens the data, asks, closes. Gives the entries and what was told. */
async function command(
  config: Config,
  request: AccountRequest,
  modules: readonly AnyModule[] = presenceModules,
): Promise<unknown[]> {
  const log = memoryLog()
  const atRest = (await openAtRest(config, modules, log))!
  try {
    const performing = atRest.perform(request)
    const got: unknown[] = []
    for (;;) {
      const { value, done } = await performing.next()
      got.push(value)
      if (done) return got
    }
  } finally {
    await atRest.close()
    expect(log.lines.filter(({ level }) => level === 'error')).toEqual([])
  }
}

async function withTable<T>(config: Config, use: (table: Table) => Promise<T>): Promise<T> {
  const table = await openSqliteTable({ file: join(config.data, 'rookery.sqlite') })
  try {
    return await use(table)
  } finally {
    await table.close()
  }
}

const json = (value: unknown) => Buffer.from(JSON.stringify(value))
const contact = (jid: string, subscription: string) =>
  json({ jid, name: '', groups: [], subscription, ask: false, approved: false, inRoster: true })

test('what one command did the next one finds, and the folder is free in between', async () => {
  const here = config()
  const account = 'romeo@localhost'
  expect(await command(here, { call: 'account.create', account, fields: { password: 'one' } })).toEqual([null])
  const keys = await withTable(here, (table) => table.get({ pk: `a#${account}`, sk: 'account' }))
  await command(here, { call: 'account.password', account, fields: { password: 'two' } })
  const changed = await withTable(here, (table) => table.get({ pk: `a#${account}`, sk: 'account' }))
  expect(changed?.value.toString()).not.toBe(keys?.value.toString())
  expect(await command(here, { call: 'account.list' })).toEqual([account, 1])
  await expect(command(here, { call: 'account.create', account, fields: { password: 'x' } })).rejects.toThrow(
    'the account exists',
  )
  tryLockFolder(here.data)!.release()
})

test('while another process is at work on the folder nothing is opened', async () => {
  const here = config()
  const lock = tryLockFolder(here.data)!
  expect(await openAtRest(here, presenceModules, memoryLog())).toBeUndefined()
  lock.release()
  await (await openAtRest(here, presenceModules, memoryLog()))!.close()
})

test('RFC 6121 §2.5.2 each of many contacts has lost an account that was removed, before the command ends', async () => {
  const here = config()
  const romeo = 'romeo@localhost'
  const contacts = Array.from({ length: 200 }, (_, n) => `contact${n}@localhost`)
  await command(here, { call: 'account.create', account: romeo, fields: { password: 'x' } })
  await withTable(here, async (table) => {
    const account = await table.get({ pk: `a#${romeo}`, sk: 'account' })
    const puts = contacts.flatMap((jid) => [
      table.put({ pk: `a#${jid}`, sk: 'account', version: 'v', value: account!.value }),
      table.put({ pk: `a#${jid}`, sk: `roster#${romeo}`, version: 'v', value: contact(romeo, 'both') }),
      table.put({ pk: `a#${romeo}`, sk: `roster#${jid}`, version: 'v', value: contact(jid, 'both') }),
    ])
    await Promise.all(puts)
  })
  expect(await command(here, { call: 'account.remove', account: romeo })).toEqual([null])
  await withTable(here, async (table) => {
    for await (const row of table.query(`a#${romeo}`)) throw new Error(`left behind: ${row.sk}`)
    const subscriptions = new Set<string>()
    for (const jid of contacts) {
      const row = await table.get({ pk: `a#${jid}`, sk: `roster#${romeo}` })
      subscriptions.add(JSON.parse(Buffer.from(row!.value).toString()).subscription)
    }
    expect([...subscriptions]).toEqual(['none'])
  })
})

test('what a module had kept while it was enabled used to wait for the next owner of the name', async () => {
  const here = config()
  const romeo = 'romeo@localhost'
  await command(here, { call: 'account.create', account: romeo, fields: { password: 'x' } })
  await withTable(here, (table) => table.put({ pk: `j#diary#${romeo}`, sk: '1', version: 'v', value: json('a secret') }))
  const disabled = { ...here, modules: { ...here.modules, diary: { enabled: false } } }
  await command(disabled, { call: 'account.remove', account: romeo }, [...presenceModules, diary])
  await withTable(here, async (table) => {
    for await (const row of table.query(`j#diary#${romeo}`)) throw new Error(`left behind: ${row.sk}`)
  })
})

test('a removal takes the journals of every module with it, and leaves those of others', async () => {
  const here = config()
  for (const name of ['romeo', 'juliet'])
    await command(here, { call: 'account.create', account: `${name}@localhost`, fields: { password: 'x' } })
  await withTable(here, async (table) => {
    const entry = (name: string, n: number) =>
      table.put({ pk: `j#diary#${name}@localhost`, sk: `${n}`, version: 'v', value: json(n) })
    await Promise.all(Array.from({ length: 300 }, (_, n) => [entry('romeo', n), entry('juliet', n)]).flat())
  })
  await command(here, { call: 'account.remove', account: 'romeo@localhost' }, [...presenceModules, diary])
  await withTable(here, async (table) => {
    const rows = { romeo: 0, juliet: 0 }
    for (const name of ['romeo', 'juliet'] as const)
      for await (const _row of table.query(`j#diary#${name}@localhost`)) rows[name]++
    expect(rows).toEqual({ romeo: 0, juliet: 300 })
  })
  expect(await command(here, { call: 'account.list' })).toEqual(['juliet@localhost', 1])
})

test('a removal that was interrupted is finished by removing the account again', async () => {
  const here = config()
  const account = 'romeo@localhost'
  await command(here, { call: 'account.create', account, fields: { password: 'x' } })
  await withTable(here, async (table) => {
    await table.put({ pk: `a#${account}`, sk: 'account', version: 'v', value: json({ createdAt: 1, removed: { atMs: 2 } }) })
    await table.put({ pk: `j#diary#${account}`, sk: '1', version: 'v', value: json('a secret') })
  })
  const modules = [...presenceModules, diary]
  expect(await command(here, { call: 'account.list' }, modules)).toEqual([0]) // other commands leave it as it is
  await withTable(here, async (table) => expect(await table.get({ pk: `j#diary#${account}`, sk: '1' })).toBeDefined())
  await command(here, { call: 'account.remove', account }, modules)
  await withTable(here, async (table) => {
    for (const pk of [`j#diary#${account}`, `a#${account}`])
      for await (const row of table.query(pk)) throw new Error(`left behind: ${row.sk}`)
  })
})

test('what a module still does behind its answer is done before the command ends', async () => {
  const here = config()
  const [romeo, juliet] = ['romeo@localhost', 'juliet@localhost']
  const slow = defineModule({
    name: 'slow',
    home: 'router',
    xeps: [],
    setup(app) {
      const mourned = app.record<string[]>('mourned', [])
      const mourn = async (jid: Jid): Promise<void> => {
        for (let n = 0; n < 30; n++) await app.accounts.exists(parseJid(`stranger${n}@localhost`)) // a read each
        await mourned.update(parseJid(juliet!), (before) => [...before, jid.bare])
      }
      if (app.role === 'router') app.on('account.deleted', ({ account }) => void mourn(account)) // its home alone writes
    },
  })
  for (const account of [romeo, juliet]) await command(here, { call: 'account.create', account, fields: { password: 'x' } })
  await command(here, { call: 'account.remove', account: romeo }, [...presenceModules, slow])
  const row = await withTable(here, (table) => table.get({ pk: `a#${juliet}`, sk: 'mourned' }))
  expect(JSON.parse(String(row && Buffer.from(row.value)))).toEqual([romeo])
})

test('a folder that cannot be made is named', async () => {
  const here = config()
  const nowhere = { ...here, data: '/dev/null/data' }
  await expect(openAtRest(nowhere, presenceModules, memoryLog())).rejects.toThrow('the data folder /dev/null/data cannot be made')
})
