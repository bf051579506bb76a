import { setImmediate as turn } from 'node:timers/promises'
import { describe, expect, test, vi } from 'vitest'
import { BODY_BYTES_MAX, type BusState } from './bus.ts'
import { busContract } from './contract.ts'
import { memoryBus } from './memory.ts'

busContract('memoryBus', async () => {
  const bus = memoryBus()
  return { bus, close: () => bus.drain() }
})

const body = new Uint8Array([1])

describe('memoryBus', () => {
  test('passes the reference, not a copy', async () => {
    const bus = memoryBus()
    let got: Uint8Array | undefined
    bus.subscribe('a', (each) => {
      got = each
    })
    bus.publish('a', body)
    await turn()
    expect(got).toBe(body)
  })

  test('what handlers publish is dispatched behind the burst that it came from, in the same turn', async () => {
    const bus = memoryBus()
    const seen: string[] = []
    bus.subscribe('a', () => {
      seen.push('a')
      bus.publish('b', body)
    })
    bus.subscribe('b', () => seen.push('b'))
    bus.publish('a', body)
    bus.publish('a', body)
    await turn()
    expect(seen).toEqual(['a', 'a', 'b', 'b'])
  })

  test('so is what they gather until their microtasks', async () => {
    const bus = memoryBus()
    const seen: string[] = []
    bus.subscribe('a', () => queueMicrotask(() => bus.publish('b', body)))
    bus.subscribe('b', () => seen.push('b'))
    bus.publish('a', body)
    await turn()
    expect(seen).toEqual(['b'])
  })

  test('a turn has at most four bursts: then others have theirs', async () => {
    const bus = memoryBus()
    let count = 0
    bus.subscribe('a', () => {
      count++
      if (count < 10) bus.publish('a', body)
    })
    bus.publish('a', body)
    const counts: number[] = []
    for (let i = 0; i < 3; i++) {
      await turn()
      counts.push(count)
    }
    expect(counts).toEqual([4, 8, 10])
  })

  test('a group takes turns, also across a change of subscriptions', async () => {
    const bus = memoryBus()
    const seen: string[] = []
    for (const who of ['x', 'y']) bus.subscribe('a', () => seen.push(who), { group: 'g' })
    bus.publish('a', body)
    bus.subscribe('elsewhere', () => {})
    bus.publish('a', body)
    bus.publish('a', body)
    await turn()
    expect(seen).toEqual(['x', 'y', 'x'])
  })

  test('what a handler throws or rejects with is reported with its subject, even if the reporter throws', async () => {
    const errors: string[] = []
    const bus = memoryBus({
      onError: (error, subject) => {
        errors.push(`${subject}: ${(error as Error).message}`)
        throw new Error('from the reporter')
      },
    })
    bus.subscribe('a', () => {
      throw new Error('thrown')
    })
    bus.subscribe('a', () => Promise.reject(new Error('rejected')))
    bus.publish('a', body)
    await turn()
    expect(errors).toEqual(['a: thrown', 'a: rejected'])
  })

  test('an answer given in time counts, even if the timer is due before it is delivered', async () => {
    const bus = memoryBus()
    bus.subscribe('a', (question, reply) => {
      reply(question)
      const until = performance.now() + 20
      while (performance.now() < until); // the loop is busy past the deadline
    })
    expect(await bus.request('a', body, 10)).toBe(body)
  })

  test('an answer comes behind what its handler published before it', async () => {
    const bus = memoryBus()
    const seen: string[] = []
    bus.subscribe('event', () => seen.push('event'))
    bus.subscribe('a', (question, reply) => {
      bus.publish('event', question)
      reply(question)
    })
    await bus.request('a', body, 1000).then(() => seen.push('answer'))
    expect(seen).toEqual(['event', 'answer'])
  })

  test('an answer over 1 MiB is the fault of the handler, who may give another', async () => {
    const errors: unknown[] = []
    const bus = memoryBus({ onError: (error) => errors.push(error) })
    bus.subscribe('a', (question, reply) => {
      setImmediate(() => reply(question))
      reply(new Uint8Array(BODY_BYTES_MAX + 1))
    })
    expect(await bus.request('a', body, 1000)).toBe(body)
    expect(errors).toEqual([expect.any(RangeError)])
  })

  test('the timer of a request is cleared by its answer, and alone keeps no process alive', async () => {
    const bus = memoryBus()
    const [set, clear] = [vi.spyOn(globalThis, 'setTimeout'), vi.spyOn(globalThis, 'clearTimeout')]
    bus.subscribe('a', (question, reply) => reply(question))
    await bus.request('a', body, 60_000)
    const timer = set.mock.results[0]!.value as NodeJS.Timeout
    expect(timer.hasRef()).toBe(false)
    expect(clear).toHaveBeenCalledWith(timer)
    vi.restoreAllMocks()
  })

  test('what is published while it drains reaches nobody here', async () => {
    const bus = memoryBus()
    let calls = 0
    bus.subscribe('a', () => calls++)
    bus.publish('a', body)
    const drained = bus.drain()
    bus.publish('a', body)
    await drained
    expect(calls).toBe(1)
  })

  test("a queue over 256 MiB loses what comes after, says 'slow', and 'up' once it is dispatched", async () => {
    const bus = memoryBus()
    const states: BusState[] = []
    bus.status((state) => states.push(state))
    let calls = 0
    bus.subscribe('a', () => calls++)
    const large = new Uint8Array(BODY_BYTES_MAX)
    for (let n = 0; n < 257; n++) bus.publish('a', large)
    expect(states).toEqual(['up', 'slow'])
    await turn()
    expect([calls, states]).toEqual([256, ['up', 'slow', 'up']])
  })
})
