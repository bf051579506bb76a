// What the owner of a contact tells edges of who sees him, as it goes over the bus: the bodies are read as an edge reads them.
import { expect, test } from 'vitest'
import { manualClock } from '#core/clock.ts'
import type { Delivery } from '#core/envelope.ts'
import { type App, defineModule, type ShownOptions } from '#core/module.ts'
import { receiveMulticast } from '#core/multicast/multicast-receiver.ts'
import { memoryTable } from '#table/memory.ts'
import { isCluster } from '#test/form.ts'
import { type HarnessOptions, harness, type TestClient, type TestServer } from '#test/harness.ts'
import { bareOf, type Jid, parseJid } from '#xmpp/jid.ts'
import { NS_CLIENT, NS_ROSTER } from '#xmpp/ns.ts'
import { el, find, stanza, textOf } from '#xmpp/stanza.ts'

const ROMEO = 'romeo@example.org'
const FRIENDS = ['juliet@example.org', 'nurse@example.org', 'rosaline@example.org']
const [JULIET] = FRIENDS as [string]

interface Stage extends AsyncDisposable {
  readonly server: TestServer
  readonly clients: readonly TestClient[]
  /** What edges were told of Romeo since the last asking. */
  told(): string[]
}

/** Those of all presence owners: who does not own the account says nothing in its name. */
let apps: App[] = []
function publish(account: Jid, text: string, options?: ShownOptions): void {
  const event = stanza('message', account, { type: 'headline' }, el('body', NS_CLIENT, {}, text))
  for (const app of apps) app.shown(bareOf(account), event, options)
}
const publisher = defineModule({
  name: 'publisher',
  home: 'presence',
  xeps: [],
  setup(app) {
    if (app.role === 'presence') apps.push(app)
  },
})

/** The friends, who see Romeo, are online; and he is, where the test wants it. */
async function stage(options: HarnessOptions = {}): Promise<Stage> {
  const table = memoryTable()
  await using before = await harness([], { table })
  const romeo = await before.connect(`${ROMEO}/setup`)
  for (const friend of FRIENDS) {
    const client = await before.connect(`${friend}/setup`)
    client.send(client.stanza('presence', { to: parseJid(ROMEO), type: 'subscribe' }))
    await before.quiet()
    romeo.send(romeo.stanza('presence', { to: parseJid(friend), type: 'subscribed' }))
    await before.quiet()
  }
  await before.stop()

  apps = []
  const server = await harness([publisher], { ...options, table })
  const { bus, clock, log } = server.process
  const deliveries: Delivery[] = []
  const ways = { bus, clock, log, ownership: server.ownership }
  const listener = isCluster
    ? undefined
    : receiveMulticast(ways, server.edge, { delivery: (delivery) => deliveries.push(delivery), lost: () => {} })
  const clients: TestClient[] = []
  for (const friend of FRIENDS) clients.push(await server.online(`${friend}/here`))
  return {
    server,
    clients,
    told: () =>
      deliveries.splice(0).flatMap((delivery) => {
        if (delivery.kind === 'stanza' || delivery.kind === 'order' || delivery.contact !== ROMEO) return []
        if (delivery.kind === 'shown')
          return [
            `${delivery.stanza.type || delivery.stanza.name}${delivery.only === undefined ? '' : ` to ${delivery.only.map(nameOf)}`}`,
          ]
        return [`${delivery.kind} ${delivery.kind === 'snapshot' ? delivery.resources : delivery.watchers.map(nameOf).sort()}`]
      }),
    async [Symbol.asyncDispose]() {
      listener?.close()
      await server.stop()
    },
  }
}

const nameOf = (jid: string): string => parseJid(jid).local

function shown({ received }: TestClient): string[] {
  return received
    .filter(({ name, from }) => name === 'presence' && from.bare === ROMEO)
    .map(
      (came) =>
        came.type || (find(came, 'status', NS_CLIENT) === undefined ? 'available' : textOf(find(came, 'status', NS_CLIENT)!)),
    )
}

const show = (client: TestClient, text: string): void =>
  client.send(client.stanza('presence', {}, el('status', NS_CLIENT, {}, text)))

test.skipIf(isCluster)(
  'one who comes online is shown to an edge once, whoever sees him there; so is each change; and then nobody sees him',
  async () => {
    await using all = await stage()
    all.told()
    const romeo = await all.server.online(`${ROMEO}/orchard`)
    expect(all.told()).toEqual(['admit juliet,nurse,rosaline', 'presence'])
    show(romeo, 'away')
    await all.server.quiet()
    expect(all.told()).toEqual(['presence'])
    romeo.disconnect()
    await all.server.quiet()
    expect(all.told()).toEqual(['unavailable', 'revoke '])
    for (const client of all.clients) expect(shown(client)).toEqual(['available', 'away', 'unavailable'])
  },
)

test.skipIf(isCluster)(
  'who comes while he is online is admitted and shown him alone; a further session of his is shown him without',
  async () => {
    await using all = await stage()
    await all.server.online(`${ROMEO}/orchard`)
    all.clients[0]!.disconnect()
    await all.server.quiet()
    all.told()
    const back = await all.server.online(`${JULIET}/back`)
    expect(all.told()).toEqual(['admit juliet', 'presence to '])
    const second = await all.server.online(`${JULIET}/second`)
    expect(all.told()).toEqual(['presence to '])
    expect([shown(back), shown(second), shown(all.clients[1]!)]).toEqual([['available'], ['available'], ['available']])
  },
)

test.skipIf(isCluster)('who goes is admitted no more: what is on its way to him is void', async () => {
  await using all = await stage()
  await all.server.online(`${ROMEO}/orchard`)
  all.told()
  all.clients[0]!.send(all.clients[0]!.stanza('presence', { type: 'unavailable' }))
  await all.server.quiet()
  expect(all.told()).toEqual(['revoke juliet'])
})

test.skipIf(isCluster)(
  'RFC 6121 §3.2, §2.5.2: the end of an approval, and a removal, revoke it behind the news that he is gone, ahead of whatever comes',
  async () => {
    await using all = await stage()
    const romeo = await all.server.online(`${ROMEO}/orchard`)
    all.told()
    romeo.send(romeo.stanza('presence', { to: parseJid(JULIET), type: 'unsubscribed' }))
    show(romeo, 'without her')
    await all.server.quiet()
    expect(all.told().slice(0, 3)).toEqual(['unavailable to juliet', 'revoke juliet', 'presence'])
    await romeo.iq('set', el('query', NS_ROSTER, {}, el('item', NS_ROSTER, { jid: FRIENDS[1]!, subscription: 'remove' })))
    await all.server.quiet()
    expect(all.told().slice(0, 2)).toEqual(['unavailable to nurse', 'revoke nurse'])
    show(romeo, 'alone')
    await all.server.quiet()
    expect(all.clients.map((client) => shown(client).at(-1))).toEqual(['unavailable', 'unavailable', 'alone'])
  },
)

test('what a module publishes goes to clients with the feature, of whoever sees the account and of itself', async () => {
  await using all = await stage()
  const romeo = await all.server.online(`${ROMEO}/orchard`)
  for (const client of [romeo, ...all.clients.slice(1)]) client.notifies.add('tune+notify')
  publish(romeo.jid, 'a tune', { filter: 'tune+notify' })
  publish(romeo.jid, 'for the nurse', { only: [FRIENDS[1]!, 'paris@example.org'] })
  await all.server.quiet()
  const [juliet, nurse, rosaline] = all.clients.map((client) => client.bodies())
  expect([juliet, nurse?.sort(), rosaline]).toEqual([[], ['a tune', 'for the nurse'], ['a tune']])
  expect(romeo.bodies().sort()).toEqual(['a tune', 'for the nurse'])
})

test('what is published while the account is not available goes to whom its roster lets see it', async () => {
  await using all = await stage()
  const romeo = await all.server.connect(`${ROMEO}/silent`)
  romeo.send(romeo.stanza('presence', { to: parseJid(JULIET), type: 'unsubscribed' }))
  await all.server.quiet()
  publish(romeo.jid, 'a tune')
  await all.server.quiet()
  expect(all.clients.map((client) => client.bodies())).toEqual([[], ['a tune'], ['a tune']])
})

const windowed = (): HarnessOptions & { clock: ReturnType<typeof manualClock> } => ({
  clock: manualClock(),
  config: { presence: { windowMs: 1_000 } },
})

test('a burst is shown as its first and its latest; who comes meanwhile is shown what the others see', async () => {
  const options = windowed()
  await using all = await stage(options)
  const romeo = await all.server.online(`${ROMEO}/orchard`)
  for (const text of ['one', 'two', 'three']) show(romeo, text)
  await all.server.quiet()
  const late = await all.server.online(`${JULIET}/late`)
  expect([shown(all.clients[1]!), shown(late)]).toEqual([['available'], ['available']])
  await options.clock.settle(2_000)
  await all.server.quiet()
  expect([shown(all.clients[1]!), shown(late)]).toEqual([
    ['available', 'three'],
    ['available', 'three'],
  ])
})

test('unavailable is told at once, and nothing that waited behind it', async () => {
  const options = windowed()
  await using all = await stage(options)
  const romeo = await all.server.online(`${ROMEO}/orchard`)
  show(romeo, 'on my way out')
  romeo.disconnect()
  await all.server.quiet()
  expect(shown(all.clients[0]!)).toEqual(['available', 'unavailable'])
  await options.clock.settle(2_000)
  await all.server.quiet()
  expect(shown(all.clients[0]!)).toEqual(['available', 'unavailable'])
})

test('what waits comes ahead of directed presence that was sent behind it', async () => {
  await using all = await stage(windowed())
  const romeo = await all.server.online(`${ROMEO}/orchard`)
  show(romeo, 'to all')
  romeo.send(romeo.stanza('presence', { to: parseJid(JULIET) }, el('status', NS_CLIENT, {}, 'to her')))
  await all.server.quiet()
  expect(shown(all.clients[0]!)).toEqual(['available', 'to all', 'to her'])
})
