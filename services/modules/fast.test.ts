import { createHmac } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { manualClock } from '#core/clock.ts'
import type { AnyModule } from '#core/module.ts'
import { memoryTable } from '#table/memory.ts'
import { harness, type TestServer } from '#test/harness.ts'
import fast, { type IssuedToken } from './fast.ts'

const ROMEO = 'romeo@example.org'
const NONE = 'HT-SHA-256-NONE'
const DAY_MS = 86_400_000
const MODULES = [fast as AnyModule]

const hash = (token: string, who: string, binding = '') =>
  createHmac('sha256', token).update(who).update(Buffer.from(binding, 'base64')).digest('base64')

async function issue(server: TestServer, client = 'phone', mechanism = NONE): Promise<IssuedToken> {
  return (await server.caller.ask('router', ROMEO, 'fast.issue', { client, mechanism }))!
}

interface Shown {
  readonly client?: string
  readonly mechanism?: string
  readonly binding?: string
  readonly shownBinding?: string
  readonly invalidate?: boolean
}

function verify(server: TestServer, { token }: IssuedToken, shown: Shown = {}) {
  const { client = 'phone', mechanism = NONE, binding = '', shownBinding = binding, invalidate = false } = shown
  const proof = hash(token, 'Initiator', shownBinding)
  return server.caller.ask('router', ROMEO, 'fast.verify', { client, mechanism, proof, binding, invalidate })
}

describe('XEP-0484 §3.3, §3.4 a token', () => {
  test('is good again and again, for its client, and the server shows that it knows it', async () => {
    await using server = await harness(MODULES)
    await server.account(ROMEO)
    const token = await issue(server)
    expect(Buffer.from(token.token, 'base64url')).toHaveLength(32)
    for (let n = 0; n < 2; n++)
      expect(await verify(server, token)).toEqual({ data: hash(token.token, 'Responder'), generation: 0 })
    expect(await verify(server, token, { client: 'tablet' })).toBeNull()
    expect(await verify(server, { ...token, token: 'another' })).toBeNull()
  })

  test('holds for the mechanism that it was asked for, and for this connection', async () => {
    await using server = await harness(MODULES)
    await server.account(ROMEO)
    const token = await issue(server, 'phone', 'HT-SHA-256-EXPR')
    const binding = Buffer.from('of this TLS').toString('base64')
    const bound = { mechanism: 'HT-SHA-256-EXPR', binding }
    expect(await verify(server, token, bound)).toMatchObject({ data: hash(token.token, 'Responder', binding) })
    expect(await verify(server, token, { ...bound, shownBinding: Buffer.from('of another').toString('base64') })).toBeNull()
    expect(await verify(server, token)).toBeNull()
  })

  test('is there after a restart, and gone with the account', async () => {
    const table = memoryTable()
    const server = await harness(MODULES, { table })
    await server.account(ROMEO)
    const token = await issue(server)
    await server.quiet()
    await server.stop()
    await using again = await harness(MODULES, { table })
    expect(await verify(again, token)).toMatchObject({ generation: 0 })
    await again.caller.ask('router', ROMEO, 'account.remove', {})
    await again.quiet()
    expect(await verify(again, token)).toBeNull()
    expect(await again.caller.ask('router', ROMEO, 'fast.issue', { client: 'phone', mechanism: NONE })).toBeNull()
    await again.account(ROMEO)
    expect(await verify(again, token)).toBeNull()
  })

  test('of a disabled account says so', async () => {
    await using server = await harness(MODULES)
    await server.account(ROMEO)
    const token = await issue(server)
    await server.caller.ask('router', ROMEO, 'account.disable', { reason: 'unpaid' })
    expect(await verify(server, token)).toMatchObject({ disabled: 'unpaid' })
  })

  test('does not outlive the password', async () => {
    await using server = await harness(MODULES)
    await server.account(ROMEO)
    const token = await issue(server)
    await server.caller.ask('router', ROMEO, 'account.password', { password: 'another one' })
    expect(await verify(server, token)).toBeNull()
    expect(await verify(server, await issue(server))).toMatchObject({ generation: 1 })
  })

  test('expires', async () => {
    const clock = manualClock()
    await using server = await harness(MODULES, { clock, modules: { fast: { tokenDays: 2 } } })
    await server.account(ROMEO)
    const token = await issue(server)
    expect(Date.parse(token.expiry)).toBe(Math.floor((clock.now() + 2 * DAY_MS) / 1_000) * 1_000)
    clock.advance(2 * DAY_MS)
    expect(await verify(server, token)).toBe('expired')
  })
})

describe('XEP-0484 §3.5, §5.1 rotation', () => {
  test('a token that is a day old comes with another; both are good until the other is used', async () => {
    const clock = manualClock()
    await using server = await harness(MODULES, { clock })
    await server.account(ROMEO)
    const first = await issue(server)
    expect(await verify(server, first)).not.toHaveProperty('next')
    clock.advance(DAY_MS)
    const verdict = (await verify(server, first)) as { next: IssuedToken }
    expect(verdict.next.token).not.toBe(first.token)
    const again = (await verify(server, first)) as { next: IssuedToken } // the client never got the other
    expect(await verify(server, verdict.next)).toBeNull() // §3.5: what was not used is void once there is another
    expect(await verify(server, again.next)).toMatchObject({ generation: 0 })
    expect(await verify(server, first)).toBeNull()
  })

  test('a client that asks for another keeps the one it has until it uses the other', async () => {
    await using server = await harness(MODULES)
    await server.account(ROMEO)
    const first = await issue(server)
    await verify(server, first)
    const second = await issue(server)
    expect(await verify(server, first)).toMatchObject({ generation: 0 })
    expect(await verify(server, second)).toMatchObject({ generation: 0 })
    expect(await verify(server, first)).toBeNull()
  })

  test('an account has tokens of fifty clients, and forgets the oldest', async () => {
    const clock = manualClock()
    await using server = await harness(MODULES, { clock })
    await server.account(ROMEO)
    const tokens: IssuedToken[] = []
    for (let n = 0; n < 52; n++) {
      tokens.push(await issue(server, `client ${n}`))
      clock.advance(1_000)
    }
    expect(await verify(server, tokens[0]!, { client: 'client 0' })).toBeNull()
    expect(await verify(server, tokens[51]!, { client: 'client 51' })).toMatchObject({ generation: 0 })
  })
})

describe('XEP-0484 §3.6 invalidation', () => {
  test('a client that has shown its token may have it void from then on', async () => {
    await using server = await harness(MODULES)
    await server.account(ROMEO)
    const token = await issue(server)
    expect(await verify(server, { ...token, token: 'wrong' }, { invalidate: true })).toBeNull()
    expect(await verify(server, token, { invalidate: true })).toEqual({ data: hash(token.token, 'Responder'), generation: 0 })
    expect(await verify(server, token)).toBeNull()
  })
})
