import { afterEach, describe, expect, test } from 'vitest'
import { type ManualClock, manualClock } from '#core/clock.ts'
import { loadConfig } from '#core/settings/config.ts'
import {
  bind,
  connect,
  type FakeConnection,
  header,
  makeAccount,
  type ProcessOptions,
  settled,
  startRoles,
  testProcess,
} from '../edge.fixture.ts'
import { openEdge } from '../main.ts'
import { Debtors, type Pace, pacesOf, Rate } from './rate.ts'

/** A byte a millisecond and ten at once; a stanza a second and three at once. */
const PACE: Pace = { byteMs: 1, bytesBurstMs: 10, stanzaMs: 1_000, stanzasBurstMs: 3_000, peakByteMs: 0, peakBurstMs: 0 }

function limitsOf(limits: Record<string, number> = {}) {
  return loadConfig({ text: JSON.stringify({ limits }), env: {} }).config.limits
}

describe('a bucket', () => {
  test('is as deep as the burst, and owes what is taken beyond it', () => {
    const rate = new Rate(PACE)
    expect([rate.take(10, 500), rate.take(5, 500)]).toEqual([0, 5])
  })

  test('fills again at its rate, and not beyond its depth', () => {
    const rate = new Rate(PACE)
    rate.take(15, 0)
    expect(rate.take(0, 5)).toBe(0)
    expect(rate.take(4, 5)).toBe(4)
    expect(rate.take(10, 1_000_000)).toBe(0)
    expect(rate.take(1, 1_000_000)).toBe(1)
  })

  test('counts stanzas beside bytes: the longer wait is owed', () => {
    const rate = new Rate(PACE)
    rate.stanzas = 4
    expect(rate.take(5, 0)).toBe(1_000)
    expect([rate.stanzas, rate.take(0, 0)]).toEqual([0, 1_000])
    expect(rate.take(2_010, 0)).toBe(2_005)
  })

  test('of price 0 is never empty', () => {
    const rate = new Rate({ byteMs: 0, bytesBurstMs: 0, stanzaMs: 0, stanzasBurstMs: 0, peakByteMs: 0, peakBurstMs: 0 })
    rate.stanzas = 1_000_000
    expect(rate.take(1e9, 1)).toBe(0)
  })

  test('is full when the pace changes', () => {
    const rate = new Rate(PACE)
    rate.take(1_000, 0)
    rate.change(PACE)
    expect(rate.take(10, 0)).toBe(0)
  })

  test('in the long run no more comes than its rate and its burst, however it is cut', () => {
    const rate = new Rate(PACE)
    let [nowMs, read] = [0, 0]
    for (let i = 0; nowMs < 10_000; i++) {
      const bytes = (i * 7) % 23
      read += bytes
      nowMs += rate.take(bytes, nowMs)
    }
    expect(read).toBeGreaterThan(10_000)
    expect(read).toBeLessThan(10_000 + 10 + 23 + 23)
  })
})

describe('streams that send much at once', () => {
  const KIB = 1024
  const { session } = pacesOf(limitsOf())

  test('are read from less than each could be alone', () => {
    const { session } = pacesOf(limitsOf())
    const rates = Array.from({ length: 40 }, () => new Rate(session))
    let read = 0
    for (let round = 0; round < 4; round++) {
      for (const rate of rates) {
        if (rate.take(0, 0) > 0) continue
        rate.take(64 * KIB, 0)
        read += 64 * KIB
      }
    }
    expect(read).toBeLessThan(40 * 64 * KIB + KIB * KIB) // and not 256 KiB of each
  })

  test('owe their share for as long as it takes, and no longer', () => {
    const { session } = pacesOf(limitsOf())
    const [one, other] = [new Rate(session), new Rate(session)]
    for (let n = 0; n < 4; n++) one.take(64 * KIB, 0) // as much as it may send at once
    const crowd = Array.from({ length: 14 }, () => new Rate(session))
    for (const rate of crowd) rate.take(64 * KIB, 0)
    expect(other.take(64 * KIB, 0)).toBeGreaterThan(0)
    expect(other.take(64 * KIB, 1_000)).toBe(0)
  })

  test('leave alone who sends little', () => {
    for (let n = 0; n < 100; n++) new Rate(session).take(64 * KIB, 0)
    const quiet = new Rate(session)
    for (let n = 0; n < 30; n++) expect(quiet.take(1_000, 0)).toBe(0)
  })

  test('without a bound on bytes there is none on all of them', () => {
    const { session } = pacesOf(limitsOf({ bytesPerSecond: 0 }))
    for (let n = 0; n < 100; n++) expect(new Rate(session).take(256 * KIB, 0)).toBe(0)
  })
})

describe('the defaults', () => {
  const { beforeLogin, session } = pacesOf(limitsOf())

  test.each([
    ['what a client says as it logs in: a roster of 1000 asked for, rooms joined, an archive paged through', 40_000, 400],
    ['1000 contacts added at once', 200_000, 1_000],
    ['several hundred messages at once', 200_000, 600],
  ])('let through %s', (_what, bytes, stanzas) => {
    const rate = new Rate(session)
    rate.stanzas = stanzas
    expect(rate.take(bytes, 0)).toBe(0)
  })

  test('let through 500 stanzas a second of 500 bytes for ever', () => {
    const rate = new Rate(session)
    let owedMs = 0
    for (let second = 0; second < 600; second++) {
      rate.stanzas = 500
      owedMs += rate.take(250_000, second * 1_000)
    }
    expect(owedMs).toBe(0)
  })

  test('let through a login by SCRAM after a registration, and not a stanza of full size a second', () => {
    const rate = new Rate(beforeLogin)
    rate.stanzas = 8
    expect(rate.take(5_000, 0)).toBe(0)
    expect(rate.take(60_000, 0)).toBeGreaterThan(10_000)
  })

  test('a burst is read in pieces, within a second', () => {
    const rate = new Rate(pacesOf(limitsOf()).session)
    let [nowMs, owedMs] = [0, 0]
    for (let read = 0; read < 1024 * 1024; read += 65_536) {
      owedMs = rate.take(65_536, nowMs)
      expect(owedMs).toBeLessThan(20)
      nowMs += owedMs
    }
    expect(nowMs).toBeGreaterThan(100)
    expect(nowMs).toBeLessThan(1_000)
  })

  test('0 is no bound', () => {
    const off = { bytesPerSecond: 0, stanzasPerSecond: 0, bytesPerSecondBeforeLogin: 0 }
    for (const pace of Object.values(pacesOf(limitsOf(off)))) {
      const rate = new Rate(pace)
      rate.stanzas = 1e6
      expect(rate.take(1e9, 0)).toBe(0)
    }
  })
})

describe('those that owe', () => {
  function setUp() {
    const clock = manualClock()
    const resumed: string[] = []
    return { clock, resumed, debtors: new Debtors(clock), stream: (name: string) => ({ resume: () => void resumed.push(name) }) }
  }

  test('are resumed when their time is over, by one timer for all', () => {
    const { clock, resumed, debtors, stream } = setUp()
    debtors.add(stream('long'), 1_000)
    debtors.add(stream('short'), 120)
    expect(clock.pending()).toBe(1)
    clock.advance(119)
    expect(resumed).toEqual([])
    clock.advance(100)
    expect(resumed).toEqual(['short'])
    clock.advance(1_000)
    expect([resumed, debtors.size, clock.pending()]).toEqual([['short', 'long'], 0, 0])
  })

  test('one that owes twice is resumed once, at the later moment', () => {
    const { clock, resumed, debtors, stream } = setUp()
    const one = stream('one')
    expect([debtors.add(one, 100), debtors.add(one, 300), debtors.add(one, 50)]).toEqual([true, false, false])
    clock.advance(290)
    expect(resumed).toEqual([])
    clock.advance(100)
    expect(resumed).toEqual(['one'])
  })

  test('that are many are resumed a few at a time, so that others have their turn in between', () => {
    const { clock, resumed, debtors, stream } = setUp()
    const names = Array.from({ length: 40 }, (_, n) => `s${n}`)
    for (const name of names) debtors.add(stream(name), 10)
    clock.advance(50)
    expect(resumed.length).toBeLessThanOrEqual(4)
    expect(clock.pending()).toBe(1)
    clock.advance(20)
    expect([resumed, debtors.size, clock.pending()]).toEqual([names, 0, 0])
  })

  test('one that owes again as it is resumed waits again', () => {
    const { clock, debtors } = setUp()
    let times = 0
    const greedy = { resume: () => void (++times < 3 && debtors.add(greedy, 10)) }
    debtors.add(greedy, 10)
    clock.advance(50)
    expect(times).toBe(1)
    clock.advance(1_000)
    expect([times, clock.pending()]).toEqual([3, 0])
  })
})

describe('a stream over its rate', () => {
  const stops: (() => Promise<void>)[] = []
  afterEach(async () => {
    for (const stop of stops.splice(0).reverse()) await stop()
  })

  async function start(
    limits: Record<string, number>,
  ): Promise<{ clock: ManualClock; open: () => FakeConnection; logIn: () => Promise<FakeConnection> }> {
    const clock = manualClock()
    const options: ProcessOptions = { clock, config: { limits } }
    const process = testProcess(options)
    stops.push(await startRoles(process))
    await makeAccount(process, 'romeo@example.org')
    const { onConnection, close } = openEdge(process)
    stops.push(close)
    const open = (): FakeConnection => connect(onConnection)
    return {
      clock,
      open,
      async logIn() {
        const connection = open()
        await connection.logIn('romeo@example.org', 'garden')
        return connection
      },
    }
  }

  const pings = (count: number): string =>
    Array.from({ length: count }, (_, i) => `<iq type='get' id='p${i}'><query xmlns='urn:nobody'/></iq>`).join('')
  const answers = (connection: FakeConnection): number => connection.take().split("type='error'").length - 1

  test('is not read from until it has paid, and then answered as any other', async () => {
    const { clock, logIn } = await start({ stanzasPerSecond: 10, stanzasBurst: 100 })
    const romeo = await logIn()
    romeo.send(pings(50))
    await settled()
    expect([romeo.paused, answers(romeo)]).toEqual([false, 50])
    romeo.send(pings(60))
    await settled()
    expect([romeo.paused, answers(romeo)]).toEqual([true, 60]) // what has been read is not held back
    romeo.send(pings(1))
    clock.advance(900)
    await settled()
    expect([romeo.paused, answers(romeo)]).toEqual([true, 0])
    clock.advance(300)
    await settled()
    expect(answers(romeo)).toBe(1)
  })

  test('what its connection brings all the same is held, and keeps its place', async () => {
    const { clock, logIn } = await start({ bytesPerSecond: 65_536, bytesBurst: 65_536 })
    const romeo = await logIn()
    romeo.send(' '.repeat(65_536 * 2))
    expect(romeo.paused).toBe(true)
    romeo.events.data(Buffer.from(pings(1)))
    await settled()
    expect(answers(romeo)).toBe(0)
    clock.advance(1_100)
    await settled()
    expect([romeo.paused, answers(romeo)]).toEqual([false, 1])
  })

  test('before the login the bucket is small', async () => {
    const { clock, open } = await start({})
    const connection = open()
    connection.send(header())
    connection.send(' '.repeat(24_096))
    expect(connection.paused).toBe(true)
    clock.advance(1_500)
    expect(connection.paused).toBe(false)
  })

  test('one that has ended is not paused: its peer’s close must be seen', async () => {
    const { open } = await start({})
    const connection = open()
    connection.send(`${header()}${bind()}${' '.repeat(100_000)}`)
    expect([connection.ended, connection.paused]).toEqual([true, false])
  })
})
