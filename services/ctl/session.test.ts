import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { announce as runAnnounce } from './announce.ts'
import { UsageError } from './command.ts'
import { goOnline, type OnlineClient, Place } from './rookery.fixture.ts'
import { session as runSession } from './session.ts'

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

/** A running server, with romeo and juliet online in this order. */
async function serve() {
  const server = await place.run(config)
  const port = await server.port('c2s')
  const come = async (account: string, resource: string) => {
    await rookery('user', 'add', account, '--password', 'x')
    const client = await goOnline(port, account, 'x', resource)
    clients.push(client)
    return client
  }
  return { romeo: await come('romeo@localhost', 'garden'), juliet: await come('juliet@example.org', 'balcony') }
}

test('who is connected is listed, with what is known of it, and of one domain or account', async () => {
  await serve()
  const line = (jid: string) =>
    new RegExp(`^${jid}\\t\\d{4}-\\d\\d-\\d\\dT[\\d:.]+Z\\t127\\.0\\.0\\.1\\ttcp\\tavailable \\(0\\)$`)
  const all = await rookery('session', 'list')
  expect({ code: all.code, err: all.err }).toEqual({ code: 0, err: '2 sessions\n' })
  const lines = all.out.split('\n')
  expect(lines).toEqual([
    expect.stringMatching(line('juliet@example.org/balcony')),
    expect.stringMatching(line('romeo@localhost/garden')),
    '',
  ])
  expect(await rookery('session', 'list', '--domain', 'Example.ORG')).toEqual({
    code: 0,
    out: `${lines[0]}\n`,
    err: '1 session\n',
  })
  expect(await rookery('session', 'list', '--account', 'romeo@localhost')).toMatchObject({ out: `${lines[1]}\n` })
  expect(await rookery('session', 'list', '--account', 'nobody@localhost')).toEqual({ code: 0, out: '', err: '0 sessions\n' })
})

test('XEP-0198: one that has lost its connection is shown as waiting', async () => {
  const { romeo } = await serve()
  romeo.send(`<enable xmlns='urn:xmpp:sm:3' resume='true'/>`)
  await romeo.until(/<enabled/)
  romeo.close()
  await expect
    .poll(async () => (await rookery('session', 'list', '--account', 'romeo@localhost')).out, { timeout: 15_000 })
    .toMatch(/available \(0\), waits to be resumed\n$/)
})

test('RFC 6120 §4.9.3.14: one that is kicked hears policy-violation and why', async () => {
  const { romeo } = await serve()
  expect(await rookery('session', 'kick', 'romeo@localhost/orchard')).toEqual({
    code: 1,
    out: '',
    err: 'rookery: romeo@localhost/orchard: it has no session\n',
  })
  expect(await rookery('session', 'kick', 'romeo@localhost/garden', '--reason', 'Late, & loud')).toEqual({
    code: 0,
    out: 'romeo@localhost/garden: 1 session ended\n',
    err: '',
  })
  const [error] = await romeo.until(/<stream:error>.*<\/stream:error>/)
  expect(error).toContain('<policy-violation')
  expect(error).toContain('Late, &amp; loud')
  expect(await rookery('session', 'list', '--domain', 'localhost')).toMatchObject({ out: '', err: '0 sessions\n' })
})

test('an announcement reaches who is online, from his own domain, and how many is told', async () => {
  const { romeo, juliet } = await serve()
  expect(await rookery('announce', 'Tea at <five>')).toEqual({ code: 0, out: 'sent to 2 accounts in 2 sessions\n', err: '' })
  expect((await romeo.until(/<message[^>]*>/))[0]).toMatch(/from='localhost'.*type='headline'|type='headline'.*from='localhost'/)
  expect((await juliet.until(/<body>(.*?)<\/body>/))[1]).toMatch(/^Tea at &lt;five(>|&gt;)$/)
  expect(await rookery('announce', 'Soon', '--domain', 'example.org')).toMatchObject({ out: 'sent to 1 account in 1 session\n' })
  await juliet.until(/Soon/)
  expect(romeo.received()).not.toContain('Soon')
})

describe('what is refused in one line, with exit code 1', () => {
  test('where no server runs, nobody is online', async () => {
    for (const args of [
      ['session', 'list'],
      ['session', 'kick', 'romeo@localhost'],
      ['announce', 'Tea'],
    ]) {
      const err = `rookery: no server runs on ${place.data}: nobody is online\n`
      expect(await rookery(...args)).toEqual({ code: 1, out: '', err })
    }
  })

  test('whatever names nobody here, and what cannot be said', async () => {
    await place.run(config)
    const refusals: [string[], string][] = [
      [
        ['session', 'list', '--domain', 'elsewhere.example'],
        'elsewhere.example is not a domain of this server; it has localhost, example.org',
      ],
      [['session', 'list', '--account', 'romeo@localhost/garden'], 'an account is NAME@DOMAIN'],
      [['session', 'kick', 'localhost'], 'an account is NAME@DOMAIN'],
      [['session', 'kick', 'romeo@elsewhere.example'], 'elsewhere.example is not a domain of this server'],
      [['session', 'kick', 'romeo@localhost', '--reason', 'bell\u0007'], 'the text has a control character'],
      [['announce', ' '], 'the text is empty'],
      [['announce', 'Tea', '--domain', 'elsewhere.example'], 'elsewhere.example is not a domain of this server'],
    ]
    for (const [args, text] of refusals) {
      const { code, out, err } = await rookery(...args)
      expect({ args, code, out, lines: err.split('\n').length }).toEqual({ args, code: 1, out: '', lines: 2 })
      expect(err).toContain(text)
    }
  })
})

describe('a command line that is wrong', () => {
  test.each<[string[], string]>([
    [[], 'session needs to know what to do'],
    [['toString'], 'session knows no toString'],
    [['list', 'romeo@localhost'], 'session list takes no romeo@localhost'],
    [['list', '--account', 'a@b', '--domain', 'b'], 'session list takes --account or --domain'],
    [['kick'], 'session kick needs an address'],
    [['kick', 'a@b', 'c@d'], 'takes one address, and no c@d'],
  ])('session %j', async (args, text) => {
    const refused = runSession(args)
    await expect(refused).rejects.toThrow(UsageError)
    await expect(refused).rejects.toThrow(text)
  })

  test.each<[string[], string]>([
    [[], 'announce needs a text'],
    [['Tea', 'at', 'five'], 'put it in quotes'],
    [['Tea', '--to', 'b'], "Unknown option '--to'"],
  ])('announce %j', async (args, text) => {
    const refused = runAnnounce(args)
    await expect(refused).rejects.toThrow(UsageError)
    await expect(refused).rejects.toThrow(text)
  })
})
