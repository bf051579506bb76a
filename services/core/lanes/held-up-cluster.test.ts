// An owner to whom nothing comes through: what others hand on to him is bounded, and nobody else waits.
import { afterEach, expect, test } from 'vitest'
import { PASSWORD } from '#edge/edge.fixture.ts'
import offline from '#modules/offline.ts'
import { Cluster, ClusterClient, type ClusterProcess } from '#test/cluster-harness.ts'
import { openCaller } from '../call.ts'
import { LANE_PENDING_BYTES_MAX, NEARLY } from './lane-source.ts'

const clusters: Cluster[] = []
afterEach(async () => {
  for (const cluster of clusters.splice(0)) await cluster[Symbol.asyncDispose]()
})

/** Nearly as large as a stanza may be. */
const LARGE = 'x'.repeat(250_000)

test('used to take whatever was said to the accounts of a frozen owner: what is too much is refused, with an error that says wait', async () => {
  const cluster = new Cluster({ modules: [offline] })
  clusters.push(cluster)
  const [edge, router1, router2] = (await cluster.open(['edge'], ['router'], ['router'], ['presence'])) as [
    ClusterProcess,
    ClusterProcess,
    ClusterProcess,
  ]
  const caller = openCaller(edge.bus, edge.ownership, cluster.clock)
  const account = async (owner: ClusterProcess, name: string): Promise<string> => {
    const made = cluster.accountOf(owner, 'router', name)
    await cluster.during(caller.ask('router', made, 'account.create', { password: PASSWORD }))
    return made
  }
  const [benvolio, juliet] = [await account(router1, 'benvolio'), await account(router2, 'juliet')]
  const sessions: ClusterClient[] = []
  for (let n = 0; n * LARGE.length <= LANE_PENDING_BYTES_MAX * NEARLY; n++)
    sessions.push(await ClusterClient.connect(cluster, edge, `${await account(router1, `guest${n}of`)}/x`))
  const friend = await ClusterClient.connect(cluster, edge, `${benvolio}/street`)
  const late = await ClusterClient.connect(cluster, edge, `${await account(router1, 'romeo')}/late`)

  router2.stop()
  for (const [n, session] of sessions.entries())
    session.send(`<message type='chat' id='m${n}' to='${juliet}'><body>${n} ${LARGE}</body></message>`)
  await cluster.pass(500)
  late.message(juliet, 'one more')
  late.message(friend.jid, 'hi')
  await cluster.pass(500)
  expect(late.connection.written).toContain("id='one more'")
  expect(late.connection.written).toMatch(/<error[^>]* type='wait'[^>]*><resource-constraint/)
  expect(friend.bodies).toEqual(['hi'])

  router2.kill()
  await cluster.until(() => cluster.ownerOf('router', juliet) === router1, 'the other one serves her')
  await cluster.pass(3_000)
  const she = await ClusterClient.connect(cluster, edge, `${juliet}/balcony`)
  she.send('<presence/>')
  late.message(she.jid, 'at last')
  await cluster.until(() => she.bodies.includes('at last'), 'she is spoken to again')
  for (const [n, { connection }] of sessions.entries()) {
    const [came, refused] = [she.bodies.some((body) => body.startsWith(`${n} `)), connection.written.includes(`id='m${n}'`)]
    expect([n, came, refused]).toEqual([n, !refused, !came])
  }
})
