import { describe, expect, test } from 'vitest'
import { manualClock } from '#core/clock.ts'
import { memoryTable } from '#table/memory.ts'
import { flakyTable, type HarnessOptions, harness, type TestClient, type TestServer } from '#test/harness.ts'
import { parseJid } from '#xmpp/jid.ts'
import { NS_CLIENT, NS_ROSTER } from '#xmpp/ns.ts'
import { childrenOf, type Element, el, find, type Stanza, textOf } from '#xmpp/stanza.ts'

const ROMEO = 'romeo@example.org'
const JULIET = 'juliet@example.org'

const isPush = ({ name, type }: Stanza): boolean => name === 'iq' && type === 'set'

/** `from`, `from ask`, `none approved`, as §2.1.2 shows it; `-` where the contact is not in the roster. */
async function stateOf(client: TestClient, contact: string): Promise<string> {
  const roster = await client.get(el('query', NS_ROSTER))
  const found = childrenOf(roster, 'item', NS_ROSTER).find(({ attrs }) => attrs.jid === contact)
  return found === undefined ? '-' : describeItem(found)
}

function describeItem({ attrs }: Element): string {
  return `${attrs.subscription}${attrs.ask === 'subscribe' ? ' ask' : ''}${attrs.approved === 'true' ? ' approved' : ''}`
}

/** What came, in order: `push juliet: from`, `subscribe from juliet`, `available from balcony`. */
function story({ received }: TestClient): string[] {
  return received.map((came) => {
    if (isPush(came)) {
      const [item] = childrenOf(came.tree()[0]!, 'item', NS_ROSTER)
      return `push ${parseJid(item!.attrs.jid!).local}: ${describeItem(item!)}`
    }
    return `${came.type || (came.name === 'presence' ? 'available' : came.name)} from ${came.from.resource || came.from.local}`
  })
}

interface Cast extends AsyncDisposable {
  readonly server: TestServer
  readonly romeo: TestClient
  readonly juliet: TestClient
  /** Sends a subscription stanza and waits until all is quiet; what came before is forgotten. */
  step(by: TestClient, type: string, to?: string): Promise<void>
}

/** Both online and interested; what that has brought is forgotten. */
async function cast(options: HarnessOptions = {}): Promise<Cast> {
  const server = await harness([], options)
  const romeo = await server.online(`${ROMEO}/orchard`)
  const juliet = await server.online(`${JULIET}/balcony`)
  for (const client of [romeo, juliet]) await client.get(el('query', NS_ROSTER))
  await server.quiet()
  for (const client of [romeo, juliet]) client.received.length = 0
  async function step(by: TestClient, type: string, to = by === romeo ? JULIET : ROMEO): Promise<void> {
    for (const client of [romeo, juliet]) client.received.length = 0
    by.send(by.stanza('presence', { to: parseJid(to), type, id: type }))
    await server.quiet()
  }
  return { server, romeo, juliet, step, [Symbol.asyncDispose]: () => server.stop() }
}

async function befriend({ step, romeo, juliet }: Cast): Promise<void> {
  await step(romeo, 'subscribe')
  await step(juliet, 'subscribed')
  await step(juliet, 'subscribe')
  await step(romeo, 'subscribed')
  for (const client of [romeo, juliet]) client.received.length = 0
}

describe('RFC 6121 §3.1 requesting a subscription', () => {
  test('§3.1.2, §3.1.3: the request is pushed to the user as ask, and shown to the contact’s available resources from and to bare JIDs', async () => {
    await using all = await cast()
    const chamber = await all.server.online(`${JULIET}/chamber`, -1)
    const silent = await all.server.connect(`${JULIET}/silent`)
    chamber.received.length = 0
    await all.step(all.romeo, 'subscribe', `${JULIET}/balcony`)
    expect(story(all.romeo)).toEqual(['push juliet: none ask'])
    for (const client of [all.juliet, chamber]) {
      expect(story(client)).toEqual(['subscribe from romeo'])
      expect(client.received[0]).toMatchObject({ from: { full: ROMEO }, to: { full: JULIET }, id: 'subscribe' })
    }
    expect(silent.received).toEqual([])
    expect(await stateOf(all.juliet, ROMEO)).toBe('-') // §3.1.3: not in the roster
  })

  test('§3.1.5, §3.1.6: the approval brings both a push, the user the approval, and then the contact’s presence', async () => {
    await using all = await cast()
    const chamber = await all.server.online(`${JULIET}/chamber`)
    const phone = await all.server.online(`${ROMEO}/phone`)
    await all.step(all.romeo, 'subscribe')
    for (const client of [chamber, phone]) client.received.length = 0
    await all.step(all.juliet, 'subscribed')
    expect(story(all.juliet)).toEqual(['push romeo: from'])
    expect(story(all.romeo)).toEqual([
      'push juliet: to',
      'subscribed from juliet',
      'available from balcony',
      'available from chamber',
    ])
    expect(story(phone)).toEqual(['available from balcony', 'available from chamber']) // available, and not interested
    expect(story(chamber)).toEqual([])
    expect(await stateOf(all.romeo, JULIET)).toBe('to')
  })

  test('§3.1.4, §3.2: a refusal is pushed to the user, who sees no presence', async () => {
    await using all = await cast()
    await all.step(all.romeo, 'subscribe')
    await all.step(all.juliet, 'unsubscribed')
    expect(story(all.romeo)).toEqual(['push juliet: none', 'unsubscribed from juliet'])
    expect(story(all.juliet)).toEqual([])
    expect([await stateOf(all.romeo, JULIET), await stateOf(all.juliet, ROMEO)]).toEqual(['none', '-'])
  })

  test('a mutual subscription ends in both, and both are seen', async () => {
    await using all = await cast()
    await all.step(all.romeo, 'subscribe')
    await all.step(all.juliet, 'subscribed')
    await all.step(all.juliet, 'subscribe')
    expect(story(all.juliet)).toEqual(['push romeo: from ask'])
    expect(story(all.romeo)).toEqual(['subscribe from juliet'])
    await all.step(all.romeo, 'subscribed')
    expect(story(all.juliet)).toEqual(['push romeo: both', 'subscribed from romeo', 'available from orchard'])
    expect(story(all.romeo)).toEqual(['push juliet: both'])
  })

  test('§3.1.3: a request waits for a contact who is offline, and is shown whole to each resource that becomes available, until it is answered', async () => {
    const table = memoryTable()
    await using all = await cast({ table })
    all.juliet.disconnect()
    await all.server.quiet()
    all.romeo.send(
      all.romeo.stanza(
        'presence',
        { to: parseJid(JULIET), type: 'subscribe', id: 'please', lang: 'it' },
        el('status', NS_CLIENT, {}, 'son io'),
        el('x', 'urn:example:x'),
      ),
    )
    await all.server.quiet()
    await all.server.stop()
    await using restarted = await harness([], { table })
    for (const resource of ['balcony', 'chamber']) {
      const juliet = await restarted.online(`${JULIET}/${resource}`)
      const request = juliet.received.find(({ type }) => type === 'subscribe')!
      expect(request).toMatchObject({ id: 'please', lang: 'it', from: { full: ROMEO }, to: { full: JULIET } })
      expect(textOf(find(request, 'status', NS_CLIENT)!)).toBe('son io')
      expect(request.tree().map(({ name }) => name)).toEqual(['status', 'x'])
      juliet.received.length = 0
      juliet.send(juliet.stanza('presence', {}, el('show', NS_CLIENT, {}, 'away'))) // a change is no new availability
      await restarted.quiet()
      expect(juliet.received.map(({ type }) => type)).toEqual([''])
    }
    const answering = await restarted.online(`${JULIET}/hall`)
    answering.send(answering.stanza('presence', { to: parseJid(ROMEO), type: 'unsubscribed' }))
    await restarted.quiet()
    const later = await restarted.online(`${JULIET}/tomb`)
    expect(later.received.filter(({ type }) => type === 'subscribe')).toEqual([])
  })

  test('a request that is repeated is not shown again', async () => {
    await using all = await cast()
    await all.step(all.romeo, 'subscribe')
    await all.step(all.romeo, 'subscribe')
    expect([story(all.romeo), story(all.juliet)]).toEqual([[], []])
  })

  test('§3.1.3: a request by one who has the subscription is answered for the contact, with the presence', async () => {
    await using all = await cast()
    await befriend(all)
    await all.step(all.romeo, 'subscribe')
    expect(story(all.juliet)).toEqual([])
    expect(story(all.romeo)).toEqual(['available from balcony']) // `subscribed` is nothing new to him (A.3.3)
    expect(await stateOf(all.romeo, JULIET)).toBe('both')
  })

  test('§8.5.1: a request to an account that does not exist is ignored; it stays pending', async () => {
    await using all = await cast()
    await all.step(all.romeo, 'subscribe', 'nobody@example.org')
    expect(story(all.romeo)).toEqual(['push nobody: none ask'])
    expect(await stateOf(all.romeo, 'nobody@example.org')).toBe('none ask')
    const rows: string[] = []
    for await (const { sk } of all.server.process.table.query('a#nobody@example.org')) rows.push(sk)
    expect(rows).toEqual([])
  })

  test('a request to oneself is ignored', async () => {
    await using all = await cast()
    for (const type of ['subscribe', 'subscribed', 'unsubscribe', 'unsubscribed']) {
      await all.step(all.romeo, type, ROMEO)
      expect(story(all.romeo)).toEqual([])
    }
    expect(await stateOf(all.romeo, ROMEO)).toBe('-')
  })

  test('a request to another domain is answered remote-server-not-found, from that contact', async () => {
    await using all = await cast()
    await all.step(all.romeo, 'subscribe', 'juliet@capulet.example')
    expect(story(all.romeo)).toEqual(['push juliet: none ask', 'error from juliet'])
  })

  test('an answer that nobody asked for changes nothing for the other side', async () => {
    await using all = await cast()
    for (const type of ['subscribed', 'unsubscribe', 'unsubscribed']) {
      await all.step(all.romeo, type)
      expect(story(all.juliet)).toEqual([])
    }
    expect(await stateOf(all.juliet, ROMEO)).toBe('-')
  })
})

describe('RFC 6121 §3.2 and §3.3: the end of a subscription', () => {
  test('§3.2: the contact cancels it: unavailable presence, then unsubscribed; both get a push', async () => {
    await using all = await cast()
    await befriend(all)
    await all.step(all.juliet, 'unsubscribed')
    expect(story(all.juliet)).toEqual(['push romeo: to'])
    expect(story(all.romeo)).toEqual(['unavailable from balcony', 'push juliet: from', 'unsubscribed from juliet'])
    all.juliet.send(all.juliet.stanza('presence', {}, el('show', NS_CLIENT, {}, 'away')))
    await all.server.quiet()
    expect(story(all.romeo)).toHaveLength(3)
  })

  test('§3.3: the user ends it: both get a push, the contact is told, the user sees unavailable presence', async () => {
    await using all = await cast()
    await befriend(all)
    await all.step(all.romeo, 'unsubscribe')
    expect(story(all.juliet)).toEqual(['push romeo: to', 'unsubscribe from romeo'])
    expect(story(all.romeo)).toEqual(['push juliet: from', 'unavailable from balcony'])
    expect([await stateOf(all.romeo, JULIET), await stateOf(all.juliet, ROMEO)]).toEqual(['from', 'to'])
  })

  test('§3.3.2: a request that is taken back leaves nothing pending', async () => {
    await using all = await cast()
    await all.step(all.romeo, 'subscribe')
    await all.step(all.romeo, 'unsubscribe')
    expect(await stateOf(all.romeo, JULIET)).toBe('none')
    const later = await all.server.online(`${JULIET}/chamber`)
    expect(later.received.filter(({ type }) => type === 'subscribe')).toEqual([])
  })

  test('§2.5.2: removing a contact ends both subscriptions; he sees the account leave and loses it', async () => {
    await using all = await cast()
    await befriend(all)
    expect(
      await all.romeo.iq('set', el('query', NS_ROSTER, {}, el('item', NS_ROSTER, { jid: JULIET, subscription: 'remove' }))),
    ).toBeUndefined()
    await all.server.quiet()
    expect(story(all.juliet)).toEqual([
      'unavailable from orchard',
      'push romeo: to',
      'unsubscribe from romeo',
      'push romeo: none',
      'unsubscribed from romeo',
    ])
    expect(story(all.romeo).sort()).toEqual(['push juliet: remove', 'result from romeo', 'unavailable from balcony'])
    expect([await stateOf(all.romeo, JULIET), await stateOf(all.juliet, ROMEO)]).toEqual(['-', 'none'])
  })

  test('while the other is offline, it is there when he is back', async () => {
    await using all = await cast()
    await befriend(all)
    all.juliet.disconnect()
    await all.server.quiet()
    all.romeo.send(all.romeo.stanza('presence', { to: parseJid(JULIET), type: 'unsubscribed' }))
    await all.server.quiet()
    const juliet = await all.server.online(`${JULIET}/balcony`)
    expect(juliet.received.filter(({ from }) => from.bare === ROMEO)).toEqual([])
    expect(await stateOf(juliet, ROMEO)).toBe('from')
  })
})

describe('RFC 6121 §3.4 pre-approval', () => {
  test('§3.4.2: is pushed to the account’s own interested resources, and goes nowhere', async () => {
    await using all = await cast()
    await all.step(all.juliet, 'subscribed')
    expect(story(all.juliet)).toEqual(['push romeo: none approved'])
    expect(all.romeo.received).toEqual([])
  })

  test('§3.4.2: the request that comes then is approved without being shown', async () => {
    await using all = await cast()
    await all.step(all.juliet, 'subscribed')
    await all.step(all.romeo, 'subscribe')
    expect(story(all.juliet)).toEqual(['push romeo: from approved'])
    expect(story(all.romeo)).toEqual([
      'push juliet: none ask',
      'push juliet: to',
      'subscribed from juliet',
      'available from balcony',
    ])
  })

  test('§3.4.2: an approval that is taken back before counts no more', async () => {
    await using all = await cast()
    await all.step(all.juliet, 'subscribed')
    await all.step(all.juliet, 'unsubscribed')
    await all.step(all.romeo, 'subscribe')
    expect(story(all.juliet)).toEqual(['subscribe from romeo'])
    expect(await stateOf(all.romeo, JULIET)).toBe('none ask')
  })
})

describe('durability', () => {
  /** Both are friends, and then the table is away. */
  async function parted() {
    const clock = manualClock()
    const table = flakyTable()
    const all = await cast({ clock, table })
    await befriend(all)
    for (const client of [all.romeo, all.juliet]) client.received.length = 0
    table.away = true
    const settle = async () => {
      for (let i = 0; i < 20; i++) await clock.settle(1_000)
    }
    const back = async () => {
      table.away = false
      await settle()
      await all.server.quiet()
    }
    return { ...all, settle, back, [Symbol.asyncDispose]: () => all.server.stop() }
  }
  const removal = el('query', NS_ROSTER, {}, el('item', NS_ROSTER, { jid: JULIET, subscription: 'remove' }))

  test('a contact used to hear of a removal before it was stored', async () => {
    await using all = await parted()
    all.romeo.send(all.romeo.stanza('iq', { type: 'set', id: 'remove' }, removal))
    await all.settle()
    expect([story(all.romeo), story(all.juliet)]).toEqual([[], []])
    await all.back()
    expect(story(all.juliet)).toEqual([
      'unavailable from orchard',
      'push romeo: to',
      'unsubscribe from romeo',
      'push romeo: none',
      'unsubscribed from romeo',
    ])
    expect([await stateOf(all.romeo, JULIET), await stateOf(all.juliet, ROMEO)]).toEqual(['-', 'none'])
  })

  test('a contact used to see a user leave who had not yet stored that he may not see him', async () => {
    await using all = await parted()
    all.romeo.send(all.romeo.stanza('presence', { to: parseJid(JULIET), type: 'unsubscribed' }))
    await all.settle()
    expect(story(all.juliet)).toEqual([])
    await all.back()
    expect(story(all.juliet)).toEqual(['unavailable from orchard', 'push romeo: from', 'unsubscribed from romeo'])
  })

  test('a resource that leaves while the end of a subscription is being stored is seen to leave, once', async () => {
    await using all = await parted()
    all.romeo.send(all.romeo.stanza('presence', { to: parseJid(JULIET), type: 'unsubscribed' }))
    all.romeo.send(all.romeo.stanza('presence', { type: 'unavailable' }))
    await all.settle()
    await all.back()
    expect(story(all.juliet)).toEqual(['unavailable from orchard', 'push romeo: from', 'unsubscribed from romeo'])
  })

  test('§3.2.2: a resource of the contact that comes online while that is being stored sees nothing: it used to let him in again', async () => {
    await using all = await parted()
    const { romeo, juliet, server } = all
    const phone = await server.bind(`${JULIET}/phone`)
    romeo.send(romeo.stanza('presence', { to: parseJid(JULIET), type: 'unsubscribed' }))
    await all.settle()
    phone.available()
    await all.settle()
    await all.back()
    expect(story(juliet)).toEqual([
      'available from phone',
      'unavailable from orchard',
      'push romeo: from',
      'unsubscribed from romeo',
    ])
    romeo.send(romeo.stanza('presence', {}, el('status', NS_CLIENT, {}, 'a secret')))
    await server.quiet()
    for (const client of [juliet, phone])
      expect(client.received.filter(({ name, type, from }) => name === 'presence' && type === '' && from.bare === ROMEO)).toEqual(
        [],
      )
  })

  test('presence that is directed to a contact behind the end of his subscription comes behind it, and so does its end', async () => {
    await using all = await parted()
    all.romeo.send(all.romeo.stanza('presence', { to: parseJid(JULIET), type: 'unsubscribed' }))
    all.romeo.send(all.romeo.stanza('presence', { to: parseJid(JULIET) }))
    all.romeo.send(all.romeo.stanza('presence', { type: 'unavailable' }))
    await all.settle()
    await all.back()
    const presences = all.juliet.received.filter(({ name, from }) => name === 'presence' && from.bare === ROMEO)
    expect(
      presences.map(({ type, from }) => `${type || 'available'} ${from.resource}`).filter((seen) => seen !== 'unsubscribed '),
    ).toEqual(['unavailable orchard', 'available orchard', 'unavailable orchard'])
  })

  test('what a step changed is in both rosters after a restart', async () => {
    const table = memoryTable()
    await using all = await cast({ table })
    await befriend(all)
    await all.step(all.romeo, 'unsubscribe')
    await all.server.stop()
    await using restarted = await harness([], { table })
    expect(await stateOf(await restarted.connect(`${ROMEO}/orchard`), JULIET)).toBe('from')
    expect(await stateOf(await restarted.connect(`${JULIET}/balcony`), ROMEO)).toBe('to')
  })

  test('two who ask each other at once can both approve', async () => {
    await using all = await cast()
    const send = (by: TestClient, to: string, type: string) => by.send(by.stanza('presence', { to: parseJid(to), type }))
    send(all.romeo, JULIET, 'subscribe')
    send(all.juliet, ROMEO, 'subscribe')
    await all.server.quiet()
    send(all.romeo, JULIET, 'subscribed')
    send(all.juliet, ROMEO, 'subscribed')
    await all.server.quiet()
    expect([await stateOf(all.romeo, JULIET), await stateOf(all.juliet, ROMEO)]).toEqual(['both', 'both'])
  })
})
