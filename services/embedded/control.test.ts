import {
  chownSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { connect, createServer, Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { manualClock } from '#core/clock.ts'
import type { RunningRole } from '#core/process.ts'
import type { Config } from '#core/settings/config.ts'
import { startPresence } from '#presence/main.ts'
import { startRouter } from '#router/main.ts'
import { randomId } from '#xmpp/id.ts'
import { controlPath, demandOwnSocket, IDLE_TIMEOUT_MS, startControl } from './control.ts'
import { tryLockFolder } from './folder-lock.ts'
import { linesOf } from './lines.ts'
import { testConfig, testProcess } from './process.fixture.ts'

const cleanups: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
  vi.restoreAllMocks()
})

function ownFolder(): Config {
  const config = testConfig()
  cleanups.push(() => rmSync(config.data, { recursive: true }))
  return config
}

async function started<T extends RunningRole>(starting: Promise<T>): Promise<T> {
  const role = await starting
  cleanups.push(() => role.stop())
  return role
}

async function serve(config = ownFolder()) {
  const process = testProcess(config)
  const control = await started(startControl(process))
  await started(startPresence(process))
  await started(startRouter(process))
  return { process, control, path: controlPath(config.data) }
}

/** A control socket before a router that answers its first call when it is told to. */
async function serveSlowly() {
  const config = ownFolder()
  const clock = manualClock()
  const process = { ...testProcess(config), clock }
  const asked = new Promise<() => void>((tell) => {
    process.bus.subscribe(`call.router.${process.id}`, (_body, reply) => tell(() => reply(Buffer.from('{"told":null}'))))
  })
  const control = await started(startControl(process))
  return { control, path: controlPath(config.data), asked, clock }
}

/** A peer that writes what it likes and reads lines. */
function peer(path: string): { socket: Socket; ask(request: unknown): Promise<unknown>; next(): Promise<unknown> } {
  const socket = connect(path)
  socket.on('error', () => {})
  cleanups.push(() => socket.destroy())
  const lines = linesOf(socket, 1024 * 1024)
  const next = async () => {
    const { value, done } = await lines.next()
    return done ? 'the end' : JSON.parse(value as string)
  }
  return {
    socket,
    next,
    ask(request) {
      socket.write(`${typeof request === 'string' ? request : JSON.stringify(request)}\n`)
      return next()
    },
  }
}

describe('calls', () => {
  test('an account is made, found, given a password and removed by one connection, in order', async () => {
    const { path, process } = await serve()
    const { ask, next } = peer(path)
    const account = 'romeo@localhost'
    const row = { pk: `a#${account}`, sk: 'account' }
    expect(await ask({ call: 'account.create', account, fields: { password: 'one' } })).toEqual({ told: null })
    const before = await process.table.get(row)
    expect(before).toBeDefined()
    expect(await ask({ call: 'account.create', account, fields: { password: 'two' } })).toEqual({
      condition: 'conflict',
      text: 'the account exists',
    })
    expect(await ask({ call: 'account.password', account, fields: { password: 'two' } })).toEqual({ told: null })
    expect((await process.table.get(row))?.value).not.toEqual(before?.value)
    expect(await ask({ call: 'account.sessions', account })).toEqual({ told: [] })
    expect(await ask({ call: 'account.list' })).toEqual({ entry: account })
    expect(await next()).toEqual({ told: 1 })
    expect(await ask({ call: 'account.remove', account })).toEqual({ told: null })
    expect(await process.table.get(row)).toBeUndefined()
    expect(await ask({ call: 'account.list' })).toEqual({ told: 0 })
  })

  test('an account is named in any form, and is the prepared one', async () => {
    const { path } = await serve()
    const { ask } = peer(path)
    await ask({ call: 'account.create', account: 'Romeo@LOCALHOST', fields: { password: 'x' } })
    expect(await ask({ call: 'account.list', fields: { domain: 'LocalHost' } })).toEqual({ entry: 'romeo@localhost' })
  })

  test('a list is of one domain, or of all', async () => {
    const { path } = await serve()
    const { ask, next } = peer(path)
    for (const account of ['romeo@localhost', 'juliet@example.org'])
      await ask({ call: 'account.create', account, fields: { password: 'x' } })
    expect([await ask({ call: 'account.list', fields: { domain: 'example.org' } }), await next()]).toEqual([
      { entry: 'juliet@example.org' },
      { told: 1 },
    ])
    expect([await ask({ call: 'account.list' }), await next(), await next()]).toEqual([
      { entry: 'romeo@localhost' },
      { entry: 'juliet@example.org' },
      { told: 2 },
    ])
  })

  test('requests that are written at once are answered in their order', async () => {
    const { path } = await serve()
    const { socket, next } = peer(path)
    const account = 'romeo@localhost'
    const requests = [
      { call: 'account.password', account, fields: { password: 'x' } },
      { call: 'account.create', account, fields: { password: 'x' } },
      { call: 'account.remove', account },
    ]
    socket.write(requests.map((request) => `${JSON.stringify(request)}\n`).join(''))
    expect([await next(), await next(), await next()]).toMatchObject([
      { condition: 'item-not-found' },
      { told: null },
      { told: null },
    ])
  })

  test('a peer that has said all it will say is still answered', async () => {
    const { path } = await serve()
    const { socket, next } = peer(path)
    socket.end(`${JSON.stringify({ call: 'account.list' })}\n`)
    expect([await next(), await next()]).toEqual([{ told: 0 }, 'the end'])
  })

  test('no password is logged', async () => {
    const { path, process } = await serve()
    await peer(path).ask({ call: 'account.create', account: 'romeo@localhost', fields: { password: 'hush-hush' } })
    await expect.poll(() => process.log.lines.map(({ event }) => event)).toContain('control.answered')
    expect(JSON.stringify(process.log.lines)).not.toContain('hush-hush')
  })
})

describe('what is refused', () => {
  const account = 'romeo@localhost'
  test.each([
    ['no JSON', 'hello', 'bad-request', 'one JSON object'],
    ['no object', '[1]', 'bad-request', 'one JSON object'],
    ['no call', { account }, 'bad-request', 'one JSON object'],
    [
      'a call that is not on the list',
      { call: 'account.credentials', account },
      'feature-not-implemented',
      'account.credentials',
    ],
    ['a call that every object has', { call: 'constructor', account }, 'feature-not-implemented', 'constructor'],
    ['no account', { call: 'account.remove' }, 'jid-malformed', 'missing'],
    [
      'a malformed account',
      { call: 'account.remove', account: 'a b@localhost' },
      'jid-malformed',
      '"a b@localhost" is no address',
    ],
    ['a domain for an account', { call: 'account.remove', account: 'localhost' }, 'jid-malformed', 'NAME@DOMAIN'],
    ['a full JID', { call: 'account.remove', account: `${account}/garden` }, 'jid-malformed', 'NAME@DOMAIN'],
    [
      'a foreign account',
      { call: 'account.remove', account: 'romeo@elsewhere.example' },
      'item-not-found',
      'it has localhost, example.org',
    ],
    ['an account that is not there', { call: 'account.remove', account }, 'item-not-found', 'no such account'],
    ['no password', { call: 'account.create', account, fields: {} }, 'bad-request', 'password is missing'],
    ['a password that is a number', { call: 'account.create', account, fields: { password: 7 } }, 'bad-request', 'password'],
    ['an empty password', { call: 'account.create', account, fields: { password: '' } }, 'not-acceptable', 'empty'],
    [
      'a foreign domain',
      { call: 'account.list', fields: { domain: 'elsewhere.example' } },
      'item-not-found',
      'elsewhere.example',
    ],
    ['a malformed domain', { call: 'account.list', fields: { domain: 'a b' } }, 'jid-malformed', '"a b" is no domain'],
    ['a domain that is a number', { call: 'account.list', fields: { domain: 7 } }, 'bad-request', 'domain'],
  ])('%s', async (_name, request, condition, text) => {
    const { path } = await serve()
    const { ask } = peer(path)
    expect(await ask(request)).toEqual({ condition, text: expect.stringContaining(text) })
    expect(await ask({ call: 'account.list' })).toEqual({ told: 0 }) // and the connection goes on
  })

  test('a line without an end: the peer is told, and the connection is closed', async () => {
    const { path } = await serve()
    const { socket, next } = peer(path)
    socket.write('x'.repeat(40_000))
    expect(await next()).toEqual({ condition: 'policy-violation', text: expect.stringContaining('32768 bytes') })
    await expect.poll(() => socket.destroyed || socket.readableEnded).toBe(true)
  })

  test('while the roles are away, a call says so', async () => {
    const config = ownFolder()
    await started(startControl(testProcess(config)))
    expect(await peer(controlPath(config.data)).ask({ call: 'account.remove', account })).toEqual({
      condition: 'resource-constraint',
      text: expect.stringContaining('not reachable'),
    })
  })
})

describe('the socket', () => {
  test('it is its owner’s alone, and is gone when the server has stopped', async () => {
    const { path, control } = await serve()
    expect(statSync(path).mode & 0o777).toBe(0o600)
    await control.stop()
    expect(existsSync(path)).toBe(false)
  })

  test('a connection is closed for want of a request, not while it is answered: by then it is the reader who takes his time', async () => {
    const timed = vi.spyOn(Socket.prototype, 'setTimeout')
    const { path, asked } = await serveSlowly()
    const { ask } = peer(path)
    const answer = ask({ call: 'account.sessions', account: 'romeo@localhost' })
    const finish = await asked
    const [socket] = timed.mock.contexts as [Socket]
    expect(socket.timeout).toBe(0)
    finish()
    expect(await answer).toEqual({ told: null })
    expect(await ask({ call: '' })).toMatchObject({ condition: 'bad-request' })
    expect(timed.mock.calls.map(([ms]) => ms)).toEqual([IDLE_TIMEOUT_MS, 0, IDLE_TIMEOUT_MS, 0, IDLE_TIMEOUT_MS])
  })

  test('a stop closes what is idle, and answers what is under way', async () => {
    const { control, path, asked } = await serveSlowly()
    const idle = peer(path)
    await idle.ask({ call: 'account.list' })
    const busy = peer(path)
    const answer = busy.ask({ call: 'account.enable', account: 'romeo@localhost' })
    const reply = await asked
    const stopped = control.stop()
    await expect.poll(() => idle.socket.readyState).toBe('closed')
    reply()
    expect(await answer).toEqual({ told: null })
    expect(await busy.next()).toBe('the end')
    await stopped
  })

  test('a stop gives up an answer that does not come', async () => {
    const { control, path, asked, clock } = await serveSlowly()
    const { socket } = peer(path)
    socket.write(`${JSON.stringify({ call: 'account.remove', account: 'romeo@localhost' })}\n`)
    socket.resume()
    await asked
    const stopped = control.stop()
    clock.advance(2_000)
    await stopped
    await expect.poll(() => socket.readyState).toBe('closed')
    expect(existsSync(path)).toBe(false)
  })

  test('what a server that died left behind is replaced', async () => {
    const config = ownFolder()
    const path = controlPath(config.data)
    await leaveSocket(path)
    expect(lstatSync(path).isSocket()).toBe(true)
    await started(startControl(testProcess(config)))
    expect(await peer(path).ask({ call: 'account.list' })).toEqual({ told: 0 })
  })

  test('a second server on the data folder is refused, and the first goes on', async () => {
    const { process, path } = await serve()
    await expect(startControl(testProcess(process.config))).rejects.toThrow(
      `another server runs on the data folder ${process.config.data}`,
    )
    expect(await peer(path).ask({ call: 'account.list' })).toEqual({ told: 0 })
  })

  test('of two servers that start at the same moment one is refused', async () => {
    const config = ownFolder()
    const starts = await Promise.allSettled([startControl(testProcess(config)), startControl(testProcess(config))])
    for (const start of starts) if (start.status === 'fulfilled') await started(Promise.resolve(start.value))
    expect(starts.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected'])
  })

  test('where locks do not hold, a live socket is enough to be refused', async () => {
    const config = ownFolder()
    const other = createServer().listen(controlPath(config.data))
    cleanups.push(() => other.close())
    await expect(startControl(testProcess(config))).rejects.toThrow('another server runs on the data folder')
    expect(existsSync(controlPath(config.data))).toBe(true)
  })

  test('a command that is at work on the data at rest is waited for', async () => {
    const config = ownFolder()
    const lock = tryLockFolder(config.data)!
    const starting = startControl(testProcess(config))
    setTimeout(() => lock.release(), 120)
    await started(starting)
    expect(existsSync(controlPath(config.data))).toBe(true)
  })

  test('a file of its name that is no socket is left alone', async () => {
    const config = ownFolder()
    writeFileSync(controlPath(config.data), 'precious')
    await expect(startControl(testProcess(config))).rejects.toThrow('in the way of the control socket')
    tryLockFolder(config.data)!.release() // and the folder is free again
  })
})

describe('where the socket is', () => {
  test('one path, however the folder is named', () => {
    const folder = mkdtempSync(join(tmpdir(), 'rookery-path-'))
    const link = `${folder}-link`
    symlinkSync(folder, link)
    cleanups.push(
      () => rmSync(folder, { recursive: true }),
      () => rmSync(link),
    )
    expect(controlPath(folder)).toBe(join(folder, 'control.sock'))
    expect(controlPath(link)).toBe(controlPath(folder))
    expect(controlPath(`${folder}/../${folder.split('/').at(-1)}/`)).toBe(controlPath(folder))
  })

  test('a path that is too long for a socket is replaced by one that is not, and works', async () => {
    const config = ownFolder()
    const data = join(config.data, 'x'.repeat(120))
    mkdirSync(data)
    const path = controlPath(data)
    expect(dirname(path)).toBe(tmpdir())
    expect(controlPath(`${data}y`)).not.toBe(path)
    const control = await started(startControl(testProcess({ ...config, data })))
    expect(statSync(path).mode & 0o777).toBe(0o600)
    expect(await peer(path).ask({ call: 'account.list' })).toEqual({ told: 0 })
    await control.stop()
    expect(existsSync(path)).toBe(false)
  })

  test.runIf(process.getuid?.() === 0)('there, the socket of another user is not trusted', async () => {
    const config = ownFolder()
    const data = join(config.data, 'x'.repeat(120))
    mkdirSync(data)
    const path = controlPath(data)
    await leaveSocket(path)
    cleanups.push(() => rmSync(path, { force: true }))
    expect(() => demandOwnSocket(path, data)).not.toThrow()
    chownSync(path, 12345, 12345)
    expect(() => demandOwnSocket(path, data)).toThrow('belongs to another user (12345)')
    chownSync(data, 12345, 12345) // the server's user: root may manage his accounts
    expect(() => demandOwnSocket(path, data)).not.toThrow()
  })
})

/** A socket that nobody listens on: renamed, so that closing its server does not take it away. */
async function leaveSocket(path: string): Promise<void> {
  const server = createServer()
  await new Promise<void>((listening) => server.listen(join(tmpdir(), `left-${randomId()}.sock`), listening))
  renameSync(server.address() as string, path)
  await new Promise((closed) => server.close(closed))
}
