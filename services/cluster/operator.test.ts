import { afterEach, describe, expect, test } from 'vitest'
import { Administration } from '#core/administration.ts'
import { openCaller } from '#core/call.ts'
import { memoryLog } from '#core/observing/log.ts'
import { partitionOf } from '#core/ownership/ownership.ts'
import { PASSWORD } from '#edge/edge.fixture.ts'
import { Cluster, ClusterClient, type ClusterProcess } from '#test/cluster-harness.ts'
import { TAKE_OVER_MS, untilAnswering } from './answering.ts'
import { ADDRESSES, OwnersView } from './owners-view.ts'

const clusters: Cluster[] = []
afterEach(async () => {
  for (const cluster of clusters.splice(0)) await cluster[Symbol.asyncDispose]()
})

async function open() {
  const cluster = new Cluster()
  clusters.push(cluster)
  const started = await cluster.open(['edge'], ['router'], ['router'], ['presence'])
  const [edge, router1, router2, presence] = started as [ClusterProcess, ClusterProcess, ClusterProcess, ClusterProcess]
  const said: string[] = []
  return {
    ...{ cluster, edge, router1, router2, presence, said },
    /** What a command goes by, once it may begin. */
    async begin(): Promise<{ view: OwnersView; administration: Administration }> {
      const view = await OwnersView.open(cluster.table, cluster.clock, memoryLog())
      view.follow(edge.bus)
      const caller = openCaller(edge.bus, view, cluster.clock)
      const { clock } = cluster
      await cluster.during(untilAnswering({ ownership: view, caller, clock, onWait: (text) => void said.push(text) }))
      return { view, administration: new Administration(caller, view) }
    },
    async online(owner: ClusterProcess, name: string): Promise<ClusterClient> {
      const account = cluster.accountOf(owner, 'router', name)
      const caller = openCaller(edge.bus, edge.ownership, cluster.clock)
      await cluster.during(caller.ask('router', account, 'account.create', { password: PASSWORD }))
      return ClusterClient.connect(cluster, edge, `${account}/${name}`)
    },
  }
}

async function sessionsOf(cluster: Cluster, administration: Administration): Promise<string[]> {
  const jids: string[] = []
  const listing = (async () => {
    for await (const { jid } of administration.sessions()) jids.push(jid)
  })()
  await cluster.during(listing)
  return jids.sort()
}

test('there is an address in every partition', () => {
  expect(ADDRESSES.map(partitionOf)).toEqual([...ADDRESSES.keys()])
})

test('a command asks whom the rows name, each of them once for what is about all accounts, and says nothing of it', async () => {
  const { cluster, begin, online, router1, router2, presence, said } = await open()
  const jids = [(await online(router1, 'romeo')).jid, (await online(router2, 'juliet')).jid]
  const { view, administration } = await begin()
  expect([...view.ownersOf('router')].sort()).toEqual([router1.id, router2.id].sort())
  expect(view.ownersOf('presence')).toEqual([presence.id])
  expect(view.ownerOf('router', jids[0]!.split('/')[0]!)).toBe(router1.id)
  expect([view.sure(), view.owns()]).toEqual([false, false])
  expect(await sessionsOf(cluster, administration)).toEqual(jids.sort())
  expect(said).toEqual([])
})

test('where nobody ever ran, it says at once what to start', async () => {
  const { cluster } = await open()
  const nobody = new Cluster()
  clusters.push(nobody)
  await expect(OwnersView.open(nobody.table, cluster.clock, memoryLog())).rejects.toThrow(
    /^no process of the cluster is router; start one: .*--role router/,
  )
})

describe('while an owner is dead', () => {
  test('a list used to fail: it waits until others have taken his accounts, says so once, and leaves nobody out', async () => {
    const { cluster, begin, online, router1, router2, said } = await open()
    const jids = [(await online(router1, 'romeo')).jid, (await online(router2, 'juliet')).jid]
    router1.kill()
    const { view, administration } = await begin()
    expect(view.ownersOf('router')).toEqual([router2.id])
    expect(await sessionsOf(cluster, administration)).toEqual(jids.sort())
    expect(said).toEqual([
      expect.stringMatching(/^\d+ of 128 partitions have no router that answers: waiting for up to 15 s, while others/),
    ])
  })

  test('so does one that has stopped, and does not answer', async () => {
    const { cluster, begin, online, router1, router2 } = await open()
    const { jid } = await online(router1, 'romeo')
    router1.stop()
    const { view, administration } = await begin()
    expect(view.ownersOf('router')).toEqual([router2.id])
    expect(await sessionsOf(cluster, administration)).toEqual([jid])
  })

  test('and nobody takes them, it ends after the time of a take-over, and says what to start', async () => {
    const { begin, presence, said, cluster } = await open()
    presence.kill()
    const sinceMs = cluster.clock.monotonic()
    await expect(begin()).rejects.toThrow(
      /^128 of 128 partitions have no presence that answers, after 15 s; start one: .*--role presence/,
    )
    expect(cluster.clock.monotonic() - sinceMs).toBeGreaterThanOrEqual(TAKE_OVER_MS)
    expect(said).toHaveLength(1)
  })
})
