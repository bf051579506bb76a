// What processes of other versions say, and what they leave behind: it is refused by its name, nothing of it is lost, and what it
// takes to go on is in the log.
import { afterEach, describe, expect, test } from 'vitest'
import { openCaller } from '#core/call.ts'
import { itemKey, logKey } from '#core/commits/log-item.ts'
import { ENVELOPE_VERSION } from '#core/envelope.ts'
import { PASSWORD } from '#edge/edge.fixture.ts'
import mam from '#modules/mam.ts'
import { Cluster, ClusterClient, type ClusterProcess } from '#test/cluster-harness.ts'

const clusters: Cluster[] = []
afterEach(async () => {
  for (const cluster of clusters.splice(0)) await cluster[Symbol.asyncDispose]()
})

const NEWER = ENVELOPE_VERSION + 1

/** Two who talk, each at an edge and a router of their own. */
async function open() {
  const cluster = new Cluster({ modules: [mam] })
  clusters.push(cluster)
  const started = await cluster.open(['edge'], ['edge'], ['router'], ['router'], ['presence'])
  const [edge1, edge2, router1, router2] = started as [ClusterProcess, ClusterProcess, ClusterProcess, ClusterProcess]
  const online = async (edge: ClusterProcess, router: ClusterProcess, name: string): Promise<ClusterClient> => {
    const account = cluster.accountOf(router, 'router', name)
    const caller = openCaller(edge.bus, edge.ownership, cluster.clock)
    await cluster.during(caller.ask('router', account, 'account.create', { password: PASSWORD }))
    return ClusterClient.connect(cluster, edge, `${account}/${name}`)
  }
  const romeo = await online(edge1, router1, 'romeo')
  const juliet = await online(edge2, router2, 'juliet')
  return { ...{ cluster, edge1, edge2, router1, router2, romeo, juliet } }
}

/** What goes over the bus under such subjects is of a newer version, until this is called. */
function newer(cluster: Cluster, isOf: (subject: string) => boolean): () => void {
  const { hub } = cluster
  const publish = hub.publish.bind(hub)
  hub.publish = (subject, body) => {
    if (!isOf(subject) || body.length === 0) return publish(subject, body)
    const changed = Buffer.from(body)
    changed[0] = NEWER
    publish(subject, changed)
  }
  return () => {
    hub.publish = publish
  }
}

const complaints = ({ log }: ClusterProcess, event: string): string[] =>
  log.lines.filter((line) => line.event === event).map(({ fields }) => String((fields as { error: Error }).error.message))

describe('a process of the version before', () => {
  async function openOld(role: 'router' | 'edge') {
    const cluster = new Cluster({ modules: [mam] })
    clusters.push(cluster)
    const old = cluster.startOld(role)
    const [edge, router, presence] = (await cluster.open(['edge'], ['router'], ['presence'])) as [
      ClusterProcess,
      ClusterProcess,
      ClusterProcess,
    ]
    const online = async (at: ClusterProcess, by: ClusterProcess, name: string): Promise<ClusterClient> => {
      const account = cluster.accountOf(by, 'router', name)
      const caller = openCaller(edge.bus, edge.ownership, cluster.clock)
      await cluster.during(caller.ask('router', account, 'account.create', { password: PASSWORD }))
      const client = await ClusterClient.connect(cluster, at, `${account}/${name}`)
      client.send('<presence/>')
      await cluster.pass(200)
      return client
    }
    const tooOld = ({ log }: ClusterProcess) => log.lines.filter(({ event }) => event === 'peer.too_old')
    return { cluster, old, edge, router, presence, online, tooOld }
  }

  test('among newer ones, a router: messages go to it and from it, and nothing is too new for it', async () => {
    const { cluster, old, edge, router, online } = await openOld('router')
    const romeo = await online(edge, old, 'romeo')
    const juliet = await online(edge, router, 'juliet')
    romeo.message(juliet.jid, 'hi')
    juliet.message(romeo.jid, 'hello')
    await romeo.acknowledged(2)
    await juliet.acknowledged(2)
    await cluster.until(() => romeo.bodies.length > 0 && juliet.bodies.length > 0, 'both come')
    expect([romeo.bodies, juliet.bodies, old.bus.refused]).toEqual([['hello'], ['hi'], []])
    router.kill()
    await cluster.until(
      () => cluster.ownerOf('router', juliet.jid.split('/')[0]!) === old,
      'it takes what there is, and asks edges',
    )
    romeo.message(juliet.jid, 'still there?')
    await cluster.until(() => juliet.bodies.length > 1, 'it comes')
    expect(old.bus.refused).toEqual([])
  })

  test('an edge: messages go on; that presence does not is logged once, naming it', async () => {
    const { cluster, old, edge, router, presence, online, tooOld } = await openOld('edge')
    const romeo = await online(old, router, 'romeo')
    const juliet = await online(edge, router, 'juliet')
    for (const [one, other] of [
      [romeo, juliet],
      [juliet, romeo],
    ] as const) {
      one.send(`<presence type='subscribe' to='${other.jid.split('/')[0]}'/>`)
      await cluster.pass(300)
      other.send(`<presence type='subscribed' to='${one.jid.split('/')[0]}'/>`)
      await cluster.pass(300)
    }
    juliet.send('<presence><show>away</show></presence>')
    romeo.message(juliet.jid, 'hi')
    juliet.message(romeo.jid, 'hello')
    await cluster.until(() => romeo.bodies.length > 0 && juliet.bodies.length > 0, 'both come')
    expect(old.bus.refused).toEqual([])
    expect(tooOld(presence)).toEqual([
      expect.objectContaining({ level: 'error', fields: expect.objectContaining({ process: old.id, speaks: 2, needed: 3 }) }),
    ])
    expect([edge, router].map((each) => tooOld(each).length)).toEqual([0, 0])
  })
})

describe('a body of a version that is not known', () => {
  test.each([
    ['envelopes for an owner', 'lane.router.', 'lane.frame_refused', 'router1'],
    ['acks of envelopes', 'ack.', 'lane.ack_refused', 'edge1'],
    ['acks of deliveries', 'edgeack.router.', 'edge.ack_refused', 'router2'],
  ] as const)(
    '%s: is refused and not acknowledged, and all of it comes when both know it',
    async (_what, subject, event, who) => {
      const opened = await open()
      const { cluster, romeo, juliet } = opened
      const upgraded = newer(cluster, (each) => each.startsWith(subject))
      romeo.message(juliet.jid, 'hi')
      romeo.ask()
      await cluster.pass(3_000)
      expect(complaints(opened[who], event)[0]).toBe(
        `envelope version ${NEWER}; this process speaks ${ENVELOPE_VERSION} and ${ENVELOPE_VERSION - 1}`,
      )
      if (subject !== 'edgeack.router.') expect(romeo.handled).toBeLessThan(1)
      upgraded()
      await romeo.acknowledged(1)
      await cluster.until(() => juliet.bodies.length > 0, 'it comes')
      await cluster.pass(2_000)
      expect([...new Set(juliet.bodies)]).toEqual(['hi'])
    },
  )

  test('deliveries to an edge: are refused, and go on once both know it; a message in between is in the archive', async () => {
    const { cluster, edge2, romeo, juliet } = await open()
    const upgraded = newer(cluster, (subject) => subject === `edge.${edge2.id}`)
    romeo.message(juliet.jid, 'hi')
    await romeo.acknowledged(1)
    await cluster.pass(1_000)
    expect([complaints(edge2, 'delivery.refused')[0], juliet.bodies]).toEqual([expect.stringContaining(`version ${NEWER}`), []])
    upgraded()
    romeo.message(juliet.jid, 'are you there?')
    await cluster.until(() => juliet.bodies.includes('are you there?'), 'it comes')
    expect([...new Set(juliet.bodies)]).toEqual(['hi', 'are you there?']) // the owner had kept it
  })

  test.each([
    ['question for sessions', 'resync.', 'edge1'],
    ['answer to it', 'resynced.', 'router2'],
  ] as const)('a %s: the owner waits for it no longer than for any edge, and asks on', async (_what, subject, who) => {
    const opened = await open()
    const { cluster, router1, router2, romeo, juliet } = opened
    const request = cluster.hub.request.bind(cluster.hub)
    let isOver = false
    cluster.hub.request = (each, body, timeoutMs) => {
      if (isOver || !each.startsWith(subject)) return request(each, body, timeoutMs)
      return request(each, Buffer.concat([Uint8Array.of(NEWER), body.subarray(1)]), timeoutMs)
    }
    const upgraded = newer(cluster, (each) => each.startsWith(subject))
    router1.kill()
    await cluster.until(() => cluster.ownerOf('router', romeo.jid.split('/')[0]!) === router2, 'the other one serves them')
    expect(complaints(opened[who], 'resync.refused')[0]).toContain(`version ${NEWER}`)
    isOver = true
    upgraded()
    await cluster.pass(5_000)
    juliet.message(romeo.jid, 'hi')
    await cluster.until(() => romeo.bodies.includes('hi'), 'his session is known again')
  })
})

test('a log of a newer version used to be a fault: nobody takes what it was of, one line says why, and it is tried again', async () => {
  const { cluster, router1, router2, romeo, juliet } = await open()
  romeo.message(juliet.jid, 'hi')
  await romeo.acknowledged(1)
  const account = romeo.jid.split('/')[0]!
  const pk = logKey(router1.id, 'router')
  let items = 0
  for await (const _ of cluster.table.query(pk)) items++
  router1.kill()
  const item = { pk, sk: itemKey(items + 1), version: 'v', value: Uint8Array.of(9, 0, 0, 1, 0) }
  await cluster.table.put(item)
  await cluster.pass(15_000)
  expect(cluster.ownerOf('router', account)).toBeUndefined()
  const said = router2.log.lines.filter(({ event }) => event === 'log.version_unknown')
  expect(said).toEqual([
    expect.objectContaining({
      level: 'error',
      fields: {
        task: `recover router ${router1.id}`,
        found: 9,
        reads: 1,
        help: expect.stringContaining('upgrade this process to the version that wrote it'),
      },
    }),
  ])
  expect(router2.events('ownership.broke')).toBe(0)
  await cluster.table.delete(item)
  await cluster.until(() => cluster.ownerOf('router', account) === router2, 'what is left can be read')
  romeo.message(juliet.jid, 'again')
  await romeo.acknowledged(2)
})
