// What a login costs the table where each role is a process of its own and every module is on.
import { afterEach, expect, test } from 'vitest'
import { openCaller } from '#core/call.ts'
import { QUIET_MS } from '#core/storage/readings.ts'
import { connect, PASSWORD, plainAuth } from '#edge/edge.fixture.ts'
import { allModules } from '#embedded/modules.ts'
import { presenceModules } from '#presence/main.ts'
import { newItem } from '#presence/roster/roster-item.ts'
import { Cluster, ClusterClient, type ClusterProcess } from '#test/cluster-harness.ts'

const clusters: Cluster[] = []
afterEach(async () => {
  for (const cluster of clusters.splice(0)) await cluster[Symbol.asyncDispose]()
})

const CONTACTS = Array.from({ length: 40 }, (_, n) => `friend${n}@example.org`)

async function open(config: Readonly<Record<string, unknown>> = {}) {
  const brought: readonly unknown[] = presenceModules
  const modules = (await allModules()).filter((module) => !brought.includes(module))
  const cluster = new Cluster({ config, modules })
  clusters.push(cluster)
  const [edge] = (await cluster.open(['edge'], ['router'], ['presence'])) as [ClusterProcess]
  const caller = openCaller(edge.bus, edge.ownership, cluster.clock)
  return {
    cluster,
    edge,
    /** With forty contacts who see each other, and none of whom is there. */
    async makeAccount(account: string): Promise<void> {
      await cluster.during(caller.ask('router', account, 'account.create', { password: PASSWORD }))
      for (const jid of CONTACTS) {
        const value = Buffer.from(JSON.stringify({ ...newItem(jid), subscription: 'both', inRoster: true }))
        await cluster.table.put({ pk: `a#${account}`, sk: `roster#${jid}`, version: 'v', value })
      }
    },
  }
}

test('one query and no write, with forty contacts, presence sent and every module on', async () => {
  const { cluster, edge, makeAccount } = await open()
  for (const name of ['romeo@example.org', 'juliet@example.org']) await makeAccount(name)
  await cluster.pass(QUIET_MS)
  // What the domain has to say to everybody is read once a minute, by whoever comes first.
  const juliet = await ClusterClient.connect(cluster, edge, 'juliet@example.org/balcony')
  juliet.send('<presence/>')
  await cluster.pass(1_000)
  cluster.requests.length = 0
  const romeo = await ClusterClient.connect(cluster, edge, 'romeo@example.org/orchard')
  romeo.send("<iq type='get' id='r'><query xmlns='jabber:iq:roster'/></iq><presence/>")
  await cluster.until(() => romeo.connection.written.includes('friend39@'), 'the roster comes')
  await cluster.pass(5_000)
  expect(cluster.requests).toEqual(['query a#romeo@example.org'])
})

test('sixty who come back at once ask the table for no more than limits.loginsPerSecond of them have to', async () => {
  const perSecond = 10
  const { cluster, edge, makeAccount } = await open({ limits: { loginsPerSecond: perSecond, loginTimeoutMs: 60_000 } })
  const names = Array.from({ length: 60 }, (_, n) => `player${n}`)
  for (const name of names) await makeAccount(`${name}@example.org`)
  await cluster.pass(QUIET_MS)
  await makeAccount('first@example.org') // the first login there ever is makes a secret for them all
  await ClusterClient.connect(cluster, edge, 'first@example.org/here')
  await cluster.pass(1_000)
  cluster.requests.length = 0
  const clients = names.map((name) => {
    const connection = connect(edge.edge!.onConnection)
    connection.open('example.org').send(plainAuth(name))
    return { connection, isIn: false, isBound: false }
  })
  const inEachSecond: number[] = []
  for (let asked = 0; clients.some(({ isBound }) => !isBound); asked = cluster.requests.length) {
    for (let ms = 0; ms < 1_000; ms += 20) {
      await cluster.pass(20)
      for (const client of clients) {
        const { connection, isIn, isBound } = client
        if (!isIn && connection.written.includes('<success')) {
          client.isIn = true
          connection.open('example.org')
          connection.send("<iq type='set' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>")
        } else if (isIn && !isBound && connection.written.includes("id='bind'")) {
          client.isBound = true
          connection.send('<presence/>')
        }
      }
    }
    inEachSecond.push(cluster.requests.length - asked)
    expect(inEachSecond.length, `${inEachSecond}`).toBeLessThan(15)
  }
  await cluster.pass(2_000)
  const ofThem = cluster.requests.filter((request) => request.startsWith('query a#player'))
  expect([ofThem.length, cluster.requests.filter((request) => /^(?:put|delete)/.test(request))]).toEqual([60, []])
  // One more for what is let in at once, and one for the texts of the domain.
  expect(Math.max(...inEachSecond), `${inEachSecond}`).toBeLessThanOrEqual(perSecond + 2)
})
