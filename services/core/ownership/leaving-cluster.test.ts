// A process that leaves its cluster and cannot give away what it has, as the table does not take it.
import { afterEach, expect, test } from 'vitest'
import { PASSWORD } from '#edge/edge.fixture.ts'
import mam from '#modules/mam.ts'
import type { Row } from '#table/table.ts'
import { TableUnavailable } from '#table/table.ts'
import { Cluster, ClusterClient, type ClusterProcess } from '#test/cluster-harness.ts'
import { openCaller } from '../call.ts'
import { logKey } from '../commits/log-item.ts'

const clusters: Cluster[] = []
afterEach(async () => {
  for (const cluster of clusters.splice(0)) await cluster[Symbol.asyncDispose]()
})

/** Rows under this key are refused, until the function that it returns is called. */
function refuseRows({ table }: Cluster, key: string): () => void {
  const put = table.put.bind(table)
  table.put = async (row: Row, condition) => {
    if (row.pk === key) throw new TableUnavailable('this one is not taken')
    return put(row, condition)
  }
  return () => {
    table.put = put
  }
}

test('a role used to stop never where its process had left with something in hand: it ends, and what was not acked comes again', async () => {
  const cluster = new Cluster({ modules: [mam] })
  clusters.push(cluster)
  const [edge, router1, router2] = (await cluster.open(['edge'], ['router'], ['router'], ['presence'])) as [
    ClusterProcess,
    ClusterProcess,
    ClusterProcess,
  ]
  const account = cluster.accountOf(router1, 'router', 'romeo')
  const caller = openCaller(edge.bus, edge.ownership, cluster.clock)
  await cluster.during(caller.ask('router', account, 'account.create', { password: PASSWORD }))
  const romeo = await ClusterClient.connect(cluster, edge, `${account}/orchard`)
  const taken = refuseRows(cluster, logKey(router1.id, 'router'))
  romeo.message(romeo.jid, 'hi')
  await cluster.pass(1_000)
  expect(romeo.bodies).toEqual([])

  const leaving = router1.leave()
  await cluster.pass(10_100)
  expect([router1.events('ownership.left_behind'), router1.left]).toEqual([1, true])
  await leaving
  taken()
  await cluster.until(() => cluster.ownerOf('router', account) === router2, 'the other one has taken what was left')
  await romeo.acknowledged(1)
  expect([...new Set(romeo.bodies)]).toEqual(['hi'])
})
