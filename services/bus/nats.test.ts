// What a NATS server must be there for. What happens when it dies is in nats-faults.test.ts.
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { HOW_TO_GET_NATS, hasNats, startNats, type TestNats } from '#test/servers/nats.ts'
import { type Bus, BusTimeout } from './bus.ts'
import { busContract } from './contract.ts'
import { type NatsBusOptions, openNatsBus } from './nats.ts'

const there = await hasNats()
if (!there) console.warn(`SKIPPED: every test of services/bus/nats.test.ts: ${HOW_TO_GET_NATS}`)

let server: TestNats
const opened: Bus[] = []

async function open(options: Partial<NatsBusOptions> = {}): Promise<Bus> {
  const bus = await openNatsBus({ servers: [server.url], ...options })
  opened.push(bus)
  return bus
}

/** Resolves when the server has handled all that the bus sent before. */
async function handled(bus: Bus): Promise<void> {
  await bus.request('nobody.listens.here', body, 5000).catch(() => {})
}

const body = new Uint8Array([1])

describe.skipIf(!there)('on a server', () => {
  beforeAll(async () => {
    server = await startNats()
  })
  afterEach(() => Promise.all(opened.splice(0).map((bus) => bus.drain())))
  afterAll(() => server?.stop())

  busContract('natsBus', async () => {
    const [bus, second] = [await open(), await open()]
    return {
      bus,
      second,
      settled: async () => void (await Promise.all([handled(bus), handled(second)])),
      close: async () => {},
    }
  })

  describe('natsBus', () => {
    let bus: Bus
    let peer: Bus
    const errors: string[] = []
    beforeEach(async () => {
      errors.length = 0
      bus = await open({
        onError: (error, subject) => {
          errors.push(`${subject}: ${(error as Error).message}`)
          throw new Error('from the reporter')
        },
      })
      peer = await open()
    })

    test('subjects have the prefix on the wire, and deployments with different ones do not meet', async () => {
      const other = await open({ prefix: 'elsewhere.eu' })
      const seen: string[] = []
      bus.subscribe('lane.router.*', () => seen.push('ours'))
      other.subscribe('lane.router.*', () => seen.push('theirs'))
      await Promise.all([handled(bus), handled(other)])
      const { subscriptions_list } = (await connections()).at(-1)!
      expect(subscriptions_list).toContain('elsewhere.eu.lane.router.*')
      peer.publish('lane.router.a1', body)
      await handled(peer)
      await Promise.all([handled(bus), handled(other)])
      expect(seen).toEqual(['ours'])
    })

    test('the server knows the connection by its name', async () => {
      await open({ name: 'edge-k3' })
      expect((await connections()).map(({ name }) => name)).toContain('edge-k3')
    })

    test('what a handler throws or rejects with is reported with its subject, even if the reporter throws', async () => {
      const seen: string[] = []
      bus.subscribe('a', () => {
        throw new Error('thrown')
      })
      bus.subscribe('a', () => Promise.reject(new Error('rejected')))
      bus.subscribe('a', (each) => each.length > 1 && seen.push('alive'))
      await handled(bus)
      peer.publish('a', body)
      await handled(peer)
      await handled(bus)
      peer.publish('a', new Uint8Array(2))
      await handled(peer)
      await handled(bus)
      expect(errors).toEqual(['a: thrown', 'a: rejected', 'a: thrown', 'a: rejected'])
      expect(seen).toEqual(['alive'])
    })

    test('an answer comes behind what its handler published before it', async () => {
      const seen: string[] = []
      peer.subscribe('event', () => seen.push('event'))
      bus.subscribe('a', (question, reply) => {
        bus.publish('event', question)
        reply(question)
      })
      await Promise.all([handled(bus), handled(peer)])
      await peer.request('a', body, 5000).then(() => seen.push('answer'))
      expect(seen).toEqual(['event', 'answer'])
    })

    test('a question left unanswered does not hold the next one up', async () => {
      bus.subscribe('mute', () => {})
      bus.subscribe('a', (question, reply) => reply(question))
      await handled(bus)
      const unanswered = expect(peer.request('mute', body, 50)).rejects.toThrow(BusTimeout)
      expect(await peer.request('a', body, 5000)).toEqual(Buffer.from(body))
      await unanswered
    })

    test('a turn ends behind all that its sockets have brought, and who breaks then does not hold up the others', async () => {
      const seen: string[] = []
      bus.atTurnEnd!(() => {
        seen.push('breaks')
        throw new Error('from a flush')
      })
      bus.atTurnEnd!(() => seen.push('flushed'))
      await null
      expect(seen).toEqual([])
      await new Promise((resolve) => setImmediate(resolve))
      expect(seen).toEqual(['breaks', 'flushed'])
      expect(errors).toEqual(['turn: from a flush'])
    })

    test('what is put off to the end of a turn in which the bus is closed is dropped, and nobody is told', async () => {
      let flushed = false
      await bus.drain()
      bus.atTurnEnd!(() => {
        flushed = true
      })
      await new Promise((resolve) => setImmediate(resolve))
      expect([flushed, errors]).toEqual([false, []])
    })

    test('a member of a group that drains under load loses no body: it or the other gets each', async () => {
      const got = new Set<string>()
      let slow = 0
      const take = async (each: Uint8Array) => {
        slow++
        await new Promise((resolve) => setImmediate(resolve))
        got.add(Buffer.from(each).toString())
        slow--
      }
      bus.subscribe('work', take, { group: 'g' })
      const stays = await open()
      stays.subscribe('work', take, { group: 'g' })
      await Promise.all([handled(bus), handled(stays)])
      let drained: Promise<void> | undefined
      for (let n = 0; n < 5000; n++) {
        peer.publish('work', Buffer.from(`${n}`))
        if (n === 2000) drained = bus.drain().then(() => expect(errors).toEqual([]))
        if (n % 50 === 0) await new Promise((resolve) => setImmediate(resolve))
      }
      await drained
      await handled(peer)
      await stays.drain()
      expect(slow).toBe(0)
      expect(got.size).toBe(5000)
    })
  })
})

async function connections(): Promise<{ name?: string; subscriptions_list?: string[] }[]> {
  return (await server.monitor('connz?subs=1')).connections as { name?: string; subscriptions_list?: string[] }[]
}
