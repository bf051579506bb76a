import { afterEach, describe, expect, test } from 'vitest'
import { PASSWORD } from '#edge/edge.fixture.ts'
import mam from '#modules/mam.ts'
import { Cluster, ClusterClient, type ClusterOptions, type ClusterProcess } from '#test/cluster-harness.ts'
import { Random } from '#test/fuzz/random.ts'
import { NS_CLIENT } from '#xmpp/ns.ts'
import { find, textOf } from '#xmpp/stanza.ts'
import { openCaller } from '../call.ts'
import { readStanza } from '../envelope.ts'
import { journalKey } from '../storage/journal.ts'
import { QUIET_MS } from '../storage/readings.ts'
import { Reader } from '../wire.ts'
import { CUT_MS, LINK_MS } from './leases.ts'

const clusters: Cluster[] = []
afterEach(async () => {
  for (const cluster of clusters.splice(0)) await cluster[Symbol.asyncDispose]()
})

/** Two processes of each role, each with nothing but that. */
async function open(options: ClusterOptions = { modules: [mam] }) {
  const cluster = new Cluster(options)
  clusters.push(cluster)
  const started = await cluster.open(['edge'], ['edge'], ['router'], ['router'], ['presence'], ['presence'])
  const [edge1, edge2, router1, router2, presence1, presence2] = started as [ClusterProcess, ...ClusterProcess[]] &
    Record<number, ClusterProcess>
  const asker = ({ bus, ownership }: ClusterProcess) => openCaller(bus, ownership, cluster.clock)
  const makeAccount = async (account: string): Promise<void> => {
    await cluster.during(asker(edge1).ask('router', account, 'account.create', { password: PASSWORD }))
  }
  return {
    ...{ cluster, edge1, edge2: edge2!, router1: router1!, router2: router2!, presence1: presence1!, presence2: presence2! },
    asker,
    makeAccount,
    /** Of an account that this process serves. */
    async newcomer(at: ClusterProcess, owner: ClusterProcess, name: string): Promise<ClusterClient> {
      const role = owner.roles.includes('router') ? 'router' : 'presence'
      const account = cluster.accountOf(owner, role, name)
      await makeAccount(account)
      return ClusterClient.connect(cluster, at, `${account}/${name}`)
    },
    /** The texts in an account's archive, in its order. */
    async archive(account: string): Promise<string[]> {
      const texts: string[] = []
      for await (const { sk, value } of cluster.table.query(journalKey('mam', account))) {
        if (sk.startsWith('~')) continue
        const body = find(readStanza(new Reader(value)), 'body', NS_CLIENT)
        texts.push(body === undefined ? '' : textOf(body))
      }
      return texts
    },
  }
}

const bareOf = (jid: string) => jid.slice(0, jid.indexOf('/'))
const ids = (count: number, prefix = 'm') => Array.from({ length: count }, (_, n) => `${prefix}${n}`)
/** Each text where it came for the first time. */
const once = (texts: readonly string[]) => [...new Set(texts)]

/** Says these, a few at a time, while something happens. */
async function chat(cluster: Cluster, from: ClusterClient, to: string, texts: readonly string[], happens: () => void) {
  for (const [n, text] of texts.entries()) {
    if (n === Math.floor(texts.length / 2)) happens()
    from.message(to, text)
    if (n % 3 === 0) await cluster.pass(20)
  }
}

describe('messages, two of each role', () => {
  test('go across edges and routers, and are acknowledged', async () => {
    const { edge1, edge2, router1, router2, newcomer, cluster, archive } = await open()
    const romeo = await newcomer(edge1, router1, 'romeo')
    const juliet = await newcomer(edge2, router2, 'juliet')
    romeo.message(juliet.jid, 'hi')
    await romeo.acknowledged(1)
    await cluster.until(() => juliet.bodies.length > 0, 'it comes')
    await cluster.pass(100)
    expect([await archive(bareOf(romeo.jid)), await archive(bareOf(juliet.jid))]).toEqual([['hi'], ['hi']])
  })

  test.each(['sender', 'recipient'])(
    'when the router of the %s is killed, nothing acknowledged is lost, doubled or out of order',
    async (who) => {
      const { edge1, edge2, router1, router2, newcomer, cluster, archive } = await open()
      const romeo = await newcomer(edge1, router1, 'romeo')
      const juliet = await newcomer(edge2, router2, 'juliet')
      const texts = ids(60)
      await chat(cluster, romeo, juliet.jid, texts, () => (who === 'sender' ? router1 : router2).kill())
      await romeo.acknowledged(60)
      await cluster.until(() => once(juliet.bodies).length === 60, 'all have come')
      await cluster.pass(2_000)
      expect(once(juliet.bodies)).toEqual(texts)
      expect(await archive(bareOf(juliet.jid))).toEqual(texts)
      expect(await archive(bareOf(romeo.jid))).toEqual(texts)
    },
  )

  test('when a router comes and another leaves, they go on', async () => {
    const { edge1, edge2, router1, router2, newcomer, cluster, archive } = await open()
    const romeo = await newcomer(edge1, router1, 'romeo')
    const juliet = await newcomer(edge2, router2, 'juliet')
    const texts = ids(120)
    const later: Promise<void>[] = []
    await chat(cluster, romeo, juliet.jid, texts.slice(0, 60), () => void cluster.start('router'))
    await cluster.settled()
    await chat(cluster, romeo, juliet.jid, texts.slice(60), () => void later.push(router1.leave(), router2.leave()))
    await cluster.during(Promise.all(later))
    await romeo.acknowledged(120)
    await cluster.until(() => once(juliet.bodies).length === 120, 'all have come')
    await cluster.pass(2_000)
    expect(once(juliet.bodies)).toEqual(texts)
    expect(await archive(bareOf(juliet.jid))).toEqual(texts)
    expect(await archive(bareOf(romeo.jid))).toEqual(texts)
  })

  test('a router that was stopped past its lease fences itself: what it had in hand comes to nothing', async () => {
    const { edge1, edge2, router1, router2, newcomer, cluster, archive } = await open()
    const romeo = await newcomer(edge1, router1, 'romeo')
    const juliet = await newcomer(edge2, router2, 'juliet')
    const texts = ids(60)
    await chat(cluster, romeo, juliet.jid, texts, () => router1.stop())
    await cluster.until(() => cluster.ownerOf('router', bareOf(romeo.jid)) === router2, 'the other one has taken its accounts')
    await romeo.acknowledged(60)
    router1.goOn()
    await cluster.until(() => router1.events('member.fenced') === 1, 'it finds that it was taken for dead')
    await cluster.settled()
    romeo.message(juliet.jid, 'last')
    await romeo.acknowledged(61)
    await cluster.until(() => juliet.bodies.includes('last'), 'all have come')
    await cluster.pass(2_000)
    expect(once(juliet.bodies)).toEqual([...texts, 'last'])
    expect(await archive(bareOf(juliet.jid))).toEqual([...texts, 'last'])
    expect(await archive(bareOf(romeo.jid))).toEqual([...texts, 'last'])
  })
})

describe('messages, while something is away', () => {
  async function pair() {
    const opened = await open()
    const { edge1, edge2, router1, router2, newcomer } = opened
    const romeo = await newcomer(edge1, router1, 'romeo')
    const juliet = await newcomer(edge2, router2, 'juliet')
    return { ...opened, romeo, juliet, from: bareOf(romeo.jid), to: bareOf(juliet.jid) }
  }

  test('are not acknowledged without the table, and go on when it is back: nobody has taken anything', async () => {
    const { cluster, romeo, juliet, archive, to } = await pair()
    cluster.away = true
    romeo.message(juliet.jid, 'm0')
    await cluster.pass(20_000)
    romeo.ask()
    await cluster.pass(5_000)
    expect([romeo.handled, juliet.bodies]).toEqual([0, []]) // what is owed for 3 s is told as it stands
    cluster.away = false
    await romeo.acknowledged(1)
    await cluster.until(() => juliet.bodies.length > 0, 'it comes')
    expect(await archive(to)).toEqual(['m0'])
    expect(cluster.processes.map((process) => process.events('member.fenced'))).toEqual([0, 0, 0, 0, 0, 0])
  })

  test.each(['edge', 'router'])('wait while the bus of the %s is down, and go on when it is up', async (role) => {
    const { cluster, romeo, juliet, archive, edge1, router1, from, to } = await pair()
    const cut = role === 'edge' ? edge1 : router1
    const texts = ids(40)
    await chat(cluster, romeo, juliet.jid, texts, () => cut.bus.turn('down'))
    await cluster.pass(CUT_MS + LINK_MS - 1_000) // longer, and an edge ends its streams while others have the bus
    cut.bus.turn('up')
    await romeo.acknowledged(40)
    await cluster.until(() => once(juliet.bodies).length === 40, 'all have come')
    expect(once(juliet.bodies)).toEqual(texts)
    expect([await archive(from), await archive(to)]).toEqual([texts, texts])
  })

  test.each([1, 2, 3])('on a bus that loses one body in ten (%d)', async (seed) => {
    const { cluster, romeo, juliet, archive, router1, from, to } = await pair()
    const random = new Random(seed, 0)
    cluster.loses = () => random.chance(10)
    const texts = ids(60)
    await chat(cluster, romeo, juliet.jid, texts, () => router1.kill())
    await romeo.acknowledged(60)
    await cluster.until(() => once(juliet.bodies).length === 60, 'all have come')
    cluster.loses = () => false
    await cluster.pass(2_000)
    expect(once(juliet.bodies)).toEqual(texts)
    expect([await archive(from), await archive(to)]).toEqual([texts, texts])
  })

  test.each([300_000, -300_000])('keep their order when the clock of the owner that dies is %d ms ahead', async (skewMs) => {
    const { cluster, romeo, juliet, archive, router1, from, to } = await pair()
    const texts = ids(30)
    router1.skewMs = skewMs
    await chat(cluster, romeo, juliet.jid, texts, () => router1.kill())
    await romeo.acknowledged(30)
    await cluster.pass(2_000)
    expect([await archive(from), await archive(to)]).toEqual([texts, texts])
  })
})

describe('presence, two of each role', () => {
  /** Romeo, whose presence owner the first one is, and Juliet, whose the second is, see each other. */
  async function friends(options?: ClusterOptions) {
    const opened = await open(options)
    const { edge1, edge2, presence1, presence2, newcomer, cluster } = opened
    const romeo = await newcomer(edge1, presence1, 'romeo')
    const juliet = await newcomer(edge2, presence2, 'juliet')
    for (const client of [romeo, juliet]) client.send('<presence/>')
    for (const [one, other] of [
      [romeo, juliet],
      [juliet, romeo],
    ] as const) {
      one.send(`<presence type='subscribe' to='${bareOf(other.jid)}'/>`)
      await cluster.pass(200)
      other.send(`<presence type='subscribed' to='${bareOf(one.jid)}'/>`)
      await cluster.pass(200)
    }
    expect([romeo.sees(juliet.jid), juliet.sees(romeo.jid)]).toEqual(['available', 'available'])
    return { ...opened, romeo, juliet }
  }

  test('when the presence owner of an account is killed, rosters, probes and broadcasts go on, and nobody was seen to blink', async () => {
    const { cluster, romeo, juliet, edge2, presence1, presence2 } = await friends()
    const account = bareOf(romeo.jid)
    juliet.connection.take()
    presence1.kill()
    await cluster.until(() => cluster.ownerOf('presence', account) === presence2, 'the other one has taken it')
    const other = await ClusterClient.connect(cluster, edge2, `${bareOf(juliet.jid)}/other`)
    other.send("<presence/><iq type='get' id='r'><query xmlns='jabber:iq:roster'/></iq>")
    await cluster.until(() => other.sees(romeo.jid) === 'available', 'the new session is told by a probe')
    await cluster.until(() => other.connection.written.includes(`jid='${account}'`), 'the roster comes')
    expect(juliet.connection.take()).not.toContain('unavailable')
    romeo.send('<presence><show>away</show></presence>')
    await cluster.until(() => juliet.connection.written.includes('<show>away</show>'), 'a change is broadcast')
  })

  test('the same where the process that comes gets it from one that goes on', async () => {
    const { cluster, romeo, juliet } = await friends()
    juliet.connection.take()
    for (let n = 0; n < 3; n++) {
      cluster.start('presence')
      cluster.start('router')
      await cluster.settled()
    }
    expect(juliet.connection.take().replaceAll("<r xmlns='urn:xmpp:sm:3'/>", '')).toBe('')
    romeo.send('<presence><show>dnd</show></presence>')
    await cluster.until(() => juliet.connection.written.includes('<show>dnd</show>'), 'a change is broadcast')
    romeo.send("<presence type='unavailable'/>")
    await cluster.until(() => juliet.sees(romeo.jid) === 'unavailable', 'and the end')
  })

  test('who leaves while nobody owns his account is seen to leave by the next owner', async () => {
    const { cluster, romeo, juliet, presence1, router1 } = await friends()
    presence1.kill()
    router1.kill()
    romeo.send('</stream:stream>')
    await cluster.until(() => juliet.sees(romeo.jid) === 'unavailable', 'his contact sees it', 15_000)
  })

  test('directed presence is taken back by an owner who has not seen it (RFC 6121 §4.6.5)', async () => {
    const { cluster, edge2, presence1, presence2, newcomer, romeo } = await friends()
    const nurse = await newcomer(edge2, presence2, 'nurse')
    nurse.send('<presence/>')
    romeo.send(`<presence to='${nurse.jid}'/>`)
    await cluster.until(() => nurse.sees(romeo.jid) === 'available', 'it comes')
    await cluster.pass(200)
    presence1.kill()
    await cluster.until(() => cluster.ownerOf('presence', bareOf(romeo.jid)) === presence2, 'the other one has taken it')
    romeo.send('</stream:stream>')
    await cluster.until(() => nurse.sees(romeo.jid) === 'unavailable', 'it is taken back')
  })

  test('what was lost on its way to an edge is shown anew, and a session that has ended unheard ends', async () => {
    const { cluster, edge1, edge2, router2, romeo, juliet, newcomer } = await friends()
    const nurse = await newcomer(edge2, router2, 'nurse')
    cluster.loses = (subject) => subject === `edge.${edge2.id}`
    romeo.send('<presence><show>away</show></presence>')
    const other = ClusterClient.connect(cluster, edge1, nurse.jid) // the close of the one before is lost
    await cluster.pass(14_000)
    await other
    expect(juliet.connection.written).not.toContain('<show>away</show>')
    cluster.loses = () => false
    await cluster.until(() => juliet.connection.written.includes('<show>away</show>'), 'it is shown anew')
    await cluster.until(() => nurse.connection.ended, 'the session that was replaced ends')
    expect(nurse.connection.written).toMatch(/<(?:conflict|reset) /)
  })

  test('of an edge that is killed, contacts see its clients go within 12 s, and the router knows them no more', async () => {
    const { cluster, edge1, edge2, asker, romeo, juliet } = await friends()
    edge1.kill()
    await cluster.until(() => juliet.sees(romeo.jid) === 'unavailable', 'his contact sees it', 12_000)
    const sessions = () => cluster.during(asker(edge2).ask('router', bareOf(romeo.jid), 'account.sessions', {}))
    await cluster.pass(1_000)
    expect(await sessions()).toEqual([])
  })

  test('of an edge that dies together with the owners of its clients, too', async () => {
    const cluster = new Cluster()
    clusters.push(cluster)
    const [one, two] = (await cluster.open(['edge', 'router', 'presence'], ['edge', 'router', 'presence'])) as [
      ClusterProcess,
      ClusterProcess,
    ]
    const asker = openCaller(two.bus, two.ownership, cluster.clock)
    const logIn = async (at: ClusterProcess, name: string): Promise<ClusterClient> => {
      const account = cluster.accountOf(one, 'presence', name)
      await cluster.during(asker.ask('router', account, 'account.create', { password: PASSWORD }))
      const client = await ClusterClient.connect(cluster, at, `${account}/${name}`)
      client.send('<presence/>')
      return client
    }
    const [romeo, juliet, nurse] = [await logIn(one, 'romeo'), await logIn(two, 'juliet'), await logIn(two, 'nurse')]
    for (const shown of [romeo, nurse]) {
      juliet.send(`<presence type='subscribe' to='${bareOf(shown.jid)}'/>`)
      await cluster.pass(200)
      shown.send(`<presence type='subscribed' to='${bareOf(juliet.jid)}'/>`)
      await cluster.until(() => juliet.sees(shown.jid) === 'available', 'she sees them')
    }
    juliet.connection.take()
    one.kill()
    await cluster.until(() => juliet.sees(romeo.jid) === 'unavailable', 'his contact sees it', 12_000)
    await cluster.pass(5_000)
    expect(juliet.connection.take().match(/<presence [^>]*>/g)).toEqual([
      `<presence from='${romeo.jid}' to='${bareOf(juliet.jid)}' type='unavailable'/>`,
    ])
  })

  test('of an edge that says goodbye they see nothing: his session waits at another one', async () => {
    const { cluster, edge1, edge2, romeo, juliet } = await friends()
    await cluster.during(edge1.leave())
    const sessions = () =>
      cluster.during(
        openCaller(edge2.bus, edge2.ownership, cluster.clock).ask('router', bareOf(romeo.jid), 'account.sessions', {}),
      )
    expect(await sessions()).toMatchObject([{ jid: romeo.jid, detached: true }])
    await cluster.pass(1_000)
    expect(juliet.sees(romeo.jid)).toBe('available')
  })

  test('an edge that was stopped past its lease ends the streams whose sessions are gone', async () => {
    const { cluster, edge1, romeo, juliet } = await friends()
    edge1.stop()
    await cluster.until(() => juliet.sees(romeo.jid) === 'unavailable', 'his contact sees him go', 12_000)
    edge1.goOn()
    await cluster.until(() => romeo.connection.ended, 'his stream ends')
    expect(romeo.connection.written).toContain('<system-shutdown ')
    await cluster.pass(5_000)
    expect([juliet.sees(romeo.jid), edge1.edge!.edge.sessions.size]).toEqual(['unavailable', 0])
  })
})

describe('logging in', () => {
  test('waits through a take-over, and the session is known to the router that comes out of it', async () => {
    const { cluster, edge1, edge2, router1, router2, newcomer } = await open()
    const juliet = await newcomer(edge2, router2, 'juliet')
    const account = cluster.accountOf(router1, 'router', 'romeo')
    const romeo = await newcomer(edge1, router1, 'romeo')
    expect(bareOf(romeo.jid)).toBe(account)
    router1.kill()
    const again = await ClusterClient.connect(cluster, edge1, `${account}/other`)
    again.send('<presence/>')
    await cluster.pass(200)
    juliet.message(account, 'hi')
    await cluster.until(() => again.bodies.length > 0, 'it comes')
  })
})

describe('what a login asks of the table', () => {
  test('one query, for both roles and however many contacts there are, and no write', async () => {
    const { cluster, edge1, router1, newcomer } = await open({})
    const romeo = await newcomer(edge1, router1, 'romeo')
    const contacts = ids(40, 'friend')
    for (const name of contacts)
      romeo.send(`<iq type='set' id='${name}'><query xmlns='jabber:iq:roster'><item jid='${name}@example.org'/></query></iq>`)
    await cluster.until(() => contacts.every((name) => romeo.connection.written.includes(`id='${name}'`)), 'the roster is there')
    romeo.send('</stream:stream>')
    await cluster.pass(2_000)
    // Nothing of it is in memory any more: others serve it.
    for (let n = 0; n < 2; n++) {
      const [router, presence] = [cluster.ownerOf('router', bareOf(romeo.jid))!, cluster.ownerOf('presence', bareOf(romeo.jid))!]
      await cluster.during(Promise.all([router.leave(), presence.leave()]))
      cluster.start('router')
      cluster.start('presence')
      await cluster.settled()
    }
    await cluster.pass(QUIET_MS)
    cluster.requests.length = 0
    const again = await ClusterClient.connect(cluster, edge1, romeo.jid)
    again.send("<iq type='get' id='r'><query xmlns='jabber:iq:roster'/></iq><presence/>")
    await cluster.until(() => again.connection.written.includes('friend39@'), 'the roster comes')
    await cluster.pass(2_000)
    expect(cluster.requests).toEqual([`query a#${bareOf(romeo.jid)}`])
  })
})
