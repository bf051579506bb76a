// A record that both roles go by, where they are in two processes and the table has its own pace.
import { afterEach, describe, expect, test } from 'vitest'
import { PASSWORD } from '#edge/edge.fixture.ts'
import blocking from '#modules/blocking.ts'
import { memoryTable } from '#table/memory.ts'
import type { Table } from '#table/table.ts'
import { Cluster, ClusterClient, type ClusterProcess } from '#test/cluster-harness.ts'
import { parseJid } from '#xmpp/jid.ts'
import { openCaller } from '../call.ts'
import type { Clock } from '../clock.ts'
import { type AnyModule, defineModule } from '../module.ts'
import type { SharedRecord } from './shared.ts'

const NS_BLOCKING = 'urn:xmpp:blocking'
const clusters: Cluster[] = []
afterEach(async () => {
  for (const cluster of clusters.splice(0)) await cluster[Symbol.asyncDispose]()
})

/** Whatever is put there, but leases and logs, takes so long. */
class SlowTable implements Table {
  readonly #table: Table
  readonly #clock: () => Clock
  slowMs = 0

  constructor(clock: () => Clock) {
    this.#clock = clock
    this.#table = memoryTable({ now: () => clock().now() })
  }

  get: Table['get'] = (key) => this.#table.get(key)
  query: Table['query'] = (pk, range) => this.#table.query(pk, range)
  delete: Table['delete'] = (key, condition) => this.#table.delete(key, condition)
  put: Table['put'] = async (row, condition) => {
    if (row.pk.startsWith('a#') && this.slowMs > 0) {
      await new Promise<void>((resolve) => this.#clock().setTimeout(resolve, this.slowMs))
    }
    return this.#table.put(row, condition)
  }
}

async function open(modules: readonly AnyModule[], routers: 1 | 2 = 1) {
  const table: SlowTable = new SlowTable(() => cluster.clock)
  const cluster: Cluster = new Cluster({ modules, table })
  clusters.push(cluster)
  const more = routers === 2 ? [['router'] as const] : []
  const [edge, router] = (await cluster.open(['edge'], ['router'], ['presence'], ...more)) as [ClusterProcess, ClusterProcess]
  const caller = openCaller(edge.bus, edge.ownership, cluster.clock)
  const connect = async (account: string, resource: string): Promise<ClusterClient> => {
    await cluster.during(caller.ask('router', account, 'account.create', { password: PASSWORD }))
    return ClusterClient.connect(cluster, edge, `${account}/${resource}`)
  }
  return { cluster, table, router, connect }
}

test('the other role used to read it before it was in the table, and to go by what it was for ever', async () => {
  const read: number[] = []
  const module: AnyModule = defineModule({
    name: 'counting',
    home: 'router',
    xeps: [],
    namespaces: ['urn:count'],
    setup(app) {
      const count: SharedRecord<number, string> = app.sharedRecord('count', 0, (account) =>
        count.read(account, (value) => void read.push(value)),
      )
      app.iq('set', 'urn:count', 'up', 'self', async ({ account }) => {
        await count.update(account, (before) => before + 1)
        await count.confirm(account, 'up')
      })
    },
  })
  const { cluster, table, connect } = await open([module])
  const romeo = await connect('romeo@example.org', 'orchard')
  table.slowMs = 300
  romeo.send("<iq type='set' id='up'><up xmlns='urn:count'/></iq>")
  await cluster.until(() => romeo.connection.written.includes("id='up'"), 'it is answered')
  expect(romeo.connection.written).toMatch(/<iq [^>]*type='result'/)
  expect(read).toEqual([1])
})

describe('XEP-0191 §3.3, §3.4: a router that has stored a block and dies before presence hears of it', () => {
  /** Romeo and Juliet see each other. Of what he asks, the router that handles the last is killed, and his edge asks the next one. */
  async function lastAskedTwice(...iqs: readonly string[]) {
    const { cluster, connect, router } = await open([blocking], 2)
    const romeo = await connect(cluster.accountOf(router, 'router', 'romeo'), 'orchard')
    const juliet = await connect('juliet@example.org', 'balcony')
    for (const client of [romeo, juliet]) client.send('<presence/>')
    for (const type of ['subscribe', 'subscribed']) {
      romeo.send(`<presence type='${type}' to='${bareOf(juliet.jid)}'/>`)
      juliet.send(`<presence type='${type}' to='${bareOf(romeo.jid)}'/>`)
      await cluster.pass(300)
    }
    expect([juliet.sees(romeo.jid), romeo.sees(juliet.jid)]).toEqual(['available', 'available'])
    const isAnswered = (id: number) => new RegExp(`<iq [^>]*id='${id}'`).test(romeo.connection.written)
    const last = iqs.length - 1
    for (const [id, iq] of iqs.entries()) {
      if (id === last) cluster.loses = (subject) => subject.startsWith('lane.presence.')
      romeo.send(`<iq type='set' id='${id}'>${iq}</iq>`)
      if (id < last) await cluster.until(() => isAnswered(id), 'he is answered')
    }
    await cluster.pass(400)
    expect(isAnswered(last)).toBe(false)
    router.kill()
    cluster.loses = () => false
    await cluster.until(() => isAnswered(last), 'he is answered by the next one')
    await cluster.pass(200)
    return juliet.sees(romeo.jid)
  }

  test('used to leave him on her screen', async () => {
    expect(await lastAskedTwice(`<block xmlns='${NS_BLOCKING}'><item jid='juliet@example.org'/></block>`)).toBe('unavailable')
  })

  test('or to keep him off it, when all were unblocked', async () => {
    const block = `<block xmlns='${NS_BLOCKING}'><item jid='juliet@example.org'/></block>`
    expect(await lastAskedTwice(block, `<unblock xmlns='${NS_BLOCKING}'/>`)).toBe('available')
  })
})

const bareOf = (jid: string): string => parseJid(jid).bare
