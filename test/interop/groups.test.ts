// Groups of an organisation, as slixmpp and @xmpp/client see them: made by the command, on a server of its own in either form.
import { afterAll, afterEach, beforeAll, beforeEach, expect, onTestFailed, test } from 'vitest'
import { Place } from '#ctl/rookery.fixture.ts'
import { startTestCluster, type TestCluster } from '#test/cluster/processes.ts'
import { isCluster } from '#test/form.ts'
import { type Account, people, trustCertificateOf } from './accounts.ts'
import type { TestServer } from './server.ts'
import { HOW_TO_GET_SLIXMPP, pythonWithSlixmpp, Slixmpp } from './slixmpp.ts'
import { available, connectXmppJs, presenceOf, rosterQuery, type XmppJs } from './xmppjs.ts'

const STARTED_WITHIN_MS = 180_000
const TEST_TIMEOUT_MS = 120_000
const GROUP = 'verona@localhost'

const python = pythonWithSlixmpp()
if (python === undefined) console.warn(`SKIPPED: every test of test/interop/groups.test.ts: ${HOW_TO_GET_SLIXMPP}`)

interface Deployment {
  /** The places to connect to: of a cluster each edge. */
  readonly servers: readonly TestServer[]
  rookery(...args: string[]): Promise<{ code: number | null; out: string; err: string }>
  log(): string
  stop(): Promise<void>
}

let deployment: Deployment | undefined
const running: { stop(): Promise<unknown> }[] = []

beforeAll(async () => {
  if (python === undefined) return
  deployment = isCluster ? await openCluster() : await openEmbedded()
  if (deployment !== undefined) await trustCertificateOf(deployment.servers[0]!)
}, STARTED_WITHIN_MS)
beforeEach(({ skip }) => {
  if (deployment === undefined) skip('there is no slixmpp, or no NATS or DynamoDB; standard error says how to get them')
})
afterEach(async () => {
  await Promise.allSettled(running.splice(0).map((client) => client.stop()))
})
afterAll(() => deployment?.stop())

async function openEmbedded(): Promise<Deployment> {
  const place = new Place()
  const c2s = { port: 0, tlsPort: 0, allowPlainOnLoopback: true }
  const config = place.configure({ c2s, registration: 'open', limits: { registrationsPerHourPerAddress: 0 } })
  const server = await place.run(config)
  const address = {
    domain: 'localhost',
    host: '127.0.0.1',
    port: await server.port('c2s'),
    tlsPort: await server.port('c2s (TLS)'),
  }
  return {
    servers: [served(address)],
    rookery: (...args) => place.rookery([...args, '--config', config]),
    log: () => '',
    stop: () => place.clear(),
  }
}

function served(address: Pick<TestServer, 'domain' | 'host' | 'port' | 'tlsPort'>): TestServer {
  const none = { websocketUrl: '', httpUrl: '', servesChat: false, edges: [], log: () => '', stop: async () => {} }
  const register = async (user: string, password: string) => {
    const { code, err } = await deployment!.rookery('user', 'add', `${user}@localhost`, '--password', password)
    if (code !== 0) throw new Error(err)
  }
  return { ...none, ...address, register }
}

async function openCluster(): Promise<Deployment | undefined> {
  const cluster: TestCluster | undefined = await startTestCluster()
  if (cluster === undefined) return undefined
  for (const role of ['router', 'presence', 'presence', 'edge', 'edge'] as const) await cluster.add([role])
  await cluster.ready()
  return {
    servers: cluster.of('edge').map((edge) => edge.asServer()),
    rookery: (...args) => cluster.rookery(...args),
    log: () => cluster.log(),
    stop: () => cluster.stop(),
  }
}

async function slixmpp(server: TestServer, account: Account) {
  const client = await Slixmpp.start(server, python!)
  running.push(client)
  return { client, online: await client.connect(account) }
}

async function xmppJs(server: TestServer, account: Account): Promise<XmppJs> {
  const client = await connectXmppJs(server, account, 'tcp')
  running.push(client)
  await client.iq('get', undefined, rosterQuery())
  await client.send(available())
  return client
}

test(
  'members have each other in their rosters and see each other, from the moment they are in a group to the moment they leave',
  async () => {
    const { servers, rookery, log } = deployment!
    onTestFailed(() => console.log(log()))
    const [here, there] = [servers[0]!, servers.at(-1)!]
    const [j, r, p] = (await people(here, 'juliet', 'romeo', 'paris')) as [Account, Account, Account]
    expect(await rookery('group', 'create', GROUP, '--name', 'House of Verona')).toMatchObject({ code: 0 })
    expect(await rookery('group', 'add', GROUP, j.jid, r.jid)).toMatchObject({ code: 0 })

    const juliet = await slixmpp(here, j)
    const given = { subscription: 'both', groups: ['House of Verona'] }
    await expect.poll(() => juliet.client.roster()).toMatchObject({ [r.jid]: given })
    const romeo = await slixmpp(there, r)
    expect(romeo.online.roster).toMatchObject({ [j.jid]: given })
    await juliet.client.presenceOf('that Romeo is there', romeo.online.jid)
    await romeo.client.presenceOf('that Juliet is there', juliet.online.jid)
    await romeo.client.presence('dnd', 'climbing')
    await juliet.client.presenceOf('that Romeo is busy', romeo.online.jid, { show: 'dnd' })

    const paris = await xmppJs(there, p)
    expect(await rookery('group', 'add', GROUP, p.jid)).toMatchObject({ code: 0 })
    const pushed = async (client: Slixmpp, jid: string) => {
      for (;;) {
        const { items } = await client.push(`a push of ${jid}`)
        if (items[jid] !== undefined) return items[jid]
      }
    }
    expect(await pushed(juliet.client, p.jid)).toMatchObject(given)
    await juliet.client.presenceOf('that Paris is there', paris.jid)
    await paris.stanzas.next('the presence of Juliet', presenceOf(juliet.online.jid))

    await juliet.client.update(r.jid, { name: 'My Love', groups: ['House of Verona'] })
    expect(await juliet.client.roster()).toMatchObject({ [r.jid]: { ...given, name: 'My Love' } })
    await expect(juliet.client.update(p.jid, { subscription: 'remove' })).rejects.toThrow('not-acceptable')

    expect(await rookery('group', 'remove', GROUP, p.jid)).toMatchObject({ code: 0 })
    expect(await pushed(juliet.client, p.jid)).toMatchObject({ subscription: 'remove' })
    await juliet.client.presenceOf('that Paris is not hers to see', paris.jid, { type: 'unavailable' })
    expect(Object.keys(await juliet.client.roster())).toEqual([r.jid])
  },
  TEST_TIMEOUT_MS,
)
