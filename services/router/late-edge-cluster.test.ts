// A router that serves accounts of which an edge has not told it yet: what it hears of their sessions meanwhile.
import { afterEach, expect, test } from 'vitest'
import { openCaller } from '#core/call.ts'
import { PASSWORD } from '#edge/edge.fixture.ts'
import offline from '#modules/offline.ts'
import { Cluster, ClusterClient, type ClusterProcess } from '#test/cluster-harness.ts'
import { parseJid } from '#xmpp/jid.ts'

const clusters: Cluster[] = []
afterEach(async () => {
  for (const cluster of clusters.splice(0)) await cluster[Symbol.asyncDispose]()
})

const AVAILABLE = '<presence/>'
const UNAVAILABLE = "<presence type='unavailable'/>"

/**
 * Romeo and the nurse are on one edge, Juliet on the other. Romeo's router has died, the next one has waited for his edge long
 * enough, and what that tells is on its way until `tell`: it has said what was true when it was asked.
 */
async function late(shown: readonly string[]) {
  const cluster = new Cluster({ modules: [offline] })
  clusters.push(cluster)
  const all = await cluster.open(['edge'], ['edge'], ['router'], ['router'], ['presence'])
  const [edge1, edge2, router1, router2] = all as [ClusterProcess, ClusterProcess, ClusterProcess, ClusterProcess]
  const caller = openCaller(edge2.bus, edge2.ownership, cluster.clock)
  const connect = async (at: ClusterProcess, owner: ClusterProcess, name: string): Promise<ClusterClient> => {
    const account = cluster.accountOf(owner, 'router', name)
    await cluster.during(caller.ask('router', account, 'account.create', { password: PASSWORD }))
    const client = await ClusterClient.connect(cluster, at, `${account}/${name}`)
    client.send(AVAILABLE)
    return client
  }
  const romeo = await connect(edge1, router1, 'romeo')
  const juliet = await connect(edge2, router2, 'juliet')
  const nurse = await connect(edge1, router2, 'nurse')
  for (const presence of shown) romeo.send(presence)
  await cluster.pass(300)

  const { bus } = edge1
  const publish = bus.publish.bind(bus)
  let told: Uint8Array | undefined
  const subject = `resynced.router.${router2.id}`
  bus.publish = (to, body) => {
    if (to === subject) told = body.slice()
    else publish(to, body)
  }
  router1.kill()
  const account = parseJid(romeo.jid).bare
  await cluster.until(() => cluster.ownerOf('router', account) === router2, 'the next one is ready')
  expect(router2.events('resync.not_waited_for')).toBe(1)
  told = undefined
  await cluster.until(() => told !== undefined, 'his edge is asked once more')
  const tell = async (): Promise<void> => {
    bus.publish = publish
    publish(subject, told!)
    await cluster.pass(500)
  }
  return { cluster, edge1, romeo, juliet, nurse, account, tell }
}

test('that one is available used to be forgotten, and its edge, which did not know yet, believed', async () => {
  const { cluster, romeo, juliet, account, tell } = await late([UNAVAILABLE])
  romeo.send(AVAILABLE)
  await cluster.pass(500)
  juliet.message(account, 'kept')
  await cluster.pass(500)
  expect(romeo.bodies).toEqual([])
  await tell()
  juliet.message(account, 'next')
  await cluster.until(() => romeo.bodies.includes('next'), 'he gets what is for him', 5_000)
  expect(romeo.bodies).toEqual(['kept', 'next'])
})

test('so was that one is available no more', async () => {
  const { cluster, romeo, juliet, account, tell } = await late([])
  romeo.send(UNAVAILABLE)
  await cluster.pass(500)
  await tell()
  juliet.message(account, 'kept')
  await cluster.pass(2_000)
  expect(romeo.bodies).toEqual([])
  romeo.send(AVAILABLE)
  await cluster.until(() => romeo.bodies.includes('kept'), 'it is there for him when he is', 5_000)
})

test('one that is not known used to be closed because its edge asked, having missed something', async () => {
  const { cluster, edge1, romeo, juliet, nurse, account, tell } = await late([])
  cluster.loses = (subject) => subject === `edge.${edge1.id}`
  juliet.message(nurse.jid, 'lost')
  await cluster.pass(15_000)
  cluster.loses = () => false
  juliet.message(nurse.jid, 'heard')
  await cluster.until(() => edge1.events('deliveries.lost') > 0, 'the edge asks')
  await cluster.pass(1_000)
  await tell()
  expect(romeo.connection.ended).toBe(false)
  juliet.message(account, 'hi')
  await cluster.until(() => romeo.bodies.includes('hi'), 'it is known now', 5_000)
})
