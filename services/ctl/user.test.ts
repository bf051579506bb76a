import { existsSync, mkdirSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { controlPath } from '#embedded/control.ts'
import { tryLockFolder } from '#embedded/folder-lock.ts'
import { openSqliteTable } from '#table/sqlite.ts'
import { UsageError } from './command.ts'
import { logIn, Place } from './rookery.fixture.ts'
import { user as runUser } from './user.ts'

let place: Place
let config: string
beforeEach(() => {
  place = new Place()
  config = place.configure({ domains: ['localhost', 'example.org'] })
})
afterEach(() => place.clear())

const user = (...args: string[]) => place.rookery(['user', ...args, '--config', config])

test('of a running server: what an account may do changes at once', async () => {
  const server = await place.run(config)
  const port = await server.port('c2s')
  expect(await logIn(port, 'romeo', 'one')).toBe('failure')

  expect(await user('add', 'romeo@localhost', '--password', 'one')).toEqual({
    code: 0,
    out: 'romeo@localhost added on the running server\n',
    err: '',
  })
  expect(await logIn(port, 'romeo', 'one')).toBe('success')

  expect(await user('passwd', 'romeo@localhost', '--password', 'two')).toMatchObject({
    code: 0,
    out: 'romeo@localhost has a new password on the running server\n',
  })
  expect(await logIn(port, 'romeo', 'one')).toBe('failure')
  expect(await logIn(port, 'romeo', 'two')).toBe('success')
  expect(await user('list')).toEqual({ code: 0, out: 'romeo@localhost\n', err: '1 account on the running server\n' })

  expect(await user('remove', 'romeo@localhost')).toMatchObject({
    code: 0,
    out: 'romeo@localhost removed on the running server\n',
  })
  expect(await logIn(port, 'romeo', 'two')).toBe('failure')
  expect(await user('list')).toEqual({ code: 0, out: '', err: '0 accounts on the running server\n' })
  expect(await user('remove', 'romeo@localhost')).toEqual({
    code: 1,
    out: '',
    err: 'rookery: romeo@localhost: no such account\n',
  })
})

test('at rest: what was done holds when the server runs', async () => {
  const where = `in ${place.data}; no server runs on it\n`
  expect(await user('add', 'romeo@localhost', '--password', 'one')).toEqual({
    code: 0,
    out: `romeo@localhost added ${where}`,
    err: '',
  })
  expect(await user('add', 'tybalt@localhost', '--password', 'one')).toMatchObject({ code: 0 })
  expect(await user('passwd', 'romeo@localhost', '--password', 'two')).toMatchObject({
    code: 0,
    out: `romeo@localhost has a new password ${where}`,
  })
  expect(await user('remove', 'tybalt@localhost')).toMatchObject({ code: 0, out: `tybalt@localhost removed ${where}` })
  expect(await user('list')).toEqual({ code: 0, out: 'romeo@localhost\n', err: `1 account ${where}` })
  expect(await user('add', 'romeo@localhost', '--password', 'x')).toEqual({
    code: 1,
    out: '',
    err: 'rookery: romeo@localhost: the account exists\n',
  })

  const server = await place.run(config)
  expect(await logIn(await server.port('c2s'), 'romeo', 'two')).toBe('success')
  expect(await logIn(await server.port('c2s'), 'tybalt', 'one')).toBe('failure')
})

test('disabled and enabled, of a running server and at rest: the account stays, and nobody logs in', async () => {
  await user('add', 'romeo@localhost', '--password', 'one')
  await user('add', 'juliet@localhost', '--password', 'one')
  expect(await user('disable', 'romeo@localhost', '--reason', 'spam')).toMatchObject({
    code: 0,
    out: expect.stringMatching(/^romeo@localhost disabled in /),
  })
  const server = await place.run(config)
  const port = await server.port('c2s')
  expect([await logIn(port, 'romeo', 'one'), await logIn(port, 'juliet', 'one')]).toEqual(['failure', 'success'])
  expect(await user('disable', 'juliet@localhost')).toMatchObject({ code: 0 })
  expect((await user('list')).out).toBe('juliet@localhost\tdisabled\nromeo@localhost\tdisabled: spam\n')
  expect(await user('enable', 'romeo@localhost')).toMatchObject({
    code: 0,
    out: 'romeo@localhost enabled on the running server\n',
  })
  expect([await logIn(port, 'romeo', 'one'), await logIn(port, 'juliet', 'one')]).toEqual(['success', 'failure'])
  expect((await user('list')).out).toBe('juliet@localhost\tdisabled\nromeo@localhost\n')
  expect(await user('disable', 'romeo@localhost', '--reason', 'two\nlines')).toMatchObject({
    code: 1,
    err: 'rookery: romeo@localhost: a reason is one line of at most 500 characters\n',
  })
  expect(await user('enable', 'nobody@localhost')).toMatchObject({ code: 1, err: 'rookery: nobody@localhost: no such account\n' })
})

test('after a server was killed its data is at rest, whatever it left behind', async () => {
  const server = await place.run(config)
  await user('add', 'romeo@localhost', '--password', 'one')
  await server.stop('SIGKILL')
  expect(existsSync(controlPath(place.data))).toBe(true)
  expect(await user('list')).toMatchObject({ code: 0, out: 'romeo@localhost\n', err: expect.stringContaining('no server runs') })
  await place.run(config)
  expect(await user('list')).toMatchObject({
    code: 0,
    out: 'romeo@localhost\n',
    err: expect.stringContaining('on the running server'),
  })
})

test('commands at rest that are given at once wait for each other', async () => {
  const names = ['benvolio', 'juliet', 'mercutio', 'romeo']
  const ended = await Promise.all(names.map((name) => user('add', `${name}@localhost`, '--password', 'x')))
  expect(ended.map(({ code, err }) => `${code} ${err}`)).toEqual(['0 ', '0 ', '0 ', '0 '])
  expect((await user('list')).out.split('\n')).toEqual([...names.map((name) => `${name}@localhost`), ''])
})

test('a list of thousands is complete, and in order in each domain', async () => {
  const names = Array.from({ length: 3000 }, (_, n) => `n${n}@${n % 2 === 0 ? 'localhost' : 'example.org'}`)
  await storeAccounts(names)
  const server = await place.run(config)
  const of = (domain: string) => names.filter((name) => name.endsWith(`@${domain}`)).sort()
  const running = await user('list')
  expect(running.out).toBe(`${[...of('localhost'), ...of('example.org')].join('\n')}\n`)
  expect(running.err).toBe('3000 accounts on the running server\n')
  await server.stop()
  expect((await user('list', 'example.org')).out).toBe(`${of('example.org').join('\n')}\n`)
})

describe('the password', () => {
  test('is the first line of standard input, where that is no terminal', async () => {
    const add = (name: string, input: string) =>
      place.rookery(['user', 'add', `${name}@localhost`, '--config', config], { input })
    expect(await add('romeo', 'sécret\nmore\n')).toMatchObject({ code: 0 })
    expect(await add('juliet', 'no line feed')).toMatchObject({ code: 0 })
    const server = await place.run(config)
    expect(await logIn(await server.port('c2s'), 'romeo', 'sécret')).toBe('success')
    expect(await logIn(await server.port('c2s'), 'juliet', 'no line feed')).toBe('success')
  })

  test('is needed', async () => {
    const ended = await place.rookery(['user', 'add', 'romeo@localhost', '--config', config])
    expect(ended).toMatchObject({ code: 1, out: '', err: expect.stringMatching(/^rookery: there is no password: .*\n$/) })
    expect(existsSync(place.data)).toBe(false)
  })

  test('that nobody may have is refused', async () => {
    const { code, out, err } = await user('add', 'romeo@localhost', '--password', 'bell\u0007')
    expect({ code, out }).toEqual({ code: 1, out: '' })
    expect(err).toMatch(/^rookery: romeo@localhost: the password has a control character.*\n$/)
  })
})

describe('what is refused in one line, with exit code 1', () => {
  test('whatever names no account of this server', async () => {
    await place.run(config)
    const refusals: [string[], string][] = [
      [['add', 'a b@localhost', '--password', 'x'], '"a b@localhost" is no address'],
      [['remove', 'localhost'], 'an account is NAME@DOMAIN'],
      [['passwd', 'romeo@localhost/garden', '--password', 'x'], 'an account is NAME@DOMAIN'],
      [
        ['add', 'romeo@elsewhere.example', '--password', 'x'],
        'elsewhere.example is not a domain of this server; it has localhost, example.org',
      ],
      [['passwd', 'nobody@localhost', '--password', 'x'], 'nobody@localhost: no such account'],
      [['list', 'elsewhere.example'], 'elsewhere.example is not a domain'],
    ]
    for (const [args, text] of refusals) {
      const { code, out, err } = await user(...args)
      expect({ args, code, out, lines: err.split('\n').length }).toEqual({ args, code: 1, out: '', lines: 2 })
      expect(err).toContain(text)
    }
  })

  test('a folder without data, but for the first account', async () => {
    for (const args of [['list'], ['remove', 'romeo@localhost'], ['passwd', 'romeo@localhost', '--password', 'x']]) {
      expect(await user(...args)).toMatchObject({
        code: 1,
        err: expect.stringContaining(`no server runs on ${place.data}, and none has`),
      })
    }
    expect(existsSync(place.data)).toBe(false)
  })

  test('a server that goes away before it has answered', async () => {
    await user('add', 'romeo@localhost', '--password', 'x')
    const lock = tryLockFolder(place.data)! // as a server
    const server = createServer((socket) => socket.once('data', () => socket.destroy())).listen(controlPath(place.data))
    const { code, err } = await user('list')
    server.close()
    lock.release()
    expect({ code, err }).toEqual({ code: 1, err: expect.stringMatching(/^rookery: the server stopped before it answered.*\n$/) })
  })
})

describe('a command line that is wrong', () => {
  test('is answered with the usage and exit code 2', async () => {
    const { code, out, err } = await place.rookery(['user', 'rename'])
    expect({ code, out }).toEqual({ code: 2, out: '' })
    expect(err).toContain('rookery: user knows no rename\n\nUsage: rookery COMMAND')
  })

  test.each([
    [[], 'user needs to know what to do'],
    [['constructor'], 'user knows no constructor'],
    [['add'], 'user add needs an account'],
    [['remove', 'a@localhost', 'b@localhost'], 'takes one account, and no b@localhost'],
    [['list', 'localhost', 'more'], 'takes one domain, and no more'],
    [['list', '--password', 'x'], "Unknown option '--password'"],
  ])('%j', async (args, text) => {
    const refused = runUser(args)
    await expect(refused).rejects.toThrow(UsageError)
    await expect(refused).rejects.toThrow(text)
  })
})

test('without a file the data is in ./data, as it is for the server', async () => {
  expect(await place.rookery(['user', 'add', 'romeo@localhost', '--password', 'x'])).toMatchObject({ code: 0 })
  expect(existsSync(join(place.folder, 'data', 'rookery.sqlite'))).toBe(true)
  const elsewhere = { env: { ROOKERY_DATA: join(place.folder, 'elsewhere') } }
  expect(await place.rookery(['user', 'list'], elsewhere)).toMatchObject({ code: 1, err: expect.stringContaining('elsewhere') })
})

/** As the server stores them, without the time that hashing takes. */
async function storeAccounts(accounts: readonly string[]): Promise<void> {
  mkdirSync(place.data)
  const table = await openSqliteTable({ file: join(place.data, 'rookery.sqlite') })
  const value = Buffer.from(JSON.stringify({ credentials: { scram: {} }, createdAt: 0 }))
  const rows = accounts.flatMap((account, n) => {
    const [local, domain] = account.split('@') as [string, string]
    const list = `u#${domain}#${(n % 16).toString(16).padStart(2, '0')}`
    return [
      { pk: list, sk: local, version: 'v', value: new Uint8Array(0) },
      { pk: `a#${account}`, sk: 'account', version: 'v', value },
    ]
  })
  await Promise.all(rows.map((row) => table.put(row)))
  await table.close()
}
