// Owners that die, and what the next one makes certain: a cluster of its own, with real edges.
import { afterEach, expect, test } from 'vitest'
import { openCaller } from '#core/call.ts'
import { PASSWORD } from '#edge/edge.fixture.ts'
import blocking from '#modules/blocking.ts'
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

test('who sees an account though its roster says that she may not, sees it go when another owner has come; and come back, when it says so again', async () => {
  const { cluster, presence1, presence2, romeo, juliet, subscription, takenBy } = await stage()
  await subscription('none')
  presence1.kill()
  await takenBy(presence2)
  await cluster.until(() => juliet.sees(romeo.jid) === 'unavailable', 'she sees him go')
  romeo.send('<presence><status>a secret</status></presence>')
  await cluster.pass(2_000)
  expect(juliet.connection.written).not.toContain('a secret')

  await subscription('from')
  const third = cluster.start('presence')
  await cluster.settled()
  presence2.kill()
  await takenBy(third)
  await cluster.until(() => juliet.connection.written.includes('a secret'), 'she sees him again, as he is')
})

test('what an owner has held back when he dies is shown by the next one', async () => {
  const { cluster, presence1, presence2, romeo, juliet, takenBy } = await stage({ config: { presence: { windowMs: 60_000 } } })
  for (const text of ['one', 'two']) romeo.send(`<presence><status>${text}</status></presence>`)
  await romeo.acknowledged(4)
  await cluster.pass(1_000)
  expect(juliet.connection.written).not.toContain('two')
  presence1.kill()
  await takenBy(presence2)
  await cluster.until(() => juliet.connection.written.includes('<status>two</status>'), 'she sees the latest')
})

test('§4.7.2.3: one whose last presence was refused is seen as he was before, by the next owner, too: he used to be gone', async () => {
  const { cluster, presence1, presence2, romeo, juliet, takenBy } = await stage()
  romeo.send('<presence><priority>999</priority></presence>')
  await cluster.until(() => romeo.connection.written.includes('<bad-request'), 'it is refused')
  await cluster.pass(1_000)
  presence1.kill()
  await takenBy(presence2)
  await cluster.pass(5_000)
  expect(juliet.sees(romeo.jid)).toBe('available')
})

test('XEP-0191 §3.3: directed presence that was refused, to one who is blocked, is not taken back by the next owner', async () => {
  const { cluster, presence1, presence2, romeo, juliet } = await stage({ modules: [blocking] })
  juliet.send(`<iq type='set' id='b'><block xmlns='urn:xmpp:blocking'><item jid='${bareOf(romeo.jid)}'/></block></iq>`)
  await cluster.until(() => juliet.connection.written.includes("id='b' type='result'"), 'he is blocked')
  juliet.send(`<presence to='${romeo.jid}'/>`)
  await cluster.until(() => juliet.connection.written.includes('<not-acceptable'), 'it is refused')
  await cluster.pass(1_000)
  presence2.kill()
  const owner = () => cluster.ownerOf('presence', bareOf(juliet.jid))
  await cluster.until(() => owner() === presence1, 'another process owns her')
  await cluster.pass(3_000)
  romeo.connection.take()
  juliet.send("<presence type='unavailable'/>")
  await cluster.pass(2_000)
  expect(romeo.connection.take()).not.toContain(bareOf(juliet.jid))
})

test('whom an account sees since, and its last owner died before he could tell its edges, it sees by the next one', async () => {
  const { cluster, presence1, presence2, romeo, juliet, takenBy } = await stage()
  expect(romeo.sees(juliet.jid)).toBeUndefined()
  for (const [one, other] of [
    [romeo, juliet],
    [juliet, romeo],
  ] as const) {
    const key = { pk: `a#${bareOf(one.jid)}`, sk: `roster#${bareOf(other.jid)}` }
    const item = { ...JSON.parse(Buffer.from((await cluster.table.get(key))!.value).toString()), subscription: 'both' }
    await cluster.table.put({ ...key, version: '~999999991', value: Buffer.from(JSON.stringify(item)) })
  }
  presence1.kill()
  await takenBy(presence2)
  const third = cluster.start('presence')
  await cluster.settled()
  presence2.kill()
  await takenBy(third)
  await cluster.until(() => romeo.sees(juliet.jid) === 'available', 'he sees her')
})

test('what waits is shown when its account is handed over', async () => {
  const { cluster, presence1, romeo, juliet } = await stage({ config: { presence: { windowMs: 60_000 } } })
  for (const text of ['one', 'two']) romeo.send(`<presence><status>${text}</status></presence>`)
  await romeo.acknowledged(4)
  await cluster.during(presence1.leave())
  await cluster.until(() => juliet.connection.written.includes('<status>two</status>'), 'she sees the latest')
})

test('nothing is shown to an edge that has died, and nobody there is kept', async () => {
  const { cluster, edge2, presence1, romeo } = await stage()
  const pairs = (): string => /rookery_presence_pairs (\d+)/.exec(presence1.process.metrics.text())![1]!
  expect(pairs()).toBe('1')
  edge2.kill()
  await cluster.until(() => pairs() === '0', 'they are forgotten', 30_000)
  const sent: string[] = []
  cluster.loses = (subject) => {
    sent.push(subject)
    return false
  }
  romeo.send('<presence><status>alone</status></presence>')
  await cluster.until(() => romeo.connection.written.includes('alone'), 'he sees it himself')
  expect(sent.filter((subject) => subject === `edge.${edge2.id}`)).toEqual([])
})
