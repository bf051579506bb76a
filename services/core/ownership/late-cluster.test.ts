// What comes late, or not at all: edges that do not answer a new owner in time, and deliveries that are lost on their way.
import { afterEach, describe, expect, test } from 'vitest'
import { PASSWORD } from '#edge/edge.fixture.ts'
import offline from '#modules/offline.ts'
import { Cluster, ClusterClient, type ClusterProcess } from '#test/cluster-harness.ts'
import { parseJid } from '#xmpp/jid.ts'
import { openCaller } from '../call.ts'

const clusters: Cluster[] = []
afterEach(async () => {
  for (const cluster of clusters.splice(0)) await cluster[Symbol.asyncDispose]()
})

const bareOf = (jid: string): string => parseJid(jid).bare
const isOfEdges = (subject: string): boolean => subject.startsWith('edge.')

/** Two of each, and Romeo on the first edge: his owners are the first ones. Juliet is on the second edge, and they see each other. */
async function open() {
  const cluster = new Cluster({ modules: [offline] })
  clusters.push(cluster)
  const all = await cluster.open(['edge'], ['edge'], ['router'], ['router'], ['presence'], ['presence'])
  const [edge1, edge2, router1, router2, presence1, presence2] = all as [
    ClusterProcess,
    ClusterProcess,
    ClusterProcess,
    ClusterProcess,
    ClusterProcess,
    ClusterProcess,
  ]
  const caller = openCaller(edge2.bus, edge2.ownership, cluster.clock)
  const account = (router: ClusterProcess, presence: ClusterProcess, name: string): string => {
    for (let n = 0; ; n++) {
      const found = `${name}${n}@example.org`
      if (cluster.ownerOf('router', found) === router && cluster.ownerOf('presence', found) === presence) return found
    }
  }
  const connect = async (at: ClusterProcess, jid: string): Promise<ClusterClient> => {
    const client = await ClusterClient.connect(cluster, at, jid)
    client.send('<presence/>')
    await cluster.pass(200)
    return client
  }
  const [one, other] = [account(router1, presence1, 'romeo'), account(router2, presence2, 'juliet')]
  for (const name of [one, other]) await cluster.during(caller.ask('router', name, 'account.create', { password: PASSWORD }))
  const romeo = await connect(edge1, `${one}/orchard`)
  const juliet = await connect(edge2, `${other}/balcony`)
  for (const type of ['subscribe', 'subscribed']) {
    romeo.send(`<presence type='${type}' to='${other}'/>`)
    juliet.send(`<presence type='${type}' to='${one}'/>`)
    await cluster.pass(300)
  }
  expect([romeo.sees(juliet.jid), juliet.sees(romeo.jid)]).toEqual(['available', 'available'])
  return { cluster, edge1, edge2, router1, router2, presence1, presence2, connect, romeo, juliet }
}

describe('an edge that tells a new owner of its sessions too late', () => {
  /** Kills the owner of Romeo, whose edge is stopped until the next one has waited for it long enough. */
  async function late() {
    const opened = await open()
    const { cluster, edge1, router1, router2, presence1, presence2 } = opened
    const takenOver = async (role: 'router' | 'presence'): Promise<void> => {
      const [dead, next] = role === 'router' ? [router1, router2] : [presence1, presence2]
      dead.kill()
      await cluster.until(() => dead.id !== next.ownership.ownerOf(role, bareOf(opened.romeo.jid)), 'it is taken', 12_000)
      edge1.stop()
      await cluster.until(() => cluster.ownerOf(role, bareOf(opened.romeo.jid)) === next, 'the next one is ready')
      expect(next.events('resync.not_waited_for')).toBe(1)
    }
    return { ...opened, takenOver }
  }

  test('used to leave its clients offline for whoever had asked meanwhile', async () => {
    const { cluster, edge1, edge2, connect, romeo, juliet, takenOver } = await late()
    await takenOver('presence')
    const other = await connect(edge2, `${bareOf(juliet.jid)}/other`)
    expect(other.sees(romeo.jid)).toBeUndefined()
    edge1.goOn()
    await cluster.until(() => other.sees(romeo.jid) === 'available', 'he is shown', 5_000)
    expect(juliet.connection.written).not.toContain(`from='${romeo.jid}' to='${bareOf(juliet.jid)}' type='unavailable'`)
  })

  test('is told anew what its clients have not been shown meanwhile', async () => {
    const { cluster, edge1, romeo, juliet, takenOver } = await late()
    await takenOver('presence')
    juliet.send('<presence><show>away</show></presence>')
    await cluster.pass(500)
    edge1.goOn()
    await cluster.until(() => romeo.connection.written.includes('<show>away</show>'), 'it is shown', 5_000)
  })

  test('used to take the place of the same client, that had come back elsewhere meanwhile (RFC 6120 §7.7.2.2)', async () => {
    const { cluster, edge1, edge2, connect, romeo, juliet, takenOver } = await late()
    await takenOver('presence')
    const again = await connect(edge2, romeo.jid)
    await cluster.until(() => juliet.sees(romeo.jid) === 'available', 'he is there')
    juliet.connection.take()
    edge1.goOn()
    await cluster.until(() => romeo.connection.ended, 'the old stream ends', 5_000)
    await cluster.pass(2_000)
    expect([again.connection.ended, juliet.connection.take()]).toEqual([false, expect.not.stringContaining('unavailable')])
    juliet.message(romeo.jid, 'hi')
    await cluster.until(() => again.bodies.includes('hi'), 'what is for him comes there')
  })

  test('nor is it the router who prefers it', async () => {
    const { cluster, edge1, edge2, connect, romeo, juliet, takenOver } = await late()
    await takenOver('router')
    const again = await connect(edge2, romeo.jid)
    edge1.goOn()
    await cluster.until(() => romeo.connection.ended, 'the old stream ends', 5_000)
    await cluster.pass(2_000)
    juliet.message(romeo.jid, 'hi')
    await cluster.until(() => again.bodies.includes('hi'), 'what is for him comes there')
    expect([again.connection.ended, romeo.bodies]).toEqual([false, []])
  })

  test('used to have them wait for what was kept for them until they showed presence again', async () => {
    const { cluster, edge1, romeo, juliet, takenOver } = await late()
    await takenOver('router')
    juliet.message(bareOf(romeo.jid), 'kept')
    await juliet.acknowledged(4)
    edge1.goOn()
    await cluster.until(() => romeo.bodies.includes('kept'), 'it is handed over', 5_000)
    juliet.message(bareOf(romeo.jid), 'next')
    await cluster.until(() => romeo.bodies.includes('next'), 'and what comes later, later')
    expect(romeo.bodies).toEqual(['kept', 'next'])
  })
})

test('an edge that ends says at once that it has no sessions: who takes what the rest of its process owned does not wait', async () => {
  const cluster = new Cluster()
  clusters.push(cluster)
  const [one, two] = await cluster.open(['edge', 'router', 'presence'], ['edge', 'router', 'presence'])
  await cluster.pass(12_000) // it is no news to anybody that they are there
  const leaving = one!.leave()
  await cluster.until(() => one!.left, 'it has left')
  await cluster.during(leaving)
  await cluster.settled()
  expect(two!.log.lines.filter(({ event }) => event === 'resync.not_waited_for')).toEqual([])
})

describe('what is lost on its way to an edge', () => {
  test('was thrown away after five seconds without a bus, and acknowledged: it is shown when the bus is back', async () => {
    const { cluster, romeo, juliet } = await open()
    cluster.loses = isOfEdges
    romeo.message(juliet.jid, 'hi')
    await cluster.pass(60)
    for (const { bus } of cluster.processes) bus.turn('down')
    cluster.loses = () => false
    await cluster.pass(20_000)
    for (const { bus } of cluster.processes) bus.turn('up')
    await cluster.until(() => juliet.bodies.includes('hi'), 'it comes', 3_000)
    await romeo.acknowledged(4)
    await cluster.pass(2_000)
    expect(juliet.bodies).toEqual(['hi'])
  })

  test('and was the end of one of two resources used to leave that one on the screen', async () => {
    const { cluster, edge1, edge2, connect, romeo, juliet } = await open()
    const phone = await connect(edge2, `${bareOf(juliet.jid)}/phone`)
    const tablet = await connect(edge2, `${bareOf(juliet.jid)}/tablet`)
    for (const { jid } of [phone, tablet]) expect(romeo.sees(jid)).toBe('available')
    cluster.loses = (subject) => subject === `edge.${edge1.id}`
    phone.send("<presence type='unavailable'/>")
    tablet.send('</stream:stream>')
    await cluster.pass(15_000)
    cluster.loses = () => false
    juliet.send('<presence><show>away</show></presence>')
    const gone = () => [phone, tablet].every(({ jid }) => romeo.sees(jid) === 'unavailable')
    await cluster.until(gone, 'they are seen to be gone', 5_000)
    await cluster.pass(2_000)
    expect([romeo.sees(juliet.jid), edge1.events('deliveries.lost')]).toEqual(['available', 1])
    phone.send('<presence/>')
    await cluster.until(() => romeo.sees(phone.jid) === 'available', 'one that comes back is seen again')
  })
})
