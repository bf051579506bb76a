import { afterEach, describe, expect, test } from 'vitest'
import { openCaller } from '#core/call.ts'
import { Cluster, ClusterClient, type ClusterProcess } from '#test/cluster-harness.ts'
import { connect, type FakeConnection, PASSWORD, plainAuth } from '../edge.fixture.ts'
import { message, NS_SM, resume } from '../puppets.fixture.ts'

const ROMEO = 'romeo@example.org'
const clusters: Cluster[] = []
afterEach(async () => {
  for (const cluster of clusters.splice(0)) await cluster[Symbol.asyncDispose]()
})

/** Two edges, and one process that owns all accounts; Romeo is on the first edge. */
async function open() {
  const cluster = new Cluster()
  clusters.push(cluster)
  const [owner, one, two] = (await cluster.open(['router', 'presence'], ['edge'], ['edge'])) as [
    ClusterProcess,
    ClusterProcess,
    ClusterProcess,
  ]
  const caller = openCaller(two.bus, two.ownership, cluster.clock)
  await cluster.during(caller.ask('router', ROMEO, 'account.create', { password: PASSWORD }))
  const romeo = await ClusterClient.connect(cluster, one, `${ROMEO}/orchard`)
  await cluster.until(() => romeo.connection.written.includes('<enabled'), 'stream management')
  const previd = /<enabled [^>]*id='([^']*)'/.exec(romeo.connection.written)![1]!
  return { cluster, owner, one, two, romeo, previd }
}

async function comeBack(cluster: Cluster, at: ClusterProcess, previd: string, h: number): Promise<FakeConnection> {
  const connection = connect(at.edge!.onConnection)
  const came = (wanted: string) => cluster.until(() => connection.written.includes(wanted), wanted)
  connection.open().send(plainAuth('romeo'))
  await came('<success')
  connection.open().send(resume(previd, h))
  return connection
}

describe('XEP-0198 §5 of an edge that is killed', () => {
  test('a client that comes back in time is told how much of what it has said was handled, and begins anew', async () => {
    const { cluster, one, two, romeo, previd } = await open()
    romeo.send(`<presence/>${message(ROMEO, '1')}${message(ROMEO, '2')}`)
    await cluster.until(() => romeo.bodies.length === 2, 'what he writes to himself')
    one.kill()
    const back = await comeBack(cluster, two, previd, 0)
    await cluster.until(() => back.written.includes('<failed'), 'the answer', 20_000)
    expect(back.written).toMatch(new RegExp(`<failed xmlns='${NS_SM}' h='3'><item-not-found`))
    back.send("<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>orchard</resource></bind></iq>")
    await cluster.until(() => back.written.includes('<jid>'), 'a new session')
  })

  test('what was said before stream management was enabled does not count', async () => {
    const { cluster, one, two, romeo } = await open()
    const late = connect(one.edge!.onConnection)
    late.open().send(plainAuth('romeo'))
    await cluster.until(() => late.written.includes('<success'), 'the login')
    late.open().send("<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>late</resource></bind></iq>")
    await cluster.until(() => late.written.includes('<jid>'), 'the bind')
    late.send(`${message(ROMEO, '1')}${message(ROMEO, '2')}<enable xmlns='${NS_SM}' resume='true'/>${message(ROMEO, '3')}`)
    await cluster.until(() => late.written.includes('<enabled'), 'stream management')
    const previd = /<enabled [^>]*id='([^']*)'/.exec(late.written)![1]!
    await cluster.pass(500)
    expect(romeo.connection.written).toBeDefined()
    one.kill()
    const back = await comeBack(cluster, two, previd, 0)
    await cluster.until(() => back.written.includes('<failed'), 'the answer', 20_000)
    expect(back.written).toContain(`<failed xmlns='${NS_SM}' h='1'>`)
  })

  test('a client that comes later finds that nobody knows any more', async () => {
    const { cluster, one, two, previd } = await open()
    one.kill()
    await cluster.pass(15_000)
    const back = await comeBack(cluster, two, previd, 0)
    await cluster.until(() => back.written.includes('<failed'), 'the answer', 20_000)
    expect(back.written).toContain(`<failed xmlns='${NS_SM}'><item-not-found`)
  })
})
