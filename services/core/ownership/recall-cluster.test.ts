// Many messages that come again to the next owner of their accounts, as nobody has told whether they were handled.
import { afterEach, expect, test } from 'vitest'
import { PASSWORD } from '#edge/edge.fixture.ts'
import mam from '#modules/mam.ts'
import { Cluster, ClusterClient, type ClusterProcess } from '#test/cluster-harness.ts'
import { openCaller } from '../call.ts'
import { journalKey } from '../storage/journal.ts'

const clusters: Cluster[] = []
afterEach(async () => {
  for (const cluster of clusters.splice(0)) await cluster[Symbol.asyncDispose]()
})

const MESSAGES = 200

test('used to cost two queries each, one after the other: the archive of each account is asked once, and has each message once', async () => {
  const cluster = new Cluster({ modules: [mam], config: { limits: { inFlightPerSession: MESSAGES } } })
  clusters.push(cluster)
  const [edge, router1, router2] = (await cluster.open(['edge'], ['router'], ['router'], ['presence'])) as [
    ClusterProcess,
    ClusterProcess,
    ClusterProcess,
  ]
  const caller = openCaller(edge.bus, edge.ownership, cluster.clock)
  const online = async (name: string): Promise<ClusterClient> => {
    const account = cluster.accountOf(router1, 'router', name)
    await cluster.during(caller.ask('router', account, 'account.create', { password: PASSWORD }))
    return ClusterClient.connect(cluster, edge, `${account}/${name}`)
  }
  const [romeo, juliet] = [await online('romeo'), await online('juliet')]
  cluster.loses = (subject) => subject.startsWith('ack.')
  for (let n = 0; n < MESSAGES; n++) romeo.message(juliet.jid, `m${n}`)
  await cluster.pass(1_000)
  expect([juliet.bodies.length, romeo.handled]).toEqual([MESSAGES, -1])

  router1.kill()
  cluster.loses = () => false
  cluster.requests.length = 0
  await cluster.until(() => cluster.ownerOf('router', juliet.jid.split('/')[0]!) === router2, 'the other one has taken them')
  await romeo.acknowledged(MESSAGES)
  expect(new Set(juliet.bodies).size).toBe(MESSAGES)
  for (const { jid } of [romeo, juliet]) {
    const key = journalKey('mam', jid.split('/')[0]!)
    expect(cluster.requests.filter((request) => request === `query ${key}`)).toHaveLength(1)
    let entries = 0
    for await (const _ of cluster.table.query(key, { to: '~' })) entries++
    expect(entries).toBe(MESSAGES)
  }
})
