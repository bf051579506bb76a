// Processes that are out of reach for a while and come back: whoever is connected there is known, or is told to connect anew.
import { afterEach, describe, expect, test } from 'vitest'
import { PASSWORD } from '#edge/edge.fixture.ts'
import offline from '#modules/offline.ts'
import { Cluster, ClusterClient, type ClusterProcess, type ClusterRole } from '#test/cluster-harness.ts'
import { parseJid } from '#xmpp/jid.ts'
import { openCaller } from '../call.ts'
import type { AnyModule } from '../module.ts'

const clusters: Cluster[] = []
afterEach(async () => {
  for (const cluster of clusters.splice(0)) await cluster[Symbol.asyncDispose]()
})

async function open(...roles: readonly (readonly ClusterRole[])[]) {
  const cluster = new Cluster({ modules: [offline] as AnyModule[] })
  clusters.push(cluster)
  const processes = await cluster.open(['edge'], ['edge'], ...roles)
  const [here, there] = processes as [ClusterProcess, ClusterProcess]
  const caller = openCaller(here.bus, here.ownership, cluster.clock)
  const create = (account: string) => cluster.during(caller.ask('router', account, 'account.create', { password: PASSWORD }))
  const connect = async (at: ClusterProcess, full: string): Promise<ClusterClient> => {
    const client = await ClusterClient.connect(cluster, at, full)
    client.send('<presence/>')
    return client
  }
  for (const name of ['romeo', 'juliet']) await create(`${name}@example.org`)
  return { cluster, here, there, processes, connect }
}

/** What is sent to a client that is connected reaches it; to one that is not, nothing is said any more. */
async function demandKnown(cluster: Cluster, from: ClusterClient, client: ClusterClient, n: number): Promise<void> {
  await cluster.pass(12_000)
  if (client.connection.written.includes('</stream:stream>')) return
  from.message(parseJid(client.jid).bare, `m${n}`)
  await cluster.until(() => client.bodies.includes(`m${n}`), `m${n} is shown to ${client.jid}, who is connected`)
}

describe('an edge that stood still for about as long as its lease runs', () => {
  test('and whose lease nobody had broken used to keep streams that nobody knew of', async () => {
    const { cluster, here, there, processes, connect } = await open(['router'], ['router'], ['presence'])
    // Each process comes to its own verdict, and only one of them breaks the lease: it is not as far yet.
    for (const { membership } of processes) membership.breakLease = () => new Promise(() => {})
    const romeo = await connect(here, 'romeo@example.org/a')
    const juliet = await connect(there, 'juliet@example.org/b')
    there.stop()
    await cluster.pass(7_900)
    there.goOn()
    await demandKnown(cluster, romeo, juliet, 1)
    expect(juliet.connection.written).not.toContain('</stream:stream>')
  })

  for (const ms of [6_500, 9_000])
    test(`${ms} ms: its clients are known, or told to log in anew`, async () => {
      const { cluster, here, there, connect } = await open(['router'], ['router'], ['presence'])
      const romeo = await connect(here, 'romeo@example.org/a')
      const juliet = await connect(there, 'juliet@example.org/b')
      there.stop()
      await cluster.pass(ms)
      there.goOn()
      await demandKnown(cluster, romeo, juliet, 1)
    })
})

test('what is bound on an edge that has not joined anew yet is known, or ended', async () => {
  const { cluster, here, there, connect } = await open(['router'], ['presence'])
  const romeo = await connect(here, 'romeo@example.org/a')
  there.stop()
  await cluster.pass(10_000)
  there.goOn()
  await cluster.pass(20)
  const juliet = await connect(there, 'juliet@example.org/b')
  await demandKnown(cluster, romeo, juliet, 1)
})

describe('a process that cannot reach the bus, but the table', () => {
  test('as router: its accounts are served by another after some seconds', async () => {
    const { cluster, here, there, processes, connect } = await open(['router'], ['router'], ['presence'])
    const romeo = await connect(here, 'romeo@example.org/a')
    const juliet = await connect(there, 'juliet@example.org/b')
    await cluster.pass(1_000)
    const cut = cluster.ownerOf('router', 'juliet@example.org')!
    const other = processes.slice(2, 4).find((process) => process !== cut)!
    cut.bus.turn('down')
    romeo.message('juliet@example.org', 'm1')
    const isTaken = () => other.ownership.ownsPartition('router', 0) && cluster.ownerOf('router', 'juliet@example.org') === other
    await cluster.until(isTaken, 'the other router has them')
    await cluster.until(() => juliet.bodies.includes('m1'), 'the message is shown')
    cut.bus.turn('up')
    await cluster.pass(15_000)
    expect(juliet.bodies).toEqual(['m1'])
  })

  test('as edge: used to show its clients as available for as long as it was cut off; it ends their streams', async () => {
    const { cluster, here, there, connect } = await open(['router'], ['presence'])
    const romeo = await connect(here, 'romeo@example.org/a')
    const juliet = await connect(there, 'juliet@example.org/b')
    await cluster.pass(1_000)
    there.bus.turn('down')
    await cluster.until(() => juliet.connection.written.includes('<system-shutdown'), 'her stream is ended')
    await cluster.pass(10_000)
    romeo.message('juliet@example.org', 'm1')
    await cluster.pass(2_000)
    there.bus.turn('up')
    const again = await connect(here, 'juliet@example.org/c')
    await cluster.until(() => again.bodies.includes('m1'), 'it was kept for her')
    expect(juliet.bodies).toEqual([])
  })

  test('as all of them at once: streams stay, and go on', async () => {
    const { cluster, here, there, processes, connect } = await open(['router'], ['router'], ['presence'])
    const romeo = await connect(here, 'romeo@example.org/a')
    const juliet = await connect(there, 'juliet@example.org/b')
    await cluster.pass(1_000)
    const owner = cluster.ownerOf('router', 'juliet@example.org')!
    for (const process of processes) process.bus.turn('down')
    romeo.message('juliet@example.org', 'm1')
    await cluster.pass(30_000)
    for (const process of processes) {
      process.bus.turn('up')
      await cluster.pass(700)
    }
    await cluster.until(() => juliet.bodies.includes('m1'), 'the message is shown')
    expect(cluster.ownerOf('router', 'juliet@example.org')).toBe(owner)
    for (const { connection } of [romeo, juliet]) expect(connection.written).not.toContain('</stream:stream>')
  })
})
