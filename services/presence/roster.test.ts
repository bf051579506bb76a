import { describe, expect, test } from 'vitest'
import { manualClock } from '#core/clock.ts'
import { memoryTable } from '#table/memory.ts'
import { flakyTable, harness, type Refusal, type TestClient } from '#test/harness.ts'
import { parseJid } from '#xmpp/jid.ts'
import { NS_ROSTER } from '#xmpp/ns.ts'
import { childrenOf, type Element, el, type Stanza } from '#xmpp/stanza.ts'

const ROMEO = 'romeo@example.org'

const query = (ver?: string, ...items: Element[]): Element => el('query', NS_ROSTER, { ver }, ...items)
const item = (jid: string, attrs: Record<string, string> = {}, ...groups: string[]): Element =>
  el('item', NS_ROSTER, { jid, ...attrs }, ...groups.map((group) => el('group', NS_ROSTER, {}, group)))

const isPush = ({ name, type, child }: Stanza): boolean => name === 'iq' && type === 'set' && child === `{${NS_ROSTER}}query`
const pushes = ({ received }: TestClient): Element[] => received.filter(isPush).map((push) => push.tree()[0]!)
/** `juliet@…: none "Juliet" Friends, Family`, of each item. */
const itemsOf = (roster: Element): string[] =>
  childrenOf(roster, 'item', NS_ROSTER).map(({ attrs, children }) => {
    const groups = (children as Element[]).map((group) => group.children.join('')).join(', ')
    return `${attrs.jid}: ${attrs.subscription}${attrs.name === undefined ? '' : ` "${attrs.name}"`}${groups && ` ${groups}`}`
  })

async function roster(client: TestClient): Promise<string[]> {
  return itemsOf(await client.get(query()))
}

const REFUSED = (condition: string) => expect.objectContaining({ condition }) as unknown

describe('RFC 6121 §2.2 and §2.3: getting and setting', () => {
  test('§2.2: a roster is empty at first, and without ver has no version', async () => {
    await using server = await harness([])
    const romeo = await server.connect(`${ROMEO}/orchard`)
    expect(await romeo.get(query())).toMatchObject({ name: 'query', attrs: {}, children: [] })
  })

  test('§2.3.2: an item is added, pushed to every interested resource, the one that set it too, and to no other', async () => {
    await using server = await harness([])
    const [orchard, phone, silent] = [
      await server.connect(`${ROMEO}/orchard`),
      await server.connect(`${ROMEO}/phone`),
      await server.connect(`${ROMEO}/silent`),
    ]
    for (const client of [orchard, phone]) await client.get(query())
    silent.available()
    expect(await orchard.iq('set', query(undefined, item('juliet@example.org', { name: 'Juliet' }, 'Friends')))).toBeUndefined()
    await server.quiet()
    for (const client of [orchard, phone]) {
      expect(pushes(client).map(itemsOf)).toEqual([['juliet@example.org: none "Juliet" Friends']])
      const push = client.received.find(isPush)!
      expect([push.from.full, push.to?.full, push.id === '']).toEqual([ROMEO, client.jid.full, false])
    }
    expect(pushes(silent)).toEqual([])
    expect(await roster(silent)).toEqual(['juliet@example.org: none "Juliet" Friends'])
  })

  test('§2.1.6: the push comes before the result, both when the change is durable, and an answer to it is ignored', async () => {
    const table = flakyTable()
    const clock = manualClock()
    await using server = await harness([], { table, clock })
    const romeo = await server.connect(`${ROMEO}/orchard`)
    await romeo.get(query())
    await server.quiet()
    romeo.received.length = 0
    table.away = true
    romeo.send(romeo.stanza('iq', { type: 'set', id: 'add' }, query(undefined, item('juliet@example.org'))))
    for (let i = 0; i < 10; i++) await clock.settle(1_000)
    expect([romeo.received, romeo.settled]).toEqual([[], false])
    table.away = false
    for (let i = 0; i < 10; i++) await clock.settle(1_000)
    await server.quiet()
    expect(romeo.received.map(({ type, id }) => (id === 'add' ? type : 'push'))).toEqual(['push', 'result'])
    romeo.received.length = 0
    romeo.send(romeo.stanza('iq', { type: 'result', id: romeo.received.find(isPush)?.id ?? 'push' }))
    await server.quiet()
    expect(romeo.received).toEqual([])
  })

  test('§2.4: an item is replaced exactly as it is set; what it says of its subscription is ignored (§2.1.5)', async () => {
    await using server = await harness([])
    const romeo = await server.connect(`${ROMEO}/orchard`)
    const set = (...items: Element[]) => romeo.iq('set', query(undefined, ...items))
    await set(item('juliet@example.org', { name: 'Juliet' }, 'Friends', 'Family'))
    await set(item('juliet@example.org', { subscription: 'both', ask: 'subscribe', approved: 'true' }, 'Lovers'))
    expect(await roster(romeo)).toEqual(['juliet@example.org: none Lovers'])
  })

  test('§2.5.2: a removal is pushed, answered, and durable', async () => {
    const table = memoryTable()
    await using server = await harness([], { table })
    const romeo = await server.connect(`${ROMEO}/orchard`)
    await romeo.get(query())
    await romeo.iq('set', query(undefined, item('juliet@example.org')))
    expect(await romeo.iq('set', query(undefined, item('juliet@example.org', { subscription: 'remove' })))).toBeUndefined()
    await server.quiet()
    expect(pushes(romeo).map(itemsOf)).toEqual([['juliet@example.org: none'], ['juliet@example.org: remove']])
    await using restarted = await harness([], { table })
    expect(await roster(await restarted.connect(`${ROMEO}/orchard`))).toEqual([])
  })

  test('what was set is there after a restart', async () => {
    const table = memoryTable()
    await using server = await harness([], { table })
    const romeo = await server.connect(`${ROMEO}/orchard`)
    for (const name of ['juliet', 'mercutio'])
      await romeo.iq('set', query(undefined, item(`${name}@example.org`, { name }, 'Verona')))
    await server.stop()
    await using restarted = await harness([], { table })
    expect(await roster(await restarted.connect(`${ROMEO}/orchard`))).toEqual([
      'juliet@example.org: none "juliet" Verona',
      'mercutio@example.org: none "mercutio" Verona',
    ])
  })

  test.each([
    ['§2.3.3: no item', [], 'bad-request'],
    ['§2.3.3: two items', [item('a@example.org'), item('b@example.org')], 'bad-request'],
    ['§2.3.3: a group named twice', [item('a@example.org', {}, 'Friends', 'Friends')], 'bad-request'],
    ['§2.3.3: a group of no length', [item('a@example.org', {}, '')], 'not-acceptable'],
    ['§2.3.3: a name too long', [item('a@example.org', { name: 'x'.repeat(1_024) })], 'not-acceptable'],
    ['§2.5.3: the removal of what is not there', [item('a@example.org', { subscription: 'remove' })], 'item-not-found'],
    ['an address that is none', [item('a@@b')], 'jid-malformed'],
    ['oneself', [item(ROMEO)], 'not-allowed'],
  ])('%s is refused, and nothing is pushed or kept', async (_, items, condition) => {
    await using server = await harness([])
    const romeo = await server.connect(`${ROMEO}/orchard`)
    await romeo.get(query())
    const refusal = (await romeo.iq('set', query(undefined, ...items))) as Refusal
    expect(refusal).toEqual(REFUSED(condition))
    await server.quiet()
    expect(pushes(romeo)).toEqual([])
    expect(await roster(romeo)).toEqual([])
  })

  test.each(['get', 'set'] as const)('§2.1.5: a roster %s of another account is forbidden, and does nothing', async (type) => {
    await using server = await harness([])
    const romeo = await server.connect(`${ROMEO}/orchard`)
    const juliet = await server.connect('juliet@example.org/balcony')
    expect(await romeo.iq(type, query(undefined, item('paris@example.org')), 'juliet@example.org')).toEqual(REFUSED('forbidden'))
    expect(await romeo.iq(type, query(undefined, item('paris@example.org')), ROMEO)).not.toEqual(REFUSED('forbidden'))
    expect(await roster(juliet)).toEqual([])
    expect(juliet.received.filter(isPush)).toEqual([])
  })

  test('a roster is nothing that the host has', async () => {
    await using server = await harness([])
    const romeo = await server.connect(`${ROMEO}/orchard`)
    expect(await romeo.iq('get', query(), 'example.org')).toEqual(REFUSED('service-unavailable'))
  })
})

test('a roster of many long names used to be one that nobody could fetch any more', async () => {
  const table = memoryTable()
  await using server = await harness([], { table })
  await server.account(ROMEO)
  const name = 'x'.repeat(1_000)
  for (let n = 0; n < 520; n++) {
    const jid = `c${n}@example.org`
    const value = { jid, name, groups: [], subscription: 'none', ask: false, approved: false, inRoster: true }
    await table.put({ pk: `a#${ROMEO}`, sk: `roster#${jid}`, version: 'v', value: Buffer.from(JSON.stringify(value)) })
  }
  const romeo = await server.connect(`${ROMEO}/orchard`)
  let added = 0
  for (; added < 700; added++) {
    const refusal = (await romeo.iq('set', query(undefined, item(`d${added}@example.org`, { name })))) as Refusal | undefined
    if (refusal === undefined) continue
    expect(refusal).toEqual(REFUSED('resource-constraint'))
    break
  }
  expect(added).toBeGreaterThan(0)
  expect(await roster(romeo)).toHaveLength(520 + added)
  expect(await romeo.iq('set', query(undefined, item('c1@example.org', { subscription: 'remove' })))).toBeUndefined()
  expect(await romeo.iq('set', query(undefined, item('d@example.org', { name })))).toBeUndefined()
})

describe('RFC 6121 §2.6 versions', () => {
  /** Three contacts, of whom the second has been renamed and the third removed since `old`. */
  async function cast() {
    const server = await harness([])
    const romeo = await server.connect(`${ROMEO}/orchard`)
    await romeo.get(query())
    const set = (...items: Element[]) => romeo.iq('set', query(undefined, ...items))
    for (const name of ['juliet', 'mercutio', 'paris', 'tybalt']) await set(item(`${name}@example.org`))
    const old = (await romeo.get(query(''))).attrs.ver!
    await set(item('mercutio@example.org', { name: 'Mercutio' }))
    await set(item('paris@example.org', { subscription: 'remove' }))
    await set(item('mercutio@example.org', { name: 'the late Mercutio' }))
    const now = (await romeo.get(query(''))).attrs.ver!
    return { server, romeo, old, now, [Symbol.asyncDispose]: () => server.stop() }
  }

  test('§2.6.2: ver="" brings the whole roster and its version', async () => {
    await using all = await cast()
    const whole = await all.romeo.get(query(''))
    expect(itemsOf(whole).sort()).toEqual([
      'juliet@example.org: none',
      'mercutio@example.org: none "the late Mercutio"',
      'tybalt@example.org: none',
    ])
    expect(whole.attrs.ver).toBe(all.now)
    expect(all.now).not.toBe(all.old)
  })

  test('§2.6.3: a client that has the latest version gets an empty result, and no pushes', async () => {
    await using all = await cast()
    const phone = await all.server.connect(`${ROMEO}/phone`)
    expect(await phone.iq('get', query(all.now))).toBeUndefined()
    await all.server.quiet()
    expect(pushes(phone)).toEqual([])
  })

  test('§2.6.3: a client that is behind gets an empty result, and behind it a push for each contact that changed, in order', async () => {
    await using all = await cast()
    const phone = await all.server.connect(`${ROMEO}/phone`)
    expect(await phone.iq('get', query(all.old))).toBeUndefined()
    await all.server.quiet()
    expect(phone.received.map(({ type }) => type)).toEqual(['result', 'set', 'set'])
    expect(pushes(phone).map(itemsOf)).toEqual([
      ['paris@example.org: remove'],
      ['mercutio@example.org: none "the late Mercutio"'],
    ])
    expect(pushes(phone).at(-1)!.attrs.ver).toBe(all.now)
    expect(new Set(pushes(phone).map(({ attrs }) => attrs.ver)).size).toBe(2)
  })

  test('a change that comes meanwhile is pushed behind those, so that the last version a client sees is the latest', async () => {
    await using all = await cast()
    const phone = await all.server.connect(`${ROMEO}/phone`)
    phone.send(phone.stanza('iq', { type: 'get', id: 'r' }, query(all.old)))
    phone.send(phone.stanza('iq', { type: 'set', id: 's' }, query(undefined, item('nurse@example.org'))))
    await all.server.quiet()
    expect(phone.received.map(({ type, id }) => (type === 'set' ? 'push' : id))).toEqual(['r', 'push', 'push', 'push', 's'])
    expect(pushes(phone).at(-1)!.attrs.ver).toBe((await phone.get(query(''))).attrs.ver)
  })

  test('a version that was never given brings the whole roster', async () => {
    await using all = await cast()
    const phone = await all.server.connect(`${ROMEO}/phone`)
    for (const ver of ['nonsense', '0.99', `${all.now}9`, `${all.now.split('.')[0]}.-1`, 'x'.repeat(10_000)]) {
      expect((await phone.get(query(ver))).attrs.ver).toBe(all.now)
    }
  })

  test('§2.6.3: every push has a version, and no two have the same', async () => {
    await using all = await cast()
    const versions = pushes(all.romeo).map(({ attrs }) => attrs.ver)
    expect(versions).toHaveLength(7)
    expect(new Set(versions).size).toBe(7)
    expect(versions.at(-1)).toBe(all.now)
  })

  test('a request of a stranger, which no client sees in its roster, makes no new version', async () => {
    await using all = await cast()
    const stranger = await all.server.connect('stranger@example.org/x')
    stranger.send(stranger.stanza('presence', { to: parseJid(ROMEO), type: 'subscribe' }))
    await all.server.quiet()
    expect((await all.romeo.get(query(''))).attrs.ver).toBe(all.now)
    expect(await roster(all.romeo)).not.toContain('stranger@example.org: none')
  })

  test('a roster that never changed has a version too', async () => {
    await using server = await harness([])
    const romeo = await server.connect(`${ROMEO}/orchard`)
    const { ver } = (await romeo.get(query(''))).attrs
    expect(ver).toBeDefined()
    expect(await romeo.iq('get', query(ver))).toBeUndefined()
    await romeo.iq('set', query(undefined, item('juliet@example.org')))
    expect(itemsOf(await romeo.get(query(ver)))).toEqual(['juliet@example.org: none'])
  })
})
