import { describe, expect, test } from 'vitest'
import { type OwnersListener, partitionOf } from '#core/ownership/ownership.ts'
import { eventually, settled } from '../edge.fixture.ts'
import { managed, startPuppets } from '../puppets.fixture.ts'
import { Refreshing } from './refresh.ts'

const [ROMEO, JULIET, NURSE] = ['romeo@example.org', 'juliet@example.org', 'nurse@example.org']

/** Romeo watches both, and Juliet has admitted him. */
async function setUp(epochs: Readonly<Record<string, number>> = {}) {
  const puppets = startPuppets()
  const { connection, session: id } = await managed(puppets)
  const { edge, owners, process } = puppets
  connection.send('<presence/>')
  await settled()
  owners.handed.at(-1)!.done()
  const { audience } = edge.watching
  audience.watch(ROMEO, edge.sessions.get(id), [JULIET, NURSE])
  audience.admit(JULIET, [ROMEO])
  await settled()
  let changed: OwnersListener = () => {}
  const newer = new Map(Object.entries(epochs).map(([contact, epoch]) => [partitionOf(contact), epoch]))
  const ownership = {
    ...process.ownership,
    ownerAt: (_role: unknown, partition: number) => (newer.has(partition) ? 'another' : process.id),
    epochAt: (_role: unknown, partition: number) => newer.get(partition) ?? 1,
    onChange: (listener: OwnersListener) => {
      changed = listener
    },
  }
  const refreshing = new Refreshing(edge, { ...process, ownership })
  const before = owners.handed.length
  return {
    ...{ refreshing, audience },
    sender: { role: 'presence', process: process.id, epoch: 1 } as const,
    change: (...contacts: readonly string[]) => changed('presence', contacts.map(partitionOf)),
    /** Those that a snapshot was asked for. */
    asked: () =>
      owners.handed
        .slice(before)
        .flatMap(({ envelope }) => (envelope.kind === 'watch' && envelope.snapshot ? envelope.contacts : [])),
    /** Contacts that are said again to be watched. */
    reminded: () =>
      owners.handed
        .slice(before)
        .flatMap(({ envelope }) => (envelope.kind === 'watch' && !envelope.snapshot ? envelope.contacts : [])),
    /** Sessions that their owner was asked about. */
    refreshed: () =>
      owners.handed.slice(before).filter(({ envelope }) => envelope.kind === 'signal' && envelope.name === 'session.refresh')
        .length,
  }
}

describe('deliveries of a presence owner that are lost', () => {
  test('nobody sees his contacts any more before he has said who may, and he is asked at once', async () => {
    const { refreshing, audience, sender, asked, refreshed } = await setUp()
    const done = refreshing.refresh(sender)
    expect(audience.admitted).toBe(0)
    await eventually(() => asked().length === 3, 'three are asked for')
    expect(asked().sort()).toEqual([JULIET, NURSE, ROMEO])
    await done
    expect(refreshed()).toBe(1)
  })

  test('contacts that have had another owner all the time are left alone, those that he has lost since are not', async () => {
    const { refreshing, audience, sender, asked } = await setUp({ [JULIET]: 1, [NURSE]: 2 })
    await refreshing.refresh(sender)
    await eventually(() => asked().length === 2, 'two are asked for')
    expect([asked().sort(), audience.admitted]).toEqual([[NURSE, ROMEO], 1])
  })

  test('whoever is not told of when his contact gets another owner is asked for again', async () => {
    const { refreshing, audience, sender, asked, change } = await setUp()
    await refreshing.refresh(sender)
    await eventually(() => asked().length === 3, 'three are asked for')
    change(JULIET, NURSE)
    await eventually(() => asked().length === 4, 'one is asked for again')
    audience.admit(JULIET, [ROMEO])
    audience.snapshot(JULIET, [])
    change(JULIET, NURSE)
    await settled()
    expect(asked()).toHaveLength(4)
  })

  test('one who took this edge for dead is told again who watches whom, and asked what they see', async () => {
    const { refreshing, audience, sender, asked, reminded } = await setUp({ [NURSE]: 1 })
    await refreshing.forgotten(sender)
    expect(audience.admitted).toBe(0)
    await eventually(() => asked().length === 2, 'it is asked for')
    expect([reminded(), asked().sort()]).toEqual([[JULIET], [JULIET, ROMEO]])
  })

  test('what came too late of an owner of before is asked for of the one of now', async () => {
    const { refreshing, audience, asked } = await setUp()
    refreshing.missed({ kind: 'admit', contact: JULIET, watchers: [ROMEO] })
    refreshing.missed({ kind: 'order', session: '', name: 'watch', fields: { account: JULIET } })
    await eventually(() => asked().length === 1, 'it is asked for')
    expect([asked(), audience.admitted]).toEqual([[JULIET], 0])
  })
})
