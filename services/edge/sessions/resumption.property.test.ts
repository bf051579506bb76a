// Connections that break anywhere, with clients that resume: nothing is lost, nothing comes twice, nothing is promised early.
import { mkdtempSync, rmSync } from 'node:fs'
import net from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterEach, describe, expect, test } from 'vitest'
import { openCaller } from '#core/call.ts'
import { defineModule } from '#core/module.ts'
import offline from '#modules/offline.ts'
import { flakyTable } from '#test/harness.ts'
import {
  connect,
  eventually,
  type Handed,
  makeAccount,
  PuppetOwners,
  settled,
  startRoles,
  type TestProcess,
  testProcess,
} from '../edge.fixture.ts'
import { TestTls, testCertificate, testDoor } from '../listeners/door.fixture.ts'
import { listenTcp } from '../listeners/tcp.ts'
import { openEdge } from '../main.ts'
import { ManagedClient, type Wire } from './managed.fixture.ts'

const stops: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const stop of stops.splice(0).reverse()) await stop()
})

const message = (to: string, id: string) => `<message to='${to}' id='${id}' type='chat'><body>${id}</body></message>`

/** What happens next, to one of the clients: `share` is how much of what is under way gets through a cut. */
interface Step {
  readonly who: number
  readonly does: 'say' | 'flush' | 'read' | 'ask' | 'wait' | 'cut' | 'return'
  readonly share: number
}

const step: fc.Arbitrary<Step> = fc.record({
  who: fc.integer({ min: 0, max: 1 }),
  does: fc.constantFrom('say', 'say', 'say', 'flush', 'read', 'ask', 'wait', 'cut', 'return'),
  share: fc.double({ min: 0, max: 1, noNaN: true }),
})

/** A client and the connection it has at the moment. */
class Person {
  readonly client: ManagedClient
  readonly #dial: () => Promise<Wire & { vanish(): void }>
  #wire: (Wire & { vanish(): void }) | undefined

  constructor(account: string, dial: Person['dial']) {
    this.client = new ManagedClient(account)
    this.#dial = dial
  }

  get dial() {
    return this.#dial
  }

  async return(): Promise<void> {
    if (this.#wire !== undefined) return
    this.#wire = await this.#dial()
    await this.client.connect(this.#wire)
  }

  /** So much of what was said gets through, and so much of what has come is taken. */
  async cut(share: number): Promise<void> {
    if (this.#wire === undefined) return
    this.client.flush(share)
    await settled(2)
    this.client.read(1 - share)
    this.client.lost()
    this.#wire.vanish()
    this.#wire = undefined
  }

  /** Sends what it has said, and behind that what ends its stream; its last words are read or not. */
  async fail(reads: boolean): Promise<void> {
    this.client.flush()
    this.#wire!.send('<no-stanza/>')
    await this.#ended(reads)
  }

  /** Sends what it has said, and an administrator ends its session. */
  async kick(process: TestProcess, reads: boolean): Promise<void> {
    this.client.flush()
    const caller = openCaller(process.bus, process.ownership)
    await caller.ask('router', this.client.account, 'session.kick', { resource: '', text: '' })
    await this.#ended(reads)
  }

  /** It has its session, or another one. */
  async settle(): Promise<void> {
    await eventually(() => {
      this.client.read()
      return this.client.online
    }, `${this.client.account} to have a session`)
  }

  async #ended(reads: boolean): Promise<void> {
    await this.#wire!.until('</stream:stream>')
    if (reads) this.client.read()
    this.client.lost()
    this.#wire = undefined
  }

  /** Is there, and has nothing left to do. */
  async finish(): Promise<void> {
    await this.return()
    await eventually(async () => {
      this.client.read()
      this.client.ask()
      this.client.flush()
      await settled(2)
      return this.client.online && this.client.unacknowledged === 0
    }, `${this.client.account} to be done`)
  }
}

async function perform(people: readonly Person[], steps: readonly Step[]): Promise<void> {
  let said = 0
  for (const { who, does, share } of steps) {
    const person = people[who]!
    const { client } = person
    if (does === 'say') {
      const id = `${who}-${++said}`
      client.say(id, message(people[1 - who]!.client.account, id))
    } else if (does === 'cut') await person.cut(share)
    else if (does === 'return') await person.return()
    else if (does === 'wait') await settled(3)
    else client[does]()
  }
  for (const person of people) await person.finish()
  await settled()
  for (const person of people) await person.finish()
  for (const [who, { client }] of people.entries()) {
    expect(client.failures).toEqual([])
    expect(client.received).toEqual(people[1 - who]!.client.said)
  }
}

/** Both are there and available. */
async function greet(people: readonly Person[]): Promise<void> {
  for (const person of people) {
    await person.return()
    await eventually(async () => {
      person.client.read()
      await settled(1)
      return person.client.online
    }, 'stream management')
    person.client.say('', '<presence/>')
    person.client.said.pop()
    await person.finish()
  }
}

describe('XEP-0198 §5: wherever a connection breaks, and whenever it is resumed', () => {
  test('each message comes once, and in order', async () => {
    const process = testProcess({ config: { limits: { unackedStanzas: 1_000 } } })
    stops.push(await startRoles(process))
    const run = fc.asyncProperty(fc.array(step, { maxLength: 60 }), async (steps) => {
      const open = openEdge(process)
      for (const name of ['romeo', 'juliet']) await makeAccount(process, `${name}@example.org`).catch(() => {})
      const people = ['romeo', 'juliet'].map((name) => new Person(`${name}@example.org`, async () => connect(open.onConnection)))
      try {
        await greet(people)
        await perform(people, steps)
      } finally {
        await open.close()
      }
      expect(process.log.lines.filter(({ level }) => level === 'error')).toEqual([])
      expect([open.edge.watched.size, open.edge.detached.size, open.edge.leaving.size]).toEqual([0, 0, 0])
    })
    await fc.assert(run, { numRuns: 40 })
  })

  test('over TCP, too', async () => {
    const process = testProcess({ config: { c2s: { allowPlainOnLoopback: true } } })
    stops.push(await startRoles(process))
    const open = openEdge(process)
    const folder = mkdtempSync(join(tmpdir(), 'rookery-resumption-'))
    const door = testDoor(process, new TestTls([await testCertificate(folder)]), open)
    const listeners = await listenTcp(door, '127.0.0.1')
    stops.push(async () => {
      const closing = listeners.map((listener) => listener.close())
      await open.close()
      await Promise.all(closing)
      rmSync(folder, { recursive: true })
    })
    const { port } = listeners[0]!
    let run = 0
    const property = fc.asyncProperty(fc.array(step, { maxLength: 40 }), async (steps) => {
      run++
      const people: Person[] = []
      for (const name of ['romeo', 'juliet']) {
        await makeAccount(process, `${name}${run}@example.org`)
        people.push(new Person(`${name}${run}@example.org`, () => TcpWire.open(port)))
      }
      await greet(people)
      await perform(people, steps)
      for (const person of people) await person.cut(1)
    })
    await fc.assert(property, { numRuns: 10 })
  })
})

describe('XEP-0198 §5: whenever the server ends a stream', () => {
  test('what its client sends again is what was not handled, though it comes back at once', async () => {
    let handling = Promise.resolve()
    let letGo = (): void => {}
    const slow = defineModule({
      name: 'slow',
      home: 'router',
      xeps: [],
      setup: (app) => app.guard('outbound', (stanza) => (stanza.name === 'message' ? handling : undefined)),
    })
    const process = testProcess({ config: { limits: { unackedStanzas: 1_000 } }, modules: [slow] })
    stops.push(await startRoles(process))
    const does = fc.constantFrom('say', 'say', 'say', 'flush', 'wait', 'fault', 'kick', 'cut')
    const property = fc.asyncProperty(fc.array(does, { maxLength: 40 }), fc.boolean(), async (steps, inTime) => {
      const open = openEdge(process)
      for (const name of ['romeo', 'juliet']) await makeAccount(process, `${name}@example.org`).catch(() => {})
      const [romeo, juliet] = ['romeo', 'juliet'].map(
        (name) => new Person(`${name}@example.org`, async () => connect(open.onConnection)),
      ) as [Person, Person]
      try {
        await greet([juliet, romeo])
        let said = 0
        for (const step of steps) {
          if (step === 'say') romeo.client.say(`${++said}`, message('juliet@example.org', `${said}`))
          else if (step === 'flush') romeo.client.flush()
          else if (step === 'wait') await settled(3)
          else {
            await romeo.settle() // with all that it has said before handled
            handling = new Promise((resolve) => {
              letGo = resolve
            })
            if (step === 'fault') await romeo.fail(inTime)
            else if (step === 'kick') await romeo.kick(process, inTime)
            else await romeo.cut(1)
            await romeo.return()
            await settled(3)
            letGo() // what it said before is handled now
          }
        }
        for (let n = 0; n < 2; n++) for (const person of [romeo, juliet]) await person.finish()
      } finally {
        letGo()
        await open.close()
      }
      expect(juliet.client.received).toEqual(romeo.client.said)
      expect(process.log.lines.filter(({ level }) => level === 'error')).toEqual([])
    })
    await fc.assert(property, { numRuns: 40 })
  })
})

describe('XEP-0198 §4: an ack is a promise', () => {
  test('in whatever order stanzas are handled, the count is never ahead of what is', async () => {
    const process = testProcess()
    const owners = new PuppetOwners(process)
    owners.knows('romeo@example.org')
    const run = fc.asyncProperty(
      fc.array(step, { maxLength: 60 }),
      fc.infiniteStream(fc.nat()),
      fc.infiniteStream(fc.boolean()),
      async (steps, chosen, acks) => {
        const open = openEdge(process)
        const romeo = new Person('romeo@example.org', async () => connect(open.onConnection))
        const { client } = romeo
        const underWay: Handed[] = []
        const came: string[] = []
        const handled = new Set<string>()
        owners.onEnvelope = (handed) => {
          if (handed.envelope.kind !== 'stanza') return handed.done()
          came.push(handed.envelope.stanza.id)
          underWay.push(handed)
        }
        const handleOne = (): void => {
          const [one] = underWay.splice(chosen.next().value % Math.max(1, underWay.length), 1)
          if (one?.envelope.kind === 'stanza') handled.add(one.envelope.stanza.id)
          one?.done()
        }
        const check = (): void => {
          client.read()
          const promised = client.said.slice(0, client.acknowledged)
          expect(promised.filter((id) => !handled.has(id))).toEqual([])
        }
        await romeo.return()
        await eventually(async () => {
          client.read()
          await settled(1)
          return client.online
        }, 'stream management')
        for (const [n, { does, share }] of steps.entries()) {
          if (does === 'say') client.say(`m${n}`, message('juliet@example.org', `m${n}`))
          else if (does === 'cut') await romeo.cut(share)
          else if (does === 'return') await romeo.return()
          else if (does === 'wait') await settled(3)
          else client[does]()
          if (acks.next().value) handleOne()
          await settled(2)
          check()
        }
        let finished = false
        const finishing = romeo.finish().finally(() => (finished = true))
        while (!finished) {
          handleOne()
          await settled(2)
          check()
        }
        await finishing
        expect(came).toEqual(client.said)
        expect(client.acknowledged).toBe(client.said.length)
        await open.close()
      },
    )
    await fc.assert(run, { numRuns: 60 })
  })

  test('with the table away a message that is to be kept is not acknowledged until it is stored', async () => {
    const table = flakyTable()
    const process = {
      ...testProcess({ modules: [offline], table }),
      moduleOptions: { offline: { messagesMax: 1_000, expiryDays: 0 } },
    }
    stops.push(await startRoles(process))
    const open = openEdge(process)
    stops.push(() => open.close())
    for (const name of ['romeo', 'juliet']) await makeAccount(process, `${name}@example.org`)
    const romeo = new Person('romeo@example.org', async () => connect(open.onConnection))
    await greet([romeo])
    const { client } = romeo
    const before = client.acknowledged
    table.away = true
    client.say('m1', message('juliet@example.org', 'm1'))
    client.ask()
    client.flush()
    await settled(50)
    client.read()
    expect(client.acknowledged).toBe(before)
    await romeo.cut(1)
    table.away = false
    await romeo.finish()
    expect(client.acknowledged).toBe(before + 1)
    const juliet = new Person('juliet@example.org', async () => connect(open.onConnection))
    await greet([juliet])
    await eventually(async () => {
      juliet.client.read()
      await settled(1)
      return juliet.client.received.length > 0
    }, 'what was kept')
    await juliet.finish()
    expect(juliet.client.received).toEqual(['m1'])
  })
})

class TcpWire implements Wire {
  readonly #socket: net.Socket
  #text = ''

  static async open(port: number): Promise<TcpWire> {
    const socket = net.connect({ host: '127.0.0.1', port })
    await new Promise((resolve, reject) => socket.once('connect', resolve).once('error', reject))
    return new TcpWire(socket)
  }

  constructor(socket: net.Socket) {
    this.#socket = socket
    socket.on('error', () => {})
    socket.on('data', (bytes) => {
      this.#text += bytes.toString()
    })
  }

  send(text: string | Uint8Array): void {
    this.#socket.write(text)
  }

  async until(wanted: string): Promise<string> {
    await eventually(() => this.#text.includes(wanted), wanted)
    return this.take()
  }

  take(): string {
    const text = this.#text
    this.#text = ''
    return text
  }

  /** What was written is still sent, if there is time: no closing tag either way. */
  vanish(): void {
    this.#socket.destroySoon()
  }
}
