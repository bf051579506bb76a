// Groups where there are several presence services: a change that one was not told of, and one that dies.
import { afterEach, expect, test } from 'vitest'
import { openCaller } from '#core/call.ts'
import { type GroupAdministration, groupsOf } from '#core/groups/group-administration.ts'
import { CHECK_MS } from '#core/groups/group-directory.ts'
import { PASSWORD } from '#edge/edge.fixture.ts'
import { Cluster, ClusterClient, type ClusterProcess } from '#test/cluster-harness.ts'
import { type Jid, parseJid } from '#xmpp/jid.ts'

const STAFF = parseJid('staff@example.org')
const clusters: Cluster[] = []
afterEach(async () => {
  for (const cluster of clusters.splice(0)) await cluster[Symbol.asyncDispose]()
})

class Stage {
  readonly cluster: Cluster
  readonly edge: ClusterProcess
  readonly presences: readonly [ClusterProcess, ClusterProcess]
  readonly groups: GroupAdministration

  constructor(cluster: Cluster, [edge, , ...presences]: readonly ClusterProcess[]) {
    this.cluster = cluster
    this.edge = edge!
    this.presences = presences as [ClusterProcess, ClusterProcess] & ClusterProcess[]
    this.groups = groupsOf(edge!.process).administration
  }

  /** An account that the n-th presence service has. */
  async account(n: 0 | 1, name: string): Promise<Jid> {
    const account = this.cluster.accountOf(this.presences[n], 'presence', name)
    const { bus, ownership } = this.edge
    const caller = openCaller(bus, ownership, this.cluster.clock)
    await this.cluster.during(caller.ask('router', account, 'account.create', { password: PASSWORD }))
    return parseJid(account)
  }

  /** Logged in, with the roster and available. */
  async comes(account: Jid): Promise<ClusterClient> {
    const client = await ClusterClient.connect(this.cluster, this.edge, `${account.bare}/home`)
    client.send("<iq type='get' id='roster'><query xmlns='jabber:iq:roster' ver=''/></iq><presence/>")
    await this.cluster.until(() => client.connection.written.includes("id='roster'"), 'the roster')
    await this.cluster.pass(100)
    return client
  }
}

async function open(): Promise<Stage> {
  const cluster = new Cluster()
  clusters.push(cluster)
  return new Stage(cluster, await cluster.open(['edge'], ['router'], ['presence'], ['presence']))
}

/** What a client was last pushed of a contact: its subscription. */
function pushed({ connection }: ClusterClient, { bare }: Jid): string | undefined {
  const items = [...connection.written.matchAll(/<item ([^>]*)>/g)].map(([, attrs]) => attrs!)
  return /subscription='([a-z]+)'/.exec(items.findLast((attrs) => attrs.includes(`jid='${bare}'`)) ?? '')?.[1]
}

test('a change that is not heard of is found all the same, by each service, and told to those who are connected', async () => {
  const { cluster, groups, ...stage } = await withTwo()
  cluster.loses = (subject) => subject === 'groups'
  await cluster.during(groups.create(STAFF))
  await cluster.during(groups.add(STAFF, [stage.romeo, stage.juliet]))
  await cluster.pass(1_000)
  expect([pushed(stage.atRomeo, stage.juliet), stage.atRomeo.sees(`${stage.juliet.bare}/home`)]).toEqual([undefined, undefined])
  await cluster.pass(CHECK_MS + 1_000)
  expect([pushed(stage.atRomeo, stage.juliet), pushed(stage.atJuliet, stage.romeo)]).toEqual(['both', 'both'])
  expect(stage.atRomeo.sees(`${stage.juliet.bare}/home`)).toBe('available')
  expect(stage.atJuliet.sees(`${stage.romeo.bare}/home`)).toBe('available')
})

test('when a service dies, the next one tells its sessions of changes, and gives them no version that they may not have', async () => {
  const { cluster, groups, presences, ...stage } = await withTwo()
  await cluster.during(groups.create(STAFF))
  await cluster.during(groups.add(STAFF, [stage.romeo]))
  await cluster.pass(1_000)
  presences[0].kill()
  await cluster.settled()
  await cluster.pass(1_000)
  const push = async (name: string): Promise<string | undefined> => {
    const set = `<iq type='set' id='${name}'><query xmlns='jabber:iq:roster'><item jid='${name}@example.org'/></query></iq>`
    stage.atRomeo.send(set)
    await cluster.until(
      () => new RegExp(`type='result'[^>]*id='${name}'|id='${name}'[^>]*type='result'`).test(stage.atRomeo.connection.written),
      name,
    )
    return new RegExp(`ver='([^']*)'[^>]*><item [^>]*jid='${name}@`).exec(stage.atRomeo.connection.written)?.[1]
  }
  expect(await push('mercutio')).toMatch(/\.~$/)
  await cluster.during(groups.add(STAFF, [stage.juliet]))
  await cluster.pass(1_000)
  expect([pushed(stage.atRomeo, stage.juliet), pushed(stage.atJuliet, stage.romeo)]).toEqual(['both', 'both'])
  expect(stage.atRomeo.sees(`${stage.juliet.bare}/home`)).toBe('available')
  expect(stage.atJuliet.sees(`${stage.romeo.bare}/home`)).toBe('available')
  expect(await push('benvolio')).not.toMatch(/~/)
})

/** Romeo is the first service's, Juliet the second's; both are there. */
async function withTwo() {
  const stage = await open()
  const { cluster, groups, presences } = stage
  const romeo = await stage.account(0, 'romeo')
  const juliet = await stage.account(1, 'juliet')
  const atRomeo = await stage.comes(romeo)
  const atJuliet = await stage.comes(juliet)
  return { cluster, groups, presences, romeo, juliet, atRomeo, atJuliet }
}
