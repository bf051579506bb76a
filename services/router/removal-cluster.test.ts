// Removals where accounts come and go: of all owners there is one at a time who goes on with it, until nothing is left.
import { afterEach, expect, test } from 'vitest'
import { openCaller } from '#core/call.ts'
import { PASSWORD } from '#edge/edge.fixture.ts'
import mam from '#modules/mam.ts'
import { memoryTable } from '#table/memory.ts'
import type { Table } from '#table/table.ts'
import { Cluster, ClusterClient, type ClusterProcess } from '#test/cluster-harness.ts'
import { rowsOf } from '#test/support/rows.ts'

const clusters: Cluster[] = []
afterEach(async () => {
  for (const cluster of clusters.splice(0)) await cluster[Symbol.asyncDispose]()
})

/** More than a few portions. */
const ROWS = 5_500
const SLOW_BEHIND = 2_500

const ofAccount = (cluster: Cluster, account: string) => rowsOf(cluster.table, `a#${account}`, `j#mam#${account}`, 'o#removals')

/** A table that does not get over SLOW_BEHIND deletions of archived messages until it is told to. */
function slowTable(): Table & { goOn(): void } {
  const table = memoryTable()
  let deleted = 0
  let goOn = (): void => {}
  const gate = new Promise<void>((resolve) => (goOn = resolve))
  return {
    get: (key) => table.get(key),
    put: (row, condition) => table.put(row, condition),
    query: (pk, range) => table.query(pk, range),
    async delete(key, condition) {
      if (key.pk.startsWith('j#') && ++deleted > SLOW_BEHIND) await gate
      return table.delete(key, condition)
    },
    goOn: () => goOn(),
  }
}

/** An account with a long archive, at the first of two routers, of which a part is deleted. */
async function underWay() {
  const table = slowTable()
  const cluster = new Cluster({ modules: [mam], table })
  clusters.push(cluster)
  const [edge, router1, router2] = (await cluster.open(['edge'], ['router'], ['router'], ['presence'])) as ClusterProcess[] & {
    0: ClusterProcess
    1: ClusterProcess
    2: ClusterProcess
  }
  const account = cluster.accountOf(router1, 'router', 'romeo')
  const caller = openCaller(edge.bus, edge.ownership, cluster.clock)
  const make = () => cluster.during(caller.ask('router', account, 'account.create', { password: PASSWORD }))
  await make()
  const pk = `j#mam#${account}`
  for (let n = 0; n < ROWS; n++) await cluster.table.put({ pk, sk: `${n}`, version: `v${n}`, value: Buffer.from('x') })
  const told = caller.ask('router', account, 'account.remove', { waitMs: 1 })
  const isDeletion = (request: string) => request === `delete ${pk}`
  await cluster.until(() => cluster.requests.filter(isDeletion).length > SLOW_BEHIND, 'two portions are deleted, and a half')
  return {
    ...{ table, cluster, edge, router1, router2, account, make },
    /** What the command would say, asked again and again. */
    async finished(): Promise<number> {
      await cluster.during(told.catch(() => {}))
      for (let asked = 1; ; asked++) {
        const { finished } = await cluster.during(caller.ask('router', account, 'account.removal', {}))
        if (finished) return asked
      }
    },
    stillThere: () => rowsOf(cluster.table, pk).then((rows) => rows.length),
  }
}

test('a router that dies while it deletes is followed by the next owner, and not before is it told that it is done', async () => {
  const { table, cluster, router1, router2, account, finished, stillThere, make } = await underWay()
  router1.kill()
  expect(await stillThere()).toBe(ROWS - SLOW_BEHIND)
  table.goOn()
  await finished()
  expect([await ofAccount(cluster, account), router2.events('account.removal_resumed')]).toEqual([[], 1])
  await make()
  expect(await ofAccount(cluster, account)).toEqual([`a#${account} account`])
})

test('one whose partition is handed on stops, and the next owner goes on', async () => {
  const { table, cluster, router1, router2, account, finished } = await underWay()
  const leaving = router1.leave()
  table.goOn()
  await cluster.during(leaving)
  expect(router1.events('account.erased')).toBe(0)
  await finished()
  expect([await ofAccount(cluster, account), router2.events('account.erased')]).toEqual([[], 1])
})

test('a router that was taken for dead does no harm to whoever has the name by then', async () => {
  const { table, cluster, edge, router1, router2, account, finished, make } = await underWay()
  router1.stop()
  table.goOn()
  await cluster.until(() => cluster.ownerOf('router', account) === router2, 'the other one has its accounts')
  await finished()
  await make()
  const romeo = await ClusterClient.connect(cluster, edge, `${account}/orchard`)
  router1.goOn()
  await cluster.until(() => router1.events('member.fenced') === 1, 'it finds that it was taken for dead')
  await cluster.settled()
  await cluster.pass(5_000)
  romeo.message(romeo.jid, 'I am here')
  await romeo.acknowledged(1)
  const rows = await rowsOf(cluster.table, `a#${account}`, 'o#removals')
  expect([rows, router1.events('account.erased')]).toEqual([[`a#${account} account`], 0])
  const listed: string[] = []
  for (let n = 0; n < 16; n++) listed.push(...(await rowsOf(cluster.table, `u#example.org#0${n.toString(16)}`)))
  expect(listed).toHaveLength(1)
})

test('a router that has just come does not look for what others own', async () => {
  const { table, cluster, router2, finished } = await underWay()
  table.goOn()
  const third = cluster.start('router')
  await cluster.settled()
  await finished()
  const erased = cluster.processes.reduce((sum, process) => sum + process.events('account.erased'), 0)
  expect([erased, router2.events('account.removal_resumed')]).toEqual([1, 0])
  expect(third.events('account.removals_delayed')).toBe(0)
})
