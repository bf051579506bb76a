// Servers that die, freeze and come back, and a process that is too slow for them.
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process'
import { once } from 'node:events'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { afterEach, describe, expect, test } from 'vitest'
import { HOW_TO_GET_NATS, hasNats, type NatsOptions, startNats, startNatsCluster, type TestNats } from '#test/servers/nats.ts'
import { Mailbox } from '#test/support/mailbox.ts'
import { BODY_BYTES_MAX, type Bus, type BusState, BusTimeout } from './bus.ts'
import { type NatsBusOptions, openNatsBus, type StateFacts } from './nats.ts'

const there = await hasNats()
if (!there) console.warn(`SKIPPED: most tests of services/bus/nats-faults.test.ts: ${HOW_TO_GET_NATS}`)

const PATIENCE_MS = 30_000
const body = new Uint8Array([1])
const MANY = { timeout: 90_000 }

const opened: { stop(): unknown }[] = []
afterEach(async () => {
  for (const one of opened.splice(0).reverse()) await one.stop()
})

async function start(options?: NatsOptions): Promise<TestNats> {
  const server = await startNats(options)
  opened.push(server)
  return server
}

interface Watched {
  readonly bus: Bus
  /** As they come, from the first 'up' on. */
  readonly states: Mailbox<BusState>
  readonly facts: (StateFacts & { state: BusState })[]
  readonly errors: string[]
}

async function open(options: NatsBusOptions): Promise<Watched> {
  const facts: Watched['facts'] = []
  const errors: string[] = []
  const bus = await openNatsBus({
    ...options,
    onError: (error, subject) => errors.push(`${subject}: ${(error as Error).message}`),
    onState: (state, more) => facts.push({ state, ...more }),
  })
  opened.push({ stop: () => bus.drain() })
  const states = new Mailbox<BusState>('the bus', () => JSON.stringify({ facts, errors }))
  bus.status((state) => states.put(state))
  await until(states, 'up')
  return { bus, states, facts, errors }
}

const until = (states: Mailbox<BusState>, state: BusState) => states.next(`'${state}'`, (one) => one === state, PATIENCE_MS)

/** A body gets from one to the other; retried, since what one publishes may reach the other's server later than its subscription does. */
async function expectToReach(from: Bus, to: Bus): Promise<void> {
  const subscription = to.subscribe('reach', (question, reply) => reply(question))
  const deadline = Date.now() + PATIENCE_MS
  for (;;) {
    const answer = await from.request('reach', body, 1000).catch((error: Error) => error)
    if (!(answer instanceof Error)) break
    if (Date.now() > deadline) throw answer
  }
  subscription.close()
}

describe.skipIf(!there)('a server that dies', () => {
  test('kill -9 and a restart on the same port: down, up, and subscriptions are in force again', MANY, async () => {
    const server = await start()
    const { bus, states, facts, errors } = await open({ servers: [server.url] })
    const seen: string[] = []
    bus.subscribe('a', (each) => seen.push(Buffer.from(each).toString()))
    await server.kill('SIGKILL')
    await until(states, 'down')
    bus.publish('a', Buffer.from('lost'))
    bus.publish('a', Buffer.from('lost too'))
    await expect(bus.request('a', body, 50)).rejects.toThrow(BusTimeout)
    await server.restart()
    await until(states, 'up')
    bus.publish('a', Buffer.from('after'))
    await expectToReach(bus, bus)
    expect(seen).toEqual(['after'])
    expect(facts.map(({ state, lost }) => [state, lost])).toEqual([
      ['up', 0],
      ['down', 0],
      ['up', 3],
    ])
    expect(errors).toEqual([])
  })

  test('what subscribes and what closes meanwhile is as it should be afterwards', MANY, async () => {
    const server = await start()
    const { bus, states } = await open({ servers: [server.url] })
    const seen: string[] = []
    const before = bus.subscribe('a', () => seen.push('before'))
    await server.kill('SIGKILL')
    await until(states, 'down')
    before.close()
    bus.subscribe('a', () => seen.push('while'))
    await server.restart()
    await until(states, 'up')
    bus.publish('a', body)
    await expectToReach(bus, bus)
    expect(seen).toEqual(['while'])
  })

  test('a bus that is drained while its server is away is drained at once, and waits for its handlers', MANY, async () => {
    const server = await start()
    const { bus, states } = await open({ servers: [server.url] })
    let finish = () => {}
    let finished = false
    const entered = new Promise<void>((resolve) => {
      bus.subscribe('a', async () => {
        resolve()
        await new Promise<void>((done) => (finish = done))
        finished = true
      })
    })
    bus.publish('a', body)
    await entered
    await server.kill('SIGKILL')
    await until(states, 'down')
    const unanswered = expect(bus.request('a', body, 60_000)).rejects.toThrow(/closed/)
    const drained = bus.drain()
    finish()
    await drained
    expect(finished).toBe(true)
    await unanswered
  })

  test(
    'where credentials are refused on the way back it says so once, and comes back when they are right again',
    MANY,
    async () => {
      const server = await start({
        config: 'include "users.conf"',
        files: { 'users.conf': 'authorization { user: a, password: b }' },
      })
      const { states, errors } = await open({ servers: [server.url], user: 'a', password: 'b' })
      await server.kill('SIGKILL')
      await server.write('users.conf', 'authorization { user: a, password: c }')
      await server.restart()
      while (errors.length === 0 || !server.log().match(/authentication error[\s\S]*authentication error/))
        await new Promise((resolve) => setTimeout(resolve, 20))
      expect(errors).toEqual(['connection: Authorization Violation'])
      await server.write('users.conf', 'authorization { user: a, password: b }')
      await server.kill('SIGHUP') // it reads its configuration again
      await until(states, 'up') // the one of the beginning was taken by open
    },
  )

  test('one of three: who was on it goes to another, and all meet again', MANY, async () => {
    const servers = await startNatsCluster(3)
    opened.push(...servers)
    const urls = servers.map(({ url }) => url)
    // Each begins on a server of its own; the first knows all three, the others have learnt them.
    const [first, second, third] = [
      await open({ servers: [urls[0]!] }),
      await open({ servers: [urls[1]!] }),
      await open({ servers: [urls[2]!] }),
    ]
    for (const [from, to] of [
      [first, second],
      [second, third],
      [third, first],
    ] as const)
      await expectToReach(from.bus, to.bus)
    await servers[0]!.kill('SIGKILL')
    await until(first.states, 'up')
    for (const [from, to] of [
      [first, second],
      [second, third],
      [third, first],
    ] as const)
      await expectToReach(from.bus, to.bus)
    expect(urls[0]).toContain(first.facts[0]!.server)
    expect(urls.slice(1)).toContain(`nats://${first.facts.at(-1)!.server}`)
    expect(second.facts.concat(third.facts).map(({ state }) => state)).toEqual(['up', 'up'])
  })
})

describe.skipIf(!there)('a server that freezes', () => {
  test(
    'it is given up for another, even where more waits for it than the kernel takes, and only so much waits',
    MANY,
    async () => {
      const servers = [await start(), await start()]
      const { bus, states, facts } = await open({ servers: servers.map(({ url }) => url) })
      const frozen = servers.find(({ url }) => url.endsWith(facts[0]!.server))!
      const other = servers.find((server) => server !== frozen)!
      await frozen.kill('SIGSTOP')
      const large = new Uint8Array(BODY_BYTES_MAX)
      for (let n = 0; n < 100; n++) bus.publish('a', large)
      await until(states, 'slow')
      await until(states, 'down')
      await until(states, 'up')
      const [, slow, down, up] = facts
      expect(slow).toMatchObject({ state: 'slow', reason: expect.stringContaining('has not taken'), lost: 1 })
      expect(down!.lost).toBeGreaterThan(10) // of 100 MiB, 64 were queued, and the kernel took what it takes
      expect(down!.lost).toBeLessThan(40)
      expect(other.url).toContain(up!.server)
      await expectToReach(bus, bus)
    },
  )
})

describe.skipIf(!there)('a process that is too slow', () => {
  test('frozen past what the server waits: it is cut off, and wakes to down and up', MANY, async () => {
    const server = await start({ config: 'write_deadline: "200ms"\nmax_pending: 4194304' })
    const { bus } = await open({ servers: [server.url] })
    const child = spawn(process.execPath, [join(import.meta.dirname, 'nats-child.fixture.ts'), server.url, 'flood'])
    opened.push({ stop: () => endOf(child) })
    const said = new Mailbox<string>('the child', () => server.log())
    createInterface({ input: child.stdout }).on('line', (line) => said.put(line))
    await said.next('up', (line) => line === 'up', PATIENCE_MS)
    child.kill('SIGSTOP')
    const large = new Uint8Array(BODY_BYTES_MAX)
    while (((await server.monitor('varz')).slow_consumers as number) === 0) {
      bus.publish('flood', large)
      await new Promise((resolve) => setImmediate(resolve))
    }
    child.kill('SIGCONT')
    await said.next('down', (line) => line === 'down', PATIENCE_MS)
    await said.next('up', (line) => line === 'up', PATIENCE_MS)
    bus.publish('flood', new Uint8Array(7))
    await said.next('a body', (line) => line === '7', PATIENCE_MS)
  })
})

describe('what a server complains of', () => {
  test("'Slow Consumer' is told as slow, and the connection that ends behind it as down", MANY, async () => {
    const server = await fakeNats()
    const { states, facts, errors } = await open({ servers: [server.url] })
    server.sockets[0]!.end("-ERR 'Slow Consumer'\r\n")
    await until(states, 'slow')
    await until(states, 'down')
    await until(states, 'up')
    expect(facts.map(({ state, reason }) => [state, reason])).toEqual([
      ['up', ''],
      ['slow', 'Slow Consumer'],
      ['down', ''],
      ['up', ''],
    ])
    expect(errors).toEqual([])
  })

  test('a ping that is not answered in time is told as slow, and as up when it is', MANY, async () => {
    const server = await fakeNats()
    const { states, facts } = await open({ servers: [server.url] })
    server.answers = false
    await until(states, 'slow')
    server.answers = true
    await until(states, 'up')
    expect(facts.map(({ state }) => state)).toEqual(['up', 'slow', 'up'])
  })

  test.skipIf(!there)('a subject that is not allowed is reported by its name, and the bus goes on', MANY, async () => {
    const permissions = 'publish: { deny: "rookery.secret" }, subscribe: { deny: "rookery.secret" }'
    const server = await start({
      config: `authorization { users: [ { user: a, password: b, permissions: { ${permissions} } } ] }`,
    })
    const { bus, errors } = await open({ servers: [server.url], user: 'a', password: 'b' })
    bus.subscribe('secret', () => {})
    await expectToReach(bus, bus)
    bus.publish('secret', body)
    await expectToReach(bus, bus)
    expect(errors).toEqual([
      expect.stringMatching(/^rookery\.secret: Permissions Violation for Subscription to "rookery\.secret"/),
      expect.stringMatching(/^rookery\.secret: Permissions Violation for Publish to "rookery\.secret"/),
    ])
  })
})

async function endOf(child: ChildProcessWithoutNullStreams): Promise<void> {
  child.kill('SIGKILL')
  if (child.exitCode === null && child.signalCode === null) await once(child, 'exit')
}

/** As much of a server as says what a real one says only to those it cannot reach. While it does not answer, it keeps the pings. */
async function fakeNats(): Promise<{ url: string; sockets: Socket[]; answers: boolean }> {
  const sockets: Socket[] = []
  let answers = true
  const owed = new Map<Socket, number>()
  const pay = () => {
    for (const [socket, pongs] of owed) if (socket.writable) socket.write('PONG\r\n'.repeat(pongs))
    owed.clear()
  }
  const server = createServer((socket) => {
    sockets.push(socket)
    socket.on('error', () => {})
    socket.write('INFO {"server_id":"fake","version":"2.15.2","proto":1,"headers":true,"max_payload":1048576}\r\n')
    createInterface({ input: socket }).on('line', (line) => {
      if (line !== 'PING') return
      owed.set(socket, (owed.get(socket) ?? 0) + 1)
      if (answers) pay()
    })
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  opened.push({
    stop: () => {
      for (const socket of sockets) socket.destroy()
      server.close()
    },
  })
  const fake = {
    url: `nats://127.0.0.1:${(server.address() as AddressInfo).port}`,
    sockets,
    get answers() {
      return answers
    },
    set answers(now: boolean) {
      answers = now
      if (now) pay()
    },
  }
  return fake
}
