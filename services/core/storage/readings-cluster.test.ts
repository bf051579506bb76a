// What lies in a process of an account that others have had meanwhile is not what it goes by.
import { afterEach, describe, expect, test } from 'vitest'
import { connect, PASSWORD, plainAuth } from '#edge/edge.fixture.ts'
import { Cluster, ClusterClient, type ClusterProcess, type ClusterRole } from '#test/cluster-harness.ts'
import { openCaller } from '../call.ts'

const clusters: Cluster[] = []
afterEach(async () => {
  for (const cluster of clusters.splice(0)) await cluster[Symbol.asyncDispose]()
})

const EDGE: readonly ClusterRole[] = ['edge']
const OWNER: readonly ClusterRole[] = ['router', 'presence']

async function open(...processes: readonly (readonly ClusterRole[])[]) {
  const cluster = new Cluster()
  clusters.push(cluster)
  const started = await cluster.open(EDGE, ...processes)
  const edge = started[0]!
  const caller = openCaller(edge.bus, edge.ownership, cluster.clock)
  const connectAs = async (account: string, resource: string): Promise<ClusterClient> =>
    ClusterClient.connect(cluster, edge, `${account}/${resource}`)
  return {
    ...{ cluster, edge, caller, connectAs },
    owners: started.slice(1),
    makeAccount: (account: string) => cluster.during(caller.ask('router', account, 'account.create', { password: PASSWORD })),
    /** A message makes the router of somebody who is offline read his rows, and nobody asks there for the rest of them. */
    async haveRead(juliet: ClusterClient, account: string): Promise<void> {
      const before = cluster.requests.length
      juliet.message(account, 'are you there?')
      await juliet.acknowledged(1)
      await cluster.until(() => cluster.requests.slice(before).includes(`query a#${account}`), 'they are read')
    },
    /** His roster has another row now, at whoever is presence for him. */
    async subscribe(juliet: ClusterClient, account: string): Promise<void> {
      juliet.send(`<presence type='subscribe' to='${account}'/>`)
      await juliet.acknowledged(2)
    },
    /** RFC 6121 §3.1.3: he is shown the request when he is there, which is in that row. */
    async seesRequest(romeo: ClusterClient): Promise<void> {
      romeo.send('<presence/>')
      await cluster.until(() => romeo.connection.written.includes("type='subscribe'"), 'he is shown what was written meanwhile')
    },
  }
}

describe('what the router has read lies there, and presence in another process writes', () => {
  test.each(['kill', 'leave'] as const)('when that one is gone (%s), its successor beside the router reads anew', async (how) => {
    const { cluster, connectAs, makeAccount, owners, haveRead, subscribe, seesRequest } = await open(OWNER, ['presence'])
    const [both, other] = owners as [ClusterProcess, ClusterProcess]
    const account = cluster.accountOf(other, 'presence', 'romeo')
    for (const name of [account, 'juliet@example.org']) await makeAccount(name)
    const juliet = await connectAs('juliet@example.org', 'balcony')
    await haveRead(juliet, account)
    await subscribe(juliet, account)
    if (how === 'kill') other.kill()
    else await cluster.during(other.leave())
    await cluster.until(() => cluster.ownerOf('presence', account) === both, 'the other one has taken him')
    await seesRequest(await connectAs(account, 'orchard'))
  })
})

test('a process that was taken for dead, and gets the accounts back, reads anew', async () => {
  const { cluster, edge, caller, connectAs, makeAccount, owners, haveRead } = await open(OWNER, OWNER)
  const [first, second] = owners as [ClusterProcess, ClusterProcess]
  const account = cluster.accountOf(first, 'router', 'romeo')
  const sender = cluster.accountOf(second, 'router', 'juliet')
  for (const name of [account, sender]) await makeAccount(name)
  await haveRead(await connectAs(sender, 'balcony'), account)
  first.stop()
  await cluster.until(() => cluster.ownerOf('router', account) === second, 'the other one has taken him')
  await cluster.during(caller.ask('router', account, 'account.disable', { reason: 'banished' }))
  first.goOn()
  await cluster.until(() => first.events('member.fenced') === 1, 'it finds that it was taken for dead')
  await cluster.until(() => cluster.ownerOf('router', account) === first, 'it has him again')
  await cluster.settled()
  const romeo = connect(edge.edge!.onConnection)
  romeo.open('example.org').send(plainAuth(account.split('@')[0]!))
  await cluster.until(() => /<(?:failure|success)/.test(romeo.written), 'he is told whether he may come in')
  expect(romeo.written).toContain('<account-disabled')
})
