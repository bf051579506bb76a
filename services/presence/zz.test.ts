// Owners that die, and what the next one makes certain: a cluster of its own, with real edges.
import { afterEach, expect, test } from 'vitest'
import { openCaller } from '#core/call.ts'
import { PASSWORD } from '#edge/edge.fixture.ts'
import { Cluster, ClusterClient, type ClusterOptions, type ClusterProcess } from '#test/cluster-harness.ts'

const clusters: Cluster[] = []
afterEach(async () => {
  for (const cluster of clusters.splice(0)) await cluster[Symbol.asyncDispose]()
})

const bareOf = (jid: string): string => jid.slice(0, jid.indexOf('/'))

/** Romeo at one edge, whom Juliet at the other sees; the first presence service owns him, the other one her. */
async function stage(options: ClusterOptions = {}) {
  const cluster = new Cluster(options)
  clusters.push(cluster)
  const [edge1, edge2, , presence1, presence2] = (await cluster.open(
    ['edge'],
    ['edge'],
    ['router'],
    ['presence'],
    ['presence'],
  )) as [ClusterProcess, ClusterProcess, ClusterProcess, ClusterProcess, ClusterProcess]
  const newcomer = async (at: ClusterProcess, owner: ClusterProcess, name: string): Promise<ClusterClient> => {
    const account = cluster.accountOf(owner, 'presence', name)
    const caller = openCaller(edge1.bus, edge1.ownership, cluster.clock)
    await cluster.during(caller.ask('router', account, 'account.create', { password: PASSWORD }))
    return ClusterClient.connect(cluster, at, `${account}/${name}`)
  }
  const romeo = await newcomer(edge1, presence1, 'romeo')
  const juliet = await newcomer(edge2, presence2, 'juliet')
  for (const client of [romeo, juliet]) client.send('<presence/>')
  juliet.send(`<presence type='subscribe' to='${bareOf(romeo.jid)}'/>`)
  await cluster.pass(200)
  romeo.send(`<presence type='subscribed' to='${bareOf(juliet.jid)}'/>`)
  await cluster.until(() => juliet.sees(romeo.jid) === 'available', 'she sees him')
  await cluster.pass(1_000) // what is durable is in the table
  const takenBy = (process: ClusterProcess) =>
    cluster.until(() => cluster.ownerOf('presence', bareOf(romeo.jid)) === process, 'another process owns him')
  let changes = 0
  /** His row of her, as of an owner who died before he could tell anybody. */
  const subscription = async (to: string): Promise<void> => {
    const key = { pk: `a#${bareOf(romeo.jid)}`, sk: `roster#${bareOf(juliet.jid)}` }
    const { value } = (await cluster.table.get(key))!
    const item = { ...JSON.parse(Buffer.from(value).toString()), subscription: to }
    await cluster.table.put({ ...key, version: `~99999999${++changes}`, value: Buffer.from(JSON.stringify(item)) })
  }
  return { cluster, edge1, edge2, presence1, presence2, romeo, juliet, subscription, takenBy }
}


test('refused', async () => {
  const { cluster, presence1, presence2, romeo, juliet, takenBy } = await stage()
  romeo.send('<presence id="bad"><priority>999</priority></presence>')
  await cluster.until(() => romeo.connection.written.includes('bad-request'), 'refused')
  await cluster.pass(1_000)
  expect(juliet.sees(romeo.jid)).toBe('available')
  presence1.kill()
  await takenBy(presence2)
  await cluster.pass(5_000)
  expect(juliet.sees(romeo.jid)).toBe('available')
})
