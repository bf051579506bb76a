// What every driver of Bus must do, as a suite of tests.
//
// A driver over a network gives two connections: the first subscribes, the second publishes. Nothing here sleeps: that a body
// did not arrive is shown by a later one, of the same publisher, that did.
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { BODY_BYTES_MAX, type Bus, type BusState, BusTimeout, NoResponders } from './bus.ts'

export interface BusUnderTest {
  bus: Bus
  /** Another connection to the same bus, where the driver can have one. */
  second?: Bus
  /** Resolves when subscriptions made before are in force for every connection. At once where there is no network. */
  settled?(): Promise<void>
  close(): Promise<void>
}

export function busContract(name: string, make: () => Promise<BusUnderTest>): void {
  describe(`${name} keeps the contract of Bus`, () => {
    let made: BusUnderTest
    let bus: Bus
    let peer: Bus
    const settled = () => made.settled?.() ?? Promise.resolve()

    beforeEach(async () => {
      made = await make()
      bus = made.bus
      peer = made.second ?? made.bus
    })
    afterEach(() => made.close())

    /** Resolves once what `peer` published before has been dispatched. */
    async function passed(): Promise<void> {
      await new Promise<void>((resolve) => {
        const probe = bus.subscribe('test.probe', () => {
          probe.close()
          resolve()
        })
        void settled().then(() => peer.publish('test.probe', bytes('probe')))
      })
    }

    function listen(subject: string, options?: { group?: string }) {
      const seen: string[] = []
      const subscription = bus.subscribe(subject, (body) => seen.push(text(body)), options)
      return { seen, close: () => subscription.close() }
    }

    describe('publish and subscribe', () => {
      test('bodies of one publisher on one subject arrive in order, each once', async () => {
        const { seen } = listen('test.order')
        await settled()
        const sent = Array.from({ length: 1000 }, (_, n) => `${n}`)
        for (const body of sent) peer.publish('test.order', bytes(body))
        await passed()
        expect(seen).toEqual(sent)
      })

      test('every subscription without a group gets each body', async () => {
        const [first, second] = [listen('test.all'), listen('test.all')]
        await settled()
        peer.publish('test.all', bytes('a'))
        await passed()
        expect([first.seen, second.seen]).toEqual([['a'], ['a']])
      })

      test('publish calls no handler before it returns', async () => {
        const { seen } = listen('test.later')
        await settled()
        bus.publish('test.later', bytes('a'))
        expect(seen).toEqual([])
        await Promise.resolve()
        expect(seen).toEqual([])
      })

      test('a handler that publishes is not entered again before it returns', async () => {
        let depth = 0
        let deepest = 0
        const all = new Promise<void>((resolve) => {
          bus.subscribe('test.echo', (body) => {
            deepest = Math.max(deepest, ++depth)
            const left = Number(text(body))
            if (left > 0) bus.publish('test.echo', bytes(`${left - 1}`))
            else resolve()
            depth--
          })
        })
        await settled()
        peer.publish('test.echo', bytes('20'))
        await all
        expect(deepest).toBe(1)
      })

      test('two handlers that answer each other for ever leave timers their turn', async () => {
        let rounds = 0
        const hit = (next: string, body: Uint8Array) => {
          rounds++
          bus.publish(next, body)
        }
        bus.subscribe('test.ping', (body) => hit('test.pong', body))
        bus.subscribe('test.pong', (body) => hit('test.ping', body))
        await settled()
        peer.publish('test.ping', bytes('x'))
        do
          await new Promise((resolve) => setTimeout(resolve, 5)) // a timer that never came would hang here
        while (rounds === 0)
        expect(rounds).toBeGreaterThan(0)
      })

      test('a body nobody listens for is lost, and a later subscription does not see it', async () => {
        peer.publish('test.nobody', bytes('early'))
        await passed()
        const { seen } = listen('test.nobody')
        await settled()
        peer.publish('test.nobody', bytes('late'))
        await passed()
        expect(seen).toEqual(['late'])
      })

      test('a closed subscription gets nothing more, and closing it twice is no fault', async () => {
        const { seen, close } = listen('test.closed')
        const stays = listen('test.closed')
        await settled()
        peer.publish('test.closed', bytes('a'))
        await passed()
        close()
        close()
        await settled()
        peer.publish('test.closed', bytes('b'))
        await passed()
        expect([seen, stays.seen]).toEqual([['a'], ['a', 'b']])
      })

      test('a handler that closes its own subscription gets no body that was waiting', async () => {
        const seen: string[] = []
        const subscription = bus.subscribe('test.once', (body) => {
          seen.push(text(body))
          subscription.close()
        })
        await settled()
        for (const body of ['a', 'b', 'c']) peer.publish('test.once', bytes(body))
        await passed()
        expect(seen).toEqual(['a'])
      })

      test('a handler that throws, or whose promise is rejected, stops neither itself nor the others', async () => {
        let calls = 0
        bus.subscribe('test.broken', () => {
          calls++
          throw new Error('thrown by a handler')
        })
        bus.subscribe('test.broken', () => Promise.reject(new Error('rejected by a handler')))
        const { seen } = listen('test.broken')
        await settled()
        peer.publish('test.broken', bytes('a'))
        peer.publish('test.broken', bytes('b'))
        await passed()
        expect([calls, seen]).toEqual([2, ['a', 'b']])
      })

      test('bodies are opaque: every octet, none, and a view into a larger buffer arrive as they were', async () => {
        const seen: Uint8Array[] = []
        bus.subscribe('test.binary', (body) => seen.push(body))
        await settled()
        const every = Uint8Array.from({ length: 256 }, (_, n) => n)
        const sent = [every, new Uint8Array(0), every.subarray(16, 32), bytes('\u{1F426} caw')]
        for (const body of sent) peer.publish('test.binary', body)
        await passed()
        expect(seen.map((body) => [...body])).toEqual(sent.map((body) => [...body]))
      })

      test('a body that a handler keeps stays what it was while others come', async () => {
        const kept: Uint8Array[] = []
        bus.subscribe('test.kept', (body) => kept.push(body))
        await settled()
        // Of every length around what a socket reads at once, so that some come in pieces and some share a piece.
        const sent = Array.from({ length: 200 }, (_, n) => new Uint8Array((n * 1777) % 140_000).fill(n))
        for (const body of sent) peer.publish('test.kept', body)
        await passed()
        expect(kept.length).toBe(sent.length)
        for (const [n, body] of kept.entries()) expect(Buffer.compare(body, sent[n]!), `body ${n}`).toBe(0)
      })

      test('a body of 1 MiB passes, and one octet more throws RangeError', async () => {
        const seen: number[] = []
        bus.subscribe('test.large', (body) => seen.push(body.length))
        await settled()
        peer.publish('test.large', new Uint8Array(BODY_BYTES_MAX))
        expect(() => peer.publish('test.large', new Uint8Array(BODY_BYTES_MAX + 1))).toThrow(RangeError)
        await passed()
        expect(seen).toEqual([BODY_BYTES_MAX])
      })
    })

    describe('subjects', () => {
      test.each(['', 'a.', '.a', 'a..b', 'a b', 'a.>', '*.a', 'a*'])('%j is none', async (subject) => {
        expect(() => bus.subscribe(subject, () => {})).toThrow(TypeError)
        expect(() => bus.publish(subject, bytes('a'))).toThrow(TypeError)
        await expect(bus.request(subject, bytes('a'), 5000)).rejects.toThrow(TypeError)
      })

      test('one cannot publish to a wildcard', () => {
        expect(() => bus.publish('test.*', bytes('a'))).toThrow(TypeError)
      })
    })

    describe('groups', () => {
      test('each body goes to one member of the group, and every member gets its share', async () => {
        const members = [1, 2, 3].map(() => listen('test.group', { group: 'g' }))
        await settled()
        const sent = Array.from({ length: 300 }, (_, n) => `${n}`)
        for (const body of sent) peer.publish('test.group', bytes(body))
        await passed()
        const got = members.flatMap((member) => member.seen)
        expect(got.sort((a, b) => Number(a) - Number(b))).toEqual(sent)
        for (const member of members) expect(member.seen.length).toBeGreaterThan(30)
      })

      test('two groups, and a subscription without one, get a body each', async () => {
        const listeners = [listen('test.groups', { group: 'g' }), listen('test.groups', { group: 'h' }), listen('test.groups')]
        await settled()
        peer.publish('test.groups', bytes('a'))
        await passed()
        expect(listeners.map((each) => each.seen)).toEqual([['a'], ['a'], ['a']])
      })

      test('a member that closes leaves its share to the others', async () => {
        const [leaves, stays] = [listen('test.leave', { group: 'g' }), listen('test.leave', { group: 'g' })]
        await settled()
        leaves.close()
        await settled()
        for (const body of ['a', 'b', 'c', 'd']) peer.publish('test.leave', bytes(body))
        await passed()
        expect([leaves.seen, stays.seen]).toEqual([[], ['a', 'b', 'c', 'd']])
      })

      test('members by name and by wildcard are one group', async () => {
        const [exact, star] = [listen('test.mixed.a', { group: 'g' }), listen('test.mixed.*', { group: 'g' })]
        await settled()
        for (let n = 0; n < 40; n++) peer.publish('test.mixed.a', bytes('x'))
        await passed()
        expect(exact.seen.length + star.seen.length).toBe(40)
      })
    })

    describe('wildcards', () => {
      test('a trailing * matches one token, no more and no fewer', async () => {
        const { seen } = listen('test.star.*')
        await settled()
        for (const subject of ['test.star.a', 'test.star.b', 'test.star', 'test.star.a.b', 'test.starry.a']) {
          peer.publish(subject, bytes(subject))
        }
        await passed()
        expect(seen).toEqual(['test.star.a', 'test.star.b'])
      })

      test('a subject used before a wildcard came, and after it went, follows the subscriptions of the moment', async () => {
        const exact = listen('test.change.a')
        await settled()
        peer.publish('test.change.a', bytes('1'))
        await passed()
        const star = listen('test.change.*')
        await settled()
        peer.publish('test.change.a', bytes('2'))
        await passed()
        star.close()
        await settled()
        peer.publish('test.change.a', bytes('3'))
        await passed()
        expect([exact.seen, star.seen]).toEqual([['1', '2', '3'], ['2']])
      })
    })

    describe('request', () => {
      test('is answered by reply, also when the handler answers later', async () => {
        bus.subscribe('test.ask', (body, reply) => reply(bytes(`${text(body)}!`)))
        bus.subscribe('test.ask.later', (body, reply) => setImmediate(() => reply(body)))
        await settled()
        expect(text(await peer.request('test.ask', bytes('caw'), 5000))).toBe('caw!')
        expect(text(await peer.request('test.ask.later', bytes('caw'), 5000))).toBe('caw')
      })

      test('many at once get each its own answer', async () => {
        bus.subscribe('test.many', (body, reply) => reply(body))
        await settled()
        const asked = Array.from({ length: 100 }, (_, n) => `${n}`)
        const answers = await Promise.all(asked.map((each) => peer.request('test.many', bytes(each), 5000)))
        expect(answers.map(text)).toEqual(asked)
      })

      test('the first of several answers counts', async () => {
        bus.subscribe('test.twice', (_, reply) => {
          reply(bytes('first'))
          reply(bytes('second'))
        })
        await settled()
        expect(text(await peer.request('test.twice', bytes('?'), 5000))).toBe('first')
      })

      test('goes to one member of a group', async () => {
        const seen: string[] = []
        for (const who of ['a', 'b']) {
          bus.subscribe(
            'test.one',
            (_, reply) => {
              seen.push(who)
              reply(bytes(who))
            },
            { group: 'g' },
          )
        }
        await settled()
        const answer = text(await peer.request('test.one', bytes('?'), 5000))
        await passed()
        expect(seen).toEqual([answer])
      })

      test('rejects with BusTimeout when nobody answers in time, and a late answer is lost', async () => {
        let answer: (() => void) | undefined
        bus.subscribe('test.mute', (body, reply) => {
          answer = () => reply(body)
        })
        await settled()
        await expect(peer.request('test.mute', bytes('?'), 20)).rejects.toThrow(BusTimeout)
        expect(answer).toBeDefined()
        answer!()
        await passed()
      })

      test('rejects with NoResponders, without waiting, when nobody listens', async () => {
        await expect(peer.request('test.void', bytes('?'), 60_000)).rejects.toThrow(NoResponders)
      })

      test('rejects with NoResponders after the last subscription closed', async () => {
        const { close } = listen('test.gone')
        close()
        await settled()
        await expect(peer.request('test.gone', bytes('?'), 60_000)).rejects.toThrow(NoResponders)
      })

      test('a question over 1 MiB rejects with RangeError', async () => {
        listen('test.ask.large')
        await settled()
        const question = peer.request('test.ask.large', new Uint8Array(BODY_BYTES_MAX + 1), 5000)
        await expect(question).rejects.toThrow(RangeError)
      })

      test('an answer over 1 MiB throws RangeError to the handler, who may give another', async () => {
        let thrown: unknown
        bus.subscribe('test.answer.large', (body, reply) => {
          try {
            reply(new Uint8Array(BODY_BYTES_MAX + 1))
          } catch (error) {
            thrown = error
          }
          reply(body)
        })
        await settled()
        expect(text(await peer.request('test.answer.large', bytes('?'), 5000))).toBe('?')
        expect(thrown).toBeInstanceOf(RangeError)
      })

      test('reply does nothing where the body was published and not requested', async () => {
        let replied = false
        bus.subscribe('test.told', (body, reply) => {
          reply(body)
          replied = true
        })
        await settled()
        peer.publish('test.told', bytes('a'))
        await passed()
        expect(replied).toBe(true)
      })
    })

    describe('drain and status', () => {
      test('dispatches what was published before, and waits for handlers that are running', async () => {
        const done: string[] = []
        bus.subscribe('test.drain', async (body) => {
          await new Promise((resolve) => setTimeout(resolve, 5))
          done.push(text(body))
        })
        await settled()
        bus.publish('test.drain', bytes('a'))
        bus.publish('test.drain', bytes('b'))
        await passed()
        await bus.drain()
        expect(done).toEqual(['a', 'b'])
      })

      test('a handler may reply and publish while the bus drains', async () => {
        const replied = new Promise<void>((resolve, reject) => {
          bus.subscribe('test.last', async (body, reply) => {
            await new Promise((resolve) => setTimeout(resolve, 5))
            try {
              bus.publish('test.elsewhere', body)
              reply(body)
              resolve()
            } catch (error) {
              reject(error)
            }
          })
        })
        await settled()
        peer.publish('test.last', bytes('a'))
        await passed()
        await bus.drain()
        await replied
      })

      test('while it drains nobody can subscribe or ask', async () => {
        listen('test.draining')
        await settled()
        const drained = bus.drain()
        expect(() => bus.subscribe('test.draining', () => {})).toThrow(/closed/)
        await expect(bus.request('test.draining', bytes('?'), 5000)).rejects.toThrow(/closed/)
        await drained
      })

      test('a request that nobody has answered when the bus is drained is rejected', async () => {
        listen('test.unanswered')
        await settled()
        const question = expect(bus.request('test.unanswered', bytes('?'), 60_000)).rejects.toThrow(/closed/)
        await bus.drain()
        await question
      })

      test('a subscription may be closed after the bus is drained', async () => {
        const { close } = listen('test.drained')
        await bus.drain()
        close()
      })

      test('once drained, publish and subscribe throw, request rejects, and drain is done', async () => {
        await bus.drain()
        expect(() => bus.publish('test.over', bytes('a'))).toThrow(/closed/)
        expect(() => bus.subscribe('test.over', () => {})).toThrow(/closed/)
        await expect(bus.request('test.over', bytes('a'), 1000)).rejects.toThrow(/closed/)
        await bus.drain()
      })

      test("status says 'up' to a new watcher at once, 'down' when drained, and nothing to one that closed", async () => {
        const states: BusState[] = []
        const closed: BusState[] = []
        bus.status((state) => states.push(state))
        bus.status((state) => closed.push(state)).close()
        expect(states).toEqual(['up'])
        await bus.drain()
        expect([states, closed]).toEqual([['up', 'down'], ['up']])
      })
    })
  })
}

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text)
const text = (body: Uint8Array): string => new TextDecoder().decode(body)
