import { describe, expect, test } from 'vitest'
import { manualClock } from '#core/clock.ts'
import { memoryTable } from '#table/memory.ts'
import { give, given } from '#test/commands.ts'
import { type HarnessOptions, harness } from '#test/harness.ts'
import { values } from '#xmpp/form.ts'
import administration from './administration.ts'
import commands from './commands.ts'
import disco from './disco.ts'
import standing from './standing-messages.ts'

const node = (name: string) => `http://jabber.org/protocol/admin#${name}`

async function serve(options: HarnessOptions = {}) {
  const config = { admins: ['bard@example.org', 'kit@example.net'], domains: ['example.org', 'example.net'] }
  const server = await harness([disco, commands, administration, standing], { ...options, config })
  return { server, bard: await server.online('bard@example.org/globe'), [Symbol.asyncDispose]: () => server.stop() }
}

describe('XEP-0133 §4.24 Set Message of the Day', () => {
  test('who is online gets it at once, and others once, when they come', async () => {
    await using place = await serve()
    const { server, bard } = place
    const juliet = await server.online('juliet@example.org/balcony')
    await server.account('romeo@example.org')
    const { note } = await given(bard, node('set-motd'), { motd: ['Tea', 'at five'] })
    expect(note).toMatch(/^2 users/)
    await server.quiet()
    expect(juliet.bodies()).toEqual(['Tea\nat five'])
    juliet.disconnect()
    expect((await server.online('juliet@example.org/balcony')).bodies()).toEqual([])
    const romeo = await server.online('romeo@example.org/garden')
    expect(romeo.bodies()).toEqual(['Tea\nat five'])
    expect((await server.online('romeo@example.org/phone')).bodies()).toEqual([])
    romeo.available(1) // nor with the next presence
    await server.quiet()
    expect(romeo.bodies()).toHaveLength(1)
  })

  test('it holds for its own domain', async () => {
    await using place = await serve()
    const othello = await place.server.online('othello@example.net/venice')
    await given(place.bard, node('set-motd'), { motd: ['Tea'] })
    await place.server.quiet()
    expect(othello.bodies()).toEqual([])
    expect((await place.server.online('iago@example.net/venice')).bodies()).toEqual([])
    expect(await give(place.bard, node('set-motd'), { motd: ['Tea'] }, 'example.net')).toMatchObject({ condition: 'forbidden' })
  })

  test('a session of negative priority does not take it', async () => {
    await using place = await serve()
    await given(place.bard, node('set-motd'), { motd: ['Tea'] })
    const bot = await place.server.online('romeo@example.org/bot', -1)
    expect(bot.bodies()).toEqual([])
    expect((await place.server.online('romeo@example.org/garden')).bodies()).toEqual(['Tea'])
  })

  test('it outlives the server, and what was told is not told again', async () => {
    const table = memoryTable()
    {
      await using place = await serve({ table })
      await given(place.bard, node('set-motd'), { motd: ['Tea'] })
      await place.server.online('romeo@example.org/garden')
    }
    await using place = await serve({ table })
    expect((await place.server.online('romeo@example.org/garden')).bodies()).toEqual([])
    expect(place.bard.bodies()).toEqual([])
    expect((await place.server.online('juliet@example.org/balcony')).bodies()).toEqual(['Tea'])
  })

  test('one that another process has set is heard of within a minute', async () => {
    const clock = manualClock()
    const table = memoryTable()
    await using place = await serve({ clock, table })
    await place.server.online('juliet@example.org/balcony') // read: there is none
    const value = Buffer.from(JSON.stringify({ motd: { id: 'elsewhere', text: 'Tea' }, welcome: null }))
    await table.put({ pk: 'a#example.org', sk: 'standing-messages', version: 'v', value })
    clock.advance(61_000)
    expect((await place.server.online('romeo@example.org/garden')).bodies()).toEqual(['Tea'])
  })
})

describe('XEP-0133 §4.25, §4.26 Edit and Delete Message of the Day', () => {
  test('the form shows the one that is set; who has got it does not get the corrected one', async () => {
    await using place = await serve()
    const { server, bard } = place
    await given(bard, node('set-motd'), { motd: ['Tee', 'at five'] })
    const romeo = await server.online('romeo@example.org/garden')
    const { offered } = await given(bard, node('edit-motd'), { motd: ['Tea', 'at five'] })
    expect(values(offered!, 'motd')).toEqual(['Tee', 'at five'])
    romeo.disconnect()
    expect((await server.online('romeo@example.org/garden')).bodies()).toEqual([])
    expect((await server.online('juliet@example.org/balcony')).bodies()).toEqual(['Tea\nat five'])
  })

  test('one that is deleted is told nobody', async () => {
    await using place = await serve()
    await given(place.bard, node('set-motd'), { motd: ['Tea'] })
    await given(place.bard, node('delete-motd'))
    expect((await place.server.online('romeo@example.org/garden')).bodies()).toEqual([])
    expect(values((await given(place.bard, node('edit-motd'), { motd: ['x'] })).offered!, 'motd')).toEqual([])
  })
})

describe('XEP-0133 §4.27, §4.28 Set and Delete Welcome Message', () => {
  test('whoever is new gets it the first time he comes; who was here before does not', async () => {
    const clock = manualClock(1_000_000)
    await using place = await serve({ clock })
    const { server, bard } = place
    await server.account('romeo@example.org')
    clock.advance(1_000)
    await given(bard, node('set-welcome'), { welcome: ['Welcome', 'to the Globe'] })
    clock.advance(1_000)
    expect((await server.online('romeo@example.org/garden')).bodies()).toEqual([])
    const juliet = await server.online('juliet@example.org/balcony')
    expect(juliet.bodies()).toEqual(['Welcome\nto the Globe'])
    juliet.disconnect()
    expect((await server.online('juliet@example.org/balcony')).bodies()).toEqual([])
  })

  test('the form shows the one that is set, and one that is deleted is told nobody', async () => {
    await using place = await serve()
    await given(place.bard, node('set-welcome'), { welcome: ['Hail'] })
    const { offered } = await given(place.bard, node('set-welcome'), { welcome: ['Welcome'] })
    expect(values(offered!, 'welcome')).toEqual(['Hail'])
    await given(place.bard, node('delete-welcome'))
    expect((await place.server.online('juliet@example.org/balcony')).bodies()).toEqual([])
  })

  test('a name that is taken again is new', async () => {
    await using place = await serve()
    await given(place.bard, node('set-welcome'), { welcome: ['Welcome'] })
    expect((await place.server.online('juliet@example.org/balcony')).bodies()).toEqual(['Welcome'])
    await given(place.bard, node('delete-user'), { accountjids: ['juliet@example.org'] })
    await place.server.quiet()
    expect((await place.server.online('juliet@example.org/balcony')).bodies()).toEqual(['Welcome'])
  })
})
