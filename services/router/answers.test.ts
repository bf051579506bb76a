import { describe, expect, test } from 'vitest'
import { defineModule } from '#core/module.ts'
import offline from '#modules/offline.ts'
import { harness, type TestServer } from '#test/harness.ts'

const ROMEO = 'romeo@example.org'
const ask = (server: TestServer, name: 'account.disable' | 'account.enable', fields: { reason?: string } = {}) =>
  server.caller.ask('router', ROMEO, name, fields)

describe('account.credentials', () => {
  test('tells the keys of the hash that is named, or all', async () => {
    await using server = await harness([])
    await server.account(ROMEO)
    const hashes = async (fields: { hash?: 'SHA-512' }) => {
      const told = await server.caller.ask('router', ROMEO, 'account.credentials', fields)
      return [Object.keys(told!.scram).sort(), told!.disabled]
    }
    expect(await hashes({ hash: 'SHA-512' })).toEqual([['SHA-512'], undefined])
    expect(await hashes({})).toEqual([['SHA-1', 'SHA-256', 'SHA-512'], undefined])
  })
})

describe('an account that is disabled', () => {
  test('loses its sessions with not-authorized and the reason, and binds none', async () => {
    await using server = await harness([])
    const [orchard, phone] = [await server.online(`${ROMEO}/orchard`), await server.connect(`${ROMEO}/phone`)]
    const juliet = await server.online('juliet@example.org/balcony')
    await ask(server, 'account.disable', { reason: 'spam' })
    await server.quiet()
    expect([orchard.closed, phone.closed]).toEqual(Array(2).fill({ condition: 'not-authorized', text: 'spam' }))
    expect(juliet.closed).toBeUndefined()
    await expect(server.bind(`${ROMEO}/orchard`)).rejects.toMatchObject({ condition: 'not-allowed' })
  })

  test('without a reason its sessions are told what has happened', async () => {
    await using server = await harness([])
    const romeo = await server.online(`${ROMEO}/orchard`)
    await ask(server, 'account.disable')
    await server.quiet()
    expect(romeo.closed).toEqual({ condition: 'not-authorized', text: 'the account is disabled' })
  })

  test('keeps what comes for it, and has it when it is enabled again', async () => {
    await using server = await harness([offline])
    await server.online(`${ROMEO}/orchard`)
    const juliet = await server.online('juliet@example.org/balcony')
    await ask(server, 'account.disable')
    await server.quiet()
    juliet.message(ROMEO, 'where are you?')
    await server.quiet()
    expect(juliet.received.filter(({ type }) => type === 'error')).toEqual([])
    await ask(server, 'account.enable')
    expect((await server.online(`${ROMEO}/orchard`)).bodies()).toEqual(['where are you?'])
  })

  test('is told of with its credentials, and enabled it is not', async () => {
    await using server = await harness([])
    await server.account(ROMEO)
    const disabled = async () => (await server.caller.ask('router', ROMEO, 'account.credentials', { hash: 'SHA-1' }))!.disabled
    await ask(server, 'account.disable', { reason: 'spam' })
    expect(await disabled()).toBe('spam')
    await ask(server, 'account.enable')
    expect(await disabled()).toBeUndefined()
  })
})

describe('account.password', () => {
  test('ends every session of the account, and tells modules', async () => {
    const seen: unknown[] = []
    const listening = defineModule({
      name: 'listening',
      home: 'router',
      xeps: [],
      setup(app) {
        app.on('account.credentials-changed', ({ account, except }) => void seen.push([app.role, account.bare, except]))
      },
    })
    await using server = await harness([listening])
    const romeo = [await server.online(`${ROMEO}/orchard`), await server.connect(`${ROMEO}/phone`)]
    await server.caller.ask('router', ROMEO, 'account.password', { password: 'another' })
    await server.quiet()
    expect(romeo.map(({ closed }) => closed)).toEqual(
      Array(2).fill({ condition: 'not-authorized', text: 'the password was changed' }),
    )
    expect(seen).toEqual([['router', ROMEO, undefined]])
  })

  test('counts the changes, so that a login by the old one binds nothing', async () => {
    await using server = await harness([])
    await server.account(ROMEO)
    const generation = async () => (await server.caller.ask('router', ROMEO, 'account.credentials', {}))!.generation
    expect(await generation()).toBeUndefined()
    for (const expected of [1, 2]) {
      await server.caller.ask('router', ROMEO, 'account.password', { password: `number ${expected}` })
      expect(await generation()).toBe(expected)
    }
    const bind = (generation: number) =>
      server.caller.ask('router', ROMEO, 'session.bind', { edge: 'e', session: `s${generation}`, resource: '', generation })
    await expect(bind(0)).rejects.toMatchObject({ condition: 'not-authorized' })
    await expect(bind(1)).rejects.toMatchObject({ condition: 'not-authorized' })
    expect(await bind(2)).toMatch(/^romeo@example\.org\//)
  })

  test('that nobody may have ends none', async () => {
    await using server = await harness([])
    const romeo = await server.online(`${ROMEO}/orchard`)
    await expect(server.caller.ask('router', ROMEO, 'account.password', { password: '\u0000' })).rejects.toMatchObject({
      condition: 'not-acceptable',
    })
    await server.quiet()
    expect(romeo.closed).toBeUndefined()
  })
})
