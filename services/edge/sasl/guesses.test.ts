import { describe, expect, test } from 'vitest'
import { manualClock } from '#core/clock.ts'
import { deriveCredentials } from '#core/storage/scram-keys.ts'
import { COUNTS_MAX, DELAY_MS_MAX, DELAY_STEP_MS, Guesses, type GuessLimits } from './guesses.ts'
import type { SaslServer } from './mechanism.ts'
import { authOf, begin, bytes, NO_GUESS_LIMITS, ScramClient, scramLogin, serverOf } from './sasl.fixture.ts'

const ROMEO = 'romeo@example.org'
const auth = authOf({ romeo: { credentials: await deriveCredentials('pencil', 10) } })
const REFUSED = { kind: 'failure', condition: 'temporary-auth-failure', text: 'too many failed logins; try again later' }
const WRONG = { kind: 'failure', condition: 'not-authorized' }

function setUp(limits: Partial<GuessLimits>) {
  const clock = manualClock()
  const guesses = new Guesses({ ...NO_GUESS_LIMITS, ...limits }, clock)
  const from = (address: string): SaslServer => serverOf(auth, { attempt: (account) => guesses.attempt(account, address) })
  const plain = (address: string, name = 'romeo', password = 'wrong') =>
    begin('PLAIN', from(address)).start(bytes(`\0${name}\0${password}`))
  const scram = (address: string, password: string) =>
    scramLogin('SCRAM-SHA-256', new ScramClient('SHA-256', 'romeo', password), from(address))
  const fail = (address: string, account = ROMEO) => guesses.attempt(account, address).failed()
  const refused = (address: string, account = ROMEO) => guesses.attempt(account, address).refused
  return { clock, guesses, from, plain, scram, fail, refused }
}

describe('one account from one address', () => {
  const PAIR = { loginFailuresPerAccountAndAddress: 3 }

  test('after so many wrong passwords the right one is refused too, and from elsewhere it logs in', async () => {
    const { plain, scram } = setUp(PAIR)
    expect(await plain('192.0.2.1')).toEqual(WRONG)
    expect(await scram('192.0.2.1', 'wrong')).toEqual(WRONG)
    expect(await plain('192.0.2.1')).toEqual(WRONG)
    expect(await plain('192.0.2.1', 'romeo', 'pencil')).toEqual(REFUSED)
    expect(await scram('192.0.2.1', 'pencil')).toEqual(REFUSED)
    expect(await plain('192.0.2.2', 'romeo', 'pencil')).toMatchObject({ kind: 'success' })
    expect(await scram('192.0.2.2', 'pencil')).toMatchObject({ kind: 'success' })
  })

  test('an account that does not exist is counted and refused in the same way', async () => {
    const { plain } = setUp(PAIR)
    for (let i = 0; i < 3; i++) expect(await plain('192.0.2.1', 'nobody')).toEqual(WRONG)
    expect(await plain('192.0.2.1', 'nobody')).toEqual(REFUSED)
    expect(await plain('192.0.2.1', 'romeo', 'pencil')).toMatchObject({ kind: 'success' })
  })

  test('the window begins with the first of them, and when it is over all is forgotten', async () => {
    const { plain, clock } = setUp(PAIR)
    await plain('192.0.2.1')
    clock.advance(59_999)
    await plain('192.0.2.1')
    await plain('192.0.2.1')
    expect(await plain('192.0.2.1', 'romeo', 'pencil')).toEqual(REFUSED)
    clock.advance(1)
    expect(await plain('192.0.2.1', 'romeo', 'pencil')).toMatchObject({ kind: 'success' })
  })

  test('the right password forgets the wrong ones before it', async () => {
    const { plain, scram, refused } = setUp(PAIR)
    for (const right of [() => plain('192.0.2.1', 'romeo', 'pencil'), () => scram('192.0.2.1', 'pencil')]) {
      await plain('192.0.2.1')
      await plain('192.0.2.1')
      expect(await right()).toMatchObject({ kind: 'success' })
    }
    expect(refused('192.0.2.1')).toBe(false)
  })

  test('many at once gain nothing: of all that have passed the first look, no more than the bound are judged', async () => {
    const { plain, from } = setUp(PAIR)
    const steps = await Promise.all(Array.from({ length: 20 }, () => plain('192.0.2.1')))
    expect(steps.filter((step) => step.kind === 'failure' && step.condition === 'not-authorized')).toHaveLength(3)
    const challenged = Array.from({ length: 20 }, () => ({
      client: new ScramClient('SHA-1', 'romeo', 'wrong'),
      exchange: begin('SCRAM-SHA-1', from('192.0.2.9')),
    }))
    const finals: Buffer[] = []
    for (const { client, exchange } of challenged) {
      const step = await exchange.start(client.first())
      finals.push(client.final(step.kind === 'challenge' ? Buffer.from(step.data).toString() : ''))
    }
    const ends = challenged.map(({ exchange }, i) => exchange.respond(finals[i]!))
    expect(ends.filter((step) => 'condition' in step && step.condition === 'not-authorized')).toHaveLength(3)
  })

  test('of IPv6 the first 64 bits are the address, and an IPv4 address in IPv6 is itself', () => {
    const { fail, refused } = setUp(PAIR)
    for (const address of ['2001:db8::1', '2001:db8::2', '2001:db8:0:0:1::3']) fail(address)
    expect([refused('2001:db8::4'), refused('2001:db8:0:1::4')]).toEqual([true, false])
    for (const address of ['192.0.2.1', '::ffff:192.0.2.1', '192.0.2.1']) fail(address)
    expect([refused('::ffff:192.0.2.1'), refused('192.0.2.2')]).toEqual([true, false])
  })
})

describe('one address, whatever the account', () => {
  test('is refused once it has failed so often', async () => {
    const { plain } = setUp({ loginFailuresPerAddress: 5 })
    for (let i = 0; i < 5; i++) expect(await plain('192.0.2.1', `user${i}`)).toEqual(WRONG)
    expect(await plain('192.0.2.1', 'romeo', 'pencil')).toEqual(REFUSED)
    expect(await plain('192.0.2.2', 'romeo', 'pencil')).toMatchObject({ kind: 'success' })
  })

  test('a right password of one’s own does not make up for guesses at others', async () => {
    const { plain } = setUp({ loginFailuresPerAddress: 5 })
    for (let i = 0; i < 4; i++) await plain('192.0.2.1', `user${i}`)
    expect(await plain('192.0.2.1', 'romeo', 'pencil')).toMatchObject({ kind: 'success' })
    await plain('192.0.2.1', 'user4')
    expect(await plain('192.0.2.1', 'romeo', 'pencil')).toEqual(REFUSED)
  })
})

describe('one account, whatever the address', () => {
  const LIMITS = { loginFailuresPerAccount: 2 }

  test.each([
    [1, 0],
    [2, DELAY_STEP_MS],
    [3, DELAY_STEP_MS],
    [4, 2 * DELAY_STEP_MS],
    [100, DELAY_MS_MAX],
  ])('after %i failures from as many addresses the right password waits %i ms, and logs in', async (failures, waitMs) => {
    const { fail, plain, clock } = setUp(LIMITS)
    for (let i = 0; i < failures; i++) fail(`192.0.2.${i}`)
    let done = false
    const login = Promise.resolve(plain('198.51.100.1', 'romeo', 'pencil')).then((step) => {
      done = true
      return step
    })
    if (waitMs > 0) {
      await clock.settle(waitMs - 1)
      expect(done).toBe(false)
      await clock.settle(1)
    }
    expect(await login).toMatchObject({ kind: 'success' })
  })

  test('SCRAM waits before its challenge', async () => {
    const { fail, scram, clock } = setUp(LIMITS)
    for (let i = 0; i < 2; i++) fail(`192.0.2.${i}`)
    const login = scram('198.51.100.1', 'pencil')
    await clock.settle(0)
    expect(clock.pending()).toBe(1)
    await clock.settle(DELAY_STEP_MS)
    expect(await login).toMatchObject({ kind: 'success' })
  })

  test('other accounts do not wait', async () => {
    const { fail, guesses } = setUp(LIMITS)
    for (let i = 0; i < 10; i++) fail(`192.0.2.${i}`)
    expect(guesses.attempt('juliet@example.org', '192.0.2.1').wait()).toBeUndefined()
  })
})

test('0 is no bound', async () => {
  const { plain, fail, guesses } = setUp({})
  for (let i = 0; i < 1000; i++) fail('192.0.2.1')
  expect(guesses.attempt(ROMEO, '192.0.2.1').wait()).toBeUndefined()
  expect(await plain('192.0.2.1', 'romeo', 'pencil')).toMatchObject({ kind: 'success' })
})

test('long names are counted apart', () => {
  const { fail, refused } = setUp({ loginFailuresPerAccountAndAddress: 1 })
  const [one, other] = [`${'x'.repeat(1000)}a@example.org`, `${'x'.repeat(1000)}b@example.org`]
  fail('192.0.2.1', one)
  expect([refused('192.0.2.1', one), refused('192.0.2.1', other)]).toEqual([true, false])
})

test('of too many the one quiet for longest is forgotten, and no other', () => {
  const { fail, refused } = setUp({ loginFailuresPerAccountAndAddress: 2 })
  fail('192.0.2.1')
  fail('192.0.2.2')
  fail('192.0.2.1') // heard of again
  for (let i = 2; i <= COUNTS_MAX; i++) fail('192.0.2.3', `user${i}@example.org`)
  expect(refused('192.0.2.1')).toBe(true)
  fail('192.0.2.2')
  expect(refused('192.0.2.2')).toBe(false)
})
