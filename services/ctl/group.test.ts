import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { UsageError } from './command.ts'
import { group as runGroup } from './group.ts'
import { goOnline, type OnlineClient, Place } from './rookery.fixture.ts'

let place: Place
let config: string
const clients: OnlineClient[] = []
beforeEach(() => {
  place = new Place()
  config = place.configure({ domains: ['localhost', 'example.org'] })
})
afterEach(async () => {
  for (const client of clients.splice(0)) client.close()
  await place.clear()
})

const rookery = (...args: string[]) => place.rookery([...args, '--config', config])
const group = (...args: string[]) => rookery('group', ...args)

test('on a running server: a group is made and filled, and who is online sees it in his roster at once', async () => {
  const server = await place.run(config)
  const port = await server.port('c2s')
  const where = 'on the running server\n'
  for (const name of ['romeo', 'juliet']) await rookery('user', 'add', `${name}@localhost`, '--password', 'x')
  const romeo = await goOnline(port, 'romeo@localhost', 'x', 'garden')
  clients.push(romeo)
  romeo.send(`<iq type='get' id='roster'><query xmlns='jabber:iq:roster'/></iq>`)
  await romeo.until(/id='roster'/)

  const settings = ['--name', 'House of Verona', '--description', 'All of us']
  expect(await group('create', 'verona@localhost', ...settings)).toEqual({
    code: 0,
    out: `verona@localhost created ${where}`,
    err: '',
  })
  expect(await group('add', 'verona@localhost', 'romeo@localhost', 'juliet@localhost')).toMatchObject({
    code: 0,
    out: `2 accounts added to verona@localhost ${where}`,
  })
  const [push] = await romeo.until(/<item[^>]*juliet@localhost.*?<\/item>/)
  expect(push).toMatch(/subscription='both'/)
  expect(push).toContain('<group>House of Verona</group>')
  expect(await group('list')).toEqual({
    code: 0,
    out: 'verona@localhost\t2\tmembers\tHouse of Verona\tAll of us\n',
    err: `1 group ${where}`,
  })
  expect(await group('show', 'verona@localhost')).toEqual({
    code: 0,
    out: 'juliet@localhost\nromeo@localhost\n',
    err: 'House of Verona: All of us\nseen by members; 2 members\n',
  })
  await rookery('user', 'remove', 'juliet@localhost')
  await romeo.until(/<item[^>]*juliet@localhost[^>]*subscription='remove'|<item[^>]*subscription='remove'[^>]*juliet@localhost/)
  expect(await group('show', 'verona@localhost')).toMatchObject({ out: 'romeo@localhost\n' })
})

test('at rest: what was done holds when the server runs, and a list of accounts is a list of members', async () => {
  const where = `in ${place.data}; no server runs on it\n`
  for (const name of ['user0', 'user1']) await rookery('user', 'add', `${name}@localhost`, '--password', 'x')
  await rookery('user', 'disable', 'user1@localhost', '--reason', 'Gone')
  expect(await group('create', 'staff@localhost', '--seen-by', 'nobody')).toMatchObject({
    out: `staff@localhost created ${where}`,
  })
  expect(await group('create', 'board@localhost')).toMatchObject({ code: 0 })
  expect(await group('set', 'staff@localhost', '--seen-by-groups', 'board')).toMatchObject({
    out: `staff@localhost changed ${where}`,
  })
  const { out: listed } = await rookery('user', 'list', 'localhost')
  const added = await place.rookery(['group', 'add', 'staff@localhost', '-', '--config', config], { input: listed })
  expect(added).toEqual({ code: 0, out: `2 accounts added to staff@localhost ${where}`, err: '' })
  expect(await group('remove', 'staff@localhost', 'user1@localhost')).toMatchObject({
    out: `1 account removed from staff@localhost ${where}`,
  })
  await place.run(config)
  expect(await group('list', 'localhost')).toMatchObject({
    out: 'board@localhost\t0\tmembers\tboard\t\nstaff@localhost\t1\tboard\tstaff\t\n',
  })
  expect(await group('delete', 'board@localhost')).toMatchObject({
    code: 0,
    out: 'board@localhost deleted on the running server\n',
  })
})

test('what is refused, is so in one line, with exit code 1', async () => {
  await place.run(config)
  const refusals: [string[], string][] = [
    [['show', 'board@localhost'], 'rookery: board@localhost: there is no group board@localhost'],
    [['create', 'staff@localhost', '--seen-by', 'friends'], 'a group is seen by nobody, members, everybody'],
    [['list', 'elsewhere.example'], 'elsewhere.example is not a domain of this server'],
  ]
  for (const [args, text] of refusals) {
    const { code, out, err } = await group(...args)
    expect({ args, code, out, lines: err.split('\n').length }).toEqual({ args, code: 1, out: '', lines: 2 })
    expect(err).toContain(text)
  }
})

describe('a command line that is wrong', () => {
  test.each<[string[], string]>([
    [[], 'group needs to know what to do'],
    [['toString'], 'group knows no toString'],
    [['list', 'a', 'b'], 'group list takes one domain, and no b'],
    [['show'], 'group show needs a group, NAME@DOMAIN'],
    [['delete', 'a@b', 'c@d'], 'group delete takes one group, and no c@d'],
    [['set', 'a@b'], 'it needs one of them'],
    [['add'], 'group add needs a group'],
    [['remove', 'a@b'], 'group remove needs accounts'],
    [['create', 'a@b', '--members', 'c'], "Unknown option '--members'"],
  ])('group %j', async (args, text) => {
    const refused = runGroup(args)
    await expect(refused).rejects.toThrow(UsageError)
    await expect(refused).rejects.toThrow(text)
  })
})
