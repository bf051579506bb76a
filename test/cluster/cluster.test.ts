// A cluster of six processes, as real clients see it: each is on another edge, and routers come and go.
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, onTestFailed, test } from 'vitest'
import { PARTITIONS } from '#core/ownership/ownership.ts'
import { people, trustCertificateOf } from '#test/interop/accounts.ts'
import {
  available,
  bareOf,
  befriend,
  chat,
  connectXmppJs,
  presenceOf,
  rosterQuery,
  saying,
  type XmppJs,
} from '#test/interop/xmppjs.ts'
import { freePorts } from '#test/support/ports.ts'
import { type ClusterProcess, startTestCluster, type TestCluster } from './processes.ts'

const STARTED_WITHIN_MS = 180_000
const TEST_TIMEOUT_MS = 120_000
/** A lease runs out in 6 s; the rest is for a machine that has other things to do. */
const TAKEN_WITHIN_MS = 30_000

let cluster: TestCluster | undefined
const online: XmppJs[] = []

beforeAll(async () => {
  cluster = await startTestCluster()
  if (cluster === undefined) return
  for (const role of ['router', 'presence', 'edge'] as const) for (const _ of [1, 2]) await cluster.add([role])
  await cluster.ready()
  await trustCertificateOf(cluster.of('edge')[0]!.asServer())
}, STARTED_WITHIN_MS)

afterEach(async () => {
  await Promise.allSettled(online.splice(0).map((client) => client.stop()))
})
afterAll(async () => {
  await cluster?.stop()
})

beforeEach(({ skip }) => {
  if (cluster === undefined) skip('there is no NATS or no DynamoDB to test with; standard error says how to get them')
})

function running(): TestCluster {
  const all = cluster!
  onTestFailed(() => console.log(all.log()))
  return all
}

/** Logs in on that edge, asks for the roster and shows presence. */
async function connect(edge: ClusterProcess, account: Parameters<typeof connectXmppJs>[1]): Promise<XmppJs> {
  const client = await connectXmppJs(edge.asServer(), account, 'tcp')
  online.push(client)
  await client.iq('get', undefined, rosterQuery())
  await client.send(available())
  await client.stanzas.next('its own presence', presenceOf(client.jid))
  return client
}

/** Romeo on the first edge, Juliet on the second, who see each other. */
async function couple(all: TestCluster): Promise<{ romeo: XmppJs; juliet: XmppJs }> {
  const [first, second] = all.of('edge') as [ClusterProcess, ClusterProcess]
  const [one, other] = await people(first.asServer(), 'romeo', 'juliet')
  const romeo = await connect(first, one!)
  const juliet = await connect(second, other!)
  await befriend(romeo, juliet)
  await romeo.stanzas.next('the presence of juliet', presenceOf(juliet.jid))
  await juliet.stanzas.next('the presence of romeo', presenceOf(romeo.jid))
  return { romeo, juliet }
}

/** Both ways, and that each sees what becomes of the other. */
async function expectTalk(romeo: XmppJs, juliet: XmppJs, topic: string): Promise<void> {
  await expectChat(romeo, juliet, `${topic}: one`, `${topic}: two`)
  await expectChat(juliet, romeo, `${topic}: three`)
  await juliet.send(available('away', topic))
  await romeo.stanzas.next(
    `juliet to be away, ${topic}`,
    (stanza) => presenceOf(juliet.jid)(stanza) && stanza.getChildText('status') === topic,
  )
}

async function expectChat(from: XmppJs, to: XmppJs, ...bodies: string[]): Promise<void> {
  for (const body of bodies) await from.send(chat(bareOf(to), body))
  for (const body of bodies) {
    const { attrs } = await to.stanzas.next(`the message ${body}`, saying(body))
    expect(attrs.from).toBe(from.jid)
  }
}

describe('two clients on different edges', () => {
  test(
    'chat, and see presence come, change and go',
    async () => {
      const all = running()
      const { romeo, juliet } = await couple(all)
      await expectChat(romeo, juliet, 'who is there?', 'hello?')
      await expectChat(juliet, romeo, 'I am')
      for (const edge of all.of('edge')) await expect.poll(() => edge.metric('rookery_edge_lane_pending')).toBe(0)
      await juliet.send(available('away', 'on the balcony'))
      await romeo.stanzas.next(
        'juliet to be away',
        (stanza) => presenceOf(juliet.jid)(stanza) && stanza.getChildText('show') === 'away',
      )
      await juliet.stop()
      await romeo.stanzas.next('juliet to be gone', presenceOf(juliet.jid, 'unavailable'))
    },
    TEST_TIMEOUT_MS,
  )
})

describe('processes come and go, and clients go on', () => {
  test.each(['router', 'presence'] as const)(
    'a %s that is told to stop hands on what it owns; one that comes takes its share',
    async (role) => {
      const all = running()
      const { romeo, juliet } = await couple(all)
      const [leaving, staying] = all.of(role) as [ClusterProcess, ClusterProcess]
      await leaving.stop()
      expect(await staying.metric(`rookery_${role}_partitions`)).toBe(PARTITIONS)
      await expectTalk(romeo, juliet, `without ${leaving.name}`)

      const coming = await all.add([role])
      await coming.ready()
      await expect
        .poll(() => coming.metric(`rookery_${role}_partitions`), { timeout: TAKEN_WITHIN_MS })
        .toBeGreaterThan(PARTITIONS / 4)
      await expectTalk(romeo, juliet, `with ${coming.name}`)
    },
    TEST_TIMEOUT_MS,
  )

  test.each(['router', 'presence'] as const)(
    'of a %s that is killed another has everything once its lease has run out',
    async (role) => {
      const all = running()
      const { romeo, juliet } = await couple(all)
      const [killed, other] = all.of(role) as [ClusterProcess, ClusterProcess]
      await killed.kill('SIGKILL')
      await romeo.send(chat(bareOf(juliet), 'are you there?')) // and whoever is to have it may be the dead one
      await expect.poll(() => other.metric(`rookery_${role}_partitions`), { timeout: TAKEN_WITHIN_MS }).toBe(PARTITIONS)
      await juliet.stanzas.next('what was said meanwhile', saying('are you there?'), TAKEN_WITHIN_MS)
      await expectTalk(romeo, juliet, `without ${killed.name}`)
      await (await all.add([role])).ready()
    },
    TEST_TIMEOUT_MS,
  )
})

describe('a process that cannot start', () => {
  test(
    'says what is away, and how to get it, and leaves no lease',
    async () => {
      const all = running()
      const [nats, table] = (await freePorts(2)) as [number, number]
      const away = await all.add(['edge'], { config: { bus: { servers: [`nats://127.0.0.1:${nats}`] } } })
      const without = await all.add(['edge'], { config: { table: { endpoint: `http://127.0.0.1:${table}` } } })
      const homeless = await all.add(['edge'], { config: { tls: { cert: [], key: [] }, data: '/dev/null/data' } })
      for (const { ended } of [away, without, homeless]) expect(await ended).toMatchObject({ code: 1 })
      expect(away.log()).toContain(`rookery: no NATS server of bus.servers can be used: nats://127.0.0.1:${nats}: `)
      expect(without.log()).toContain(`rookery: DynamoDB at http://127.0.0.1:${table} (region local) does not answer: `)
      expect(homeless.log()).toMatch(/rookery: \/dev\/null\/data\/tls\/cert.pem: .*; give tls\.cert and tls\.key/)
      expect(await all.of('edge')[0]!.metric('rookery_cluster_members')).toBe(6)
    },
    TEST_TIMEOUT_MS,
  )

  test(
    'for want of owners waits for them with its ports closed, says so, and can be stopped',
    async () => {
      const all = running()
      const elsewhere = { bus: { prefix: 'elsewhere' }, table: { prefix: 'elsewhere' } }
      const edge = await all.add(['edge'], { config: elsewhere })
      await edge.until('edge.waits_for_owners')
      const { ready, missing } = (await edge.readiness())!
      expect(ready).toBe(false)
      expect(missing).toEqual({ edge: 'not started yet', owners: expect.stringContaining('have no router that lives') })
      expect(edge.events('listener.opened')).toEqual([])
      await edge.stop()
      expect(edge.events('server.stopped')).toHaveLength(1)
    },
    TEST_TIMEOUT_MS,
  )
})

describe('commands from outside', () => {
  test(
    'reach whoever owns the account, and those who are online on any edge',
    async () => {
      const all = running()
      const { romeo, juliet } = await couple(all)
      expect(await all.rookery('user', 'add', 'nurse@localhost', '--password', 'pass')).toEqual({
        code: 0,
        out: 'nurse@localhost added in the cluster\n',
        err: '',
      })
      expect((await all.rookery('user', 'add', 'nurse@localhost', '--password', 'pass')).err).toContain('the account exists')
      const accounts = (await all.rookery('user', 'list')).out.split('\n')
      expect(accounts).toEqual(expect.arrayContaining(['nurse@localhost', bareOf(romeo), bareOf(juliet)]))

      const sessions = (await all.rookery('session', 'list')).out.split('\n')
      for (const { jid } of [romeo, juliet]) expect(sessions).toContainEqual(expect.stringContaining(`${jid}\t`))
      expect((await all.rookery('announce', 'Maintenance at noon')).out).toBe('sent to 2 accounts in 2 sessions\n')
      for (const { stanzas } of [romeo, juliet]) await stanzas.next('the announcement', saying('Maintenance at noon'))

      const exported = await all.rookery('export', bareOf(romeo))
      expect(exported).toMatchObject({ code: 0 })
      expect(exported.out).toContain(`<item jid='${bareOf(juliet)}'`)
      expect((await all.rookery('session', 'kick', juliet.jid)).out).toBe(`${juliet.jid}: 1 session ended\n`)
      await romeo.stanzas.next('juliet to be gone', presenceOf(juliet.jid, 'unavailable'))
    },
    TEST_TIMEOUT_MS,
  )
})
