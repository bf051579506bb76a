// What a change of presence costs in a cluster: on the bus, in CPU, and at the table when somebody comes online; beside a sender
// that sends it to each contact (naive.ts), on the same NATS.
//
// Users sit in a ring and have the 40 nearest for contacts. Every fourth is offline, so each has 30 online contacts, spread over
// all edges. What the bus, the table and the processors do when nothing happens is measured first, and taken off.
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import type { Client } from '../bench/src/client.mjs'
import { inParallel } from '../bench/src/crowd.mjs'
import { Histogram } from '../bench/src/histogram.mjs'
import { ProcessMeter } from '../bench/src/process-meter.mjs'
import { buildRing, fetchRoster, senderIndex } from '../bench/src/roster-ring.mjs'
import { atRate, until } from '../bench/src/waiting.mjs'
import { freePorts } from '../server.ts'
import { presenceOf } from './changes.ts'
import { logIn, logInAll, logOutAll, register, sayHello, sleep } from './people.ts'
import { pinOurs, Site } from './site.ts'
import { listen } from './tap.ts'
import { IDLE_S, short } from './units.ts'

const CONTACTS = 40
const OFFLINE_ONE_IN = 4
const ONLINE_CONTACTS = CONTACTS - CONTACTS / OFFLINE_ONE_IN
const EDGES = 4
/** As in a rush in the morning, and no more than an edge admits at once. */
const LOGINS_AT_ONCE = 32
/** A server may put together what one client shows within a second: each waits longer than that. */
const APART_S = 1.5
/** How long somebody listens to what the bus carries when nothing happens. */
const LISTEN_S = 10
const WARM_UP_S = 4
const SETTLED_S = 3
const PATIENCE_S = 60
/** `bus.prefix`, unless configured. */
const PREFIX = 'rookery.'

export interface PresenceOptions {
  /** Of the ring, those who are offline included. */
  readonly users: number
  /** How many presence services, one cluster after the other. */
  readonly services: readonly number[]
  /** Changes a second, of all together. */
  readonly rates: readonly number[]
  readonly seconds: number
  /** A folder where accounts and rosters are kept for the next time: to make them takes a minute. */
  readonly data?: string
}

/** What was counted, by name; all numbers of one kind only grow. */
type Counts = Readonly<Record<string, number>>

interface Changed {
  readonly changes: number
  readonly delays: Histogram
}

interface Crowd {
  readonly online: readonly Client[]
  close(): Promise<void>
}

/** Everything there is to count: `bus messages`, `cpu edge` in µs, `table Query`, and what the processes say of presence. */
async function countAll(site: Site, meter: ProcessMeter): Promise<Counts> {
  const { published, publishedBytes } = await site.carried()
  const counts: Record<string, number> = { 'bus messages': published, 'bus bytes': publishedBytes, ...cpuOf(meter) }
  for (const [operation, count] of Object.entries((await site.tableUse()).requests)) counts[`table ${operation}`] = count
  for (const [name, count] of await site.counts()) if (/^presence_\w+_total/.test(name)) counts[name] = count
  return counts
}

/** By what a process is: `cpu edge` for all edges. */
function cpuOf(meter: ProcessMeter): Counts {
  const sums: Record<string, number> = {}
  for (const [name, seconds] of Object.entries(meter.cpu()!.of as Record<string, number>)) {
    const kind = `cpu ${name.replace(/-\d+$/, '')}`
    sums[kind] = (sums[kind] ?? 0) + seconds * 1e6
  }
  return sums
}

/** What was counted meanwhile, less what would have been anyway: so much a second. */
async function during(count: () => Promise<Counts>, idle: Counts, work: () => Promise<unknown>): Promise<Counts> {
  const before = await count()
  const began = performance.now()
  await work()
  const after = await count()
  const seconds = (performance.now() - began) / 1_000
  const rise = (name: string): number => after[name]! - (before[name] ?? 0) - (idle[name] ?? 0) * seconds
  return Object.fromEntries(Object.keys(after).map((name) => [name, Math.max(0, rise(name))]))
}

function each(counts: Counts, count: number): Counts {
  return Object.fromEntries(Object.entries(counts).map(([name, sum]) => [name, sum / count]))
}

async function startAll(site: Site, services: number, ports: readonly number[]): Promise<void> {
  await site.add('router', 'router')
  for (let n = 1; n <= services; n++) await site.add(`presence-${n}`, 'presence')
  for (const [n, port] of ports.entries()) await site.add(`edge-${n + 1}`, 'edge', { c2s: { port, tlsPort: 'off' } })
  await site.ready()
  await sleep(SETTLED_S)
}

/** Everybody but every fourth, one after the other on another edge, each with roster and presence. Seen by all whom it should be. */
async function comeOnline(users: number, ports: readonly number[]): Promise<Crowd> {
  const indexes = Array.from({ length: users }, (_, index) => index).filter(
    (index) => index % OFFLINE_ONE_IN !== OFFLINE_ONE_IN - 1,
  )
  const online = new Array<Client>(indexes.length)
  let seen = 0
  await inParallel(indexes.length, LOGINS_AT_ONCE, async (rank: number) => {
    const client = await logIn(indexes[rank]!, ports[rank % ports.length]!, users)
    online[rank] = client
    const known = new Set<number>([client.index])
    client.onPresence = (_: Client, type: number, buffer: Buffer, _start: number, _end: number, fromAt: number) => {
      const sender = senderIndex(buffer, fromAt)
      if (type !== 0 || known.has(sender)) return
      known.add(sender)
      seen++
    }
    await fetchRoster(client)
    sayHello(client)
  })
  const expected = indexes.length * ONLINE_CONTACTS
  if (!(await until(() => seen >= expected, PATIENCE_S))) throw new Error(`${seen} of ${expected} were seen: is the ring there?`)
  return { online, close: () => logOutAll(online) }
}

/** Of all changes there are, so that nobody shows what is shown already. */
let rounds = 0

/** Everybody in turn shows something new. Resolves with how many did; rejects where a contact was not shown one. */
async function change(online: readonly Client[], rate: number, seconds: number): Promise<Changed> {
  if (online.length / rate < APART_S)
    throw new Error(`at ${rate} changes/s ${online.length} users change more often than every ${APART_S} s`)
  const changedMs = new Map<number, number>()
  const delays = new Histogram()
  let delivered = 0
  for (const client of online) {
    client.onPresence = (_: Client, type: number, buffer: Buffer, _start: number, _end: number, fromAt: number) => {
      const sender = senderIndex(buffer, fromAt)
      if (type !== 0 || sender === client.index) return
      delivered++
      delays.add(performance.now() - changedMs.get(sender)!)
    }
  }
  let changes = 0
  const stop = atRate(rate, () => {
    const client = online[changes % online.length]!
    changedMs.set(client.index, performance.now())
    changes++
    client.send(presenceOf(rounds++))
  })
  await sleep(seconds)
  stop()
  const expected = changes * ONLINE_CONTACTS
  if (!(await until(() => delivered >= expected, PATIENCE_S))) throw new Error(`${delivered} of ${expected} were shown`)
  await sleep(0.3) // what is acked is acked
  if (delivered > expected) throw new Error(`${delivered} were shown, and there are ${expected}`)
  return { changes, delays }
}

const numeral = (value: number): string => (value >= 100 ? value.toFixed(0) : value.toPrecision(2))
const KINDS = ['edge', 'presence', 'router', 'nats']

/** Cells of a line: CPU by what a process is. */
function cpuCells(counts: Counts): string[] {
  return KINDS.map((kind) => numeral(counts[`cpu ${kind}`] ?? 0))
}

/** What has happened so often that it is worth a word. */
function named(counts: Counts, prefix: string, least: number): string {
  const found = Object.entries(counts).filter(([name, count]) => name.startsWith(prefix) && count >= least)
  return found.map(([name, count]) => `${short(count)} ${name.slice(prefix === 'table ' ? prefix.length : 0)}`).join(', ')
}

/** One cluster, from its cold start: what logins ask of the table, then what changes cost. */
async function measureCluster(site: Site, services: number, options: PresenceOptions, ports: readonly number[], report: Report) {
  await startAll(site, services, ports)
  const name = `${services} presence service${services === 1 ? '' : 's'}`
  const meter = site.meter()
  const count = (): Promise<Counts> => countAll(site, meter)
  const idle = each(await during(count, {}, () => sleep(IDLE_S)), IDLE_S)
  let crowd: Crowd | undefined
  const logins = await during(count, idle, async () => {
    crowd = await comeOnline(options.users, ports)
    await sleep(SETTLED_S)
  })
  const { online, close } = crowd!
  const login = each(logins, online.length)
  report.logins.push(`| ${name} | ${named(login, 'table ', 0.005) || 'none'} | ${cpuCells(login).join(' | ')} |`)
  for (const rate of options.rates) {
    await change(online, rate, WARM_UP_S)
    let changed: Changed | undefined
    const counted = await during(count, idle, async () => {
      changed = await change(online, rate, options.seconds)
    })
    const { changes, delays } = changed!
    const one = each(counted, changes)
    const all = KINDS.reduce((sum, kind) => sum + (one[`cpu ${kind}`] ?? 0), 0)
    const cells = [numeral(one['bus messages']!), numeral(one['bus bytes']!), ...cpuCells(one), numeral(all)]
    const ms = [50, 99].map((percent) => delays.percentile(percent)!.toPrecision(2))
    report.changes.push(`| ${name} | ${rate} | ${[...cells, numeral(all / ONLINE_CONTACTS), ...ms].join(' | ')} |`)
    const told = named(one, 'presence_', 0.001)
    if (told !== '') report.told.push('', `As the processes count it, ${name}, ${rate}/s, of one change: ${told}.`)
    await measureSubjects(site, online, { name, rate, seconds: options.seconds }, report)
  }
  await close()
  await site.stopProcesses()
}

/** The same once more, with somebody who listens. */
async function measureSubjects(
  site: Site,
  online: readonly Client[],
  { name, rate, seconds }: { readonly name: string; readonly rate: number; readonly seconds: number },
  report: Report,
): Promise<void> {
  const quiet = await listen(site.natsUrl, PREFIX, LISTEN_S)
  const listeningS = seconds + SETTLED_S
  const listening = listen(site.natsUrl, PREFIX, listeningS)
  await sleep(SETTLED_S / 2)
  const { changes } = await change(online, rate, seconds)
  const heard = await listening
  for (const [subject, { messages, bytes }] of [...heard].sort(([one], [other]) => (one < other ? -1 : 1))) {
    const anyway = quiet.get(subject) ?? { messages: 0, bytes: 0 }
    const count = (messages - (anyway.messages * listeningS) / LISTEN_S) / changes
    const size = (bytes - (anyway.bytes * listeningS) / LISTEN_S) / changes
    if (count >= 0.01) report.subjects.push(`| ${name} | ${rate} | \`${subject}\` | ${numeral(count)} | ${numeral(size)} |`)
  }
}

/** The same changes, by a sender that knows contacts and sessions, not edges. */
async function measureNaive(site: Site, online: number, options: PresenceOptions, report: Report): Promise<void> {
  const file = join(import.meta.dirname, 'naive.ts')
  for (const rate of options.rates) {
    const start = async (...args: readonly (string | number)[]): Promise<ChildProcess> => {
      const child = fork(file, args.map(String))
      process.once('exit', () => child.kill('SIGKILL'))
      const first = once(child, 'message')
      pinOurs(child.pid!)
      await first
      return child
    }
    const sender = await start('sender', site.natsUrl, online, ONLINE_CONTACTS, EDGES)
    const edges = await start('edges', site.natsUrl, online, EDGES, rate, options.seconds)
    const meter = new ProcessMeter([
      { name: 'presence', pid: sender.pid! },
      { name: 'edge', pid: edges.pid! },
      { name: 'nats', pid: site.natsPid },
    ])
    let told: readonly unknown[] = []
    const counted = await during(
      () => countAll(site, meter),
      {},
      async () => {
        const over = once(edges, 'message')
        edges.send('go')
        told = await over
      },
    )
    const [{ changes, delivered }] = told as [{ changes: number; delivered: number }]
    if (delivered !== changes * ONLINE_CONTACTS) throw new Error(`naive: ${delivered} came of ${changes * ONLINE_CONTACTS}`)
    const one = each(counted, changes)
    const [edge, presence, , nats] = cpuCells(one)
    const bus = [numeral(one['bus messages']!), numeral(one['bus bytes']!)]
    report.changes.push(
      `| to each contact (naive) | ${rate} | ${bus.join(' | ')} | ${edge} † | ${presence} | – | ${nats} | – | – | – | – |`,
    )
    edges.send('done')
    sender.kill()
  }
}

interface Report {
  readonly logins: string[]
  readonly changes: string[]
  readonly subjects: string[]
  readonly told: string[]
}

/** Lines of tables. */
export async function presence(options: PresenceOptions): Promise<string[]> {
  const { users } = options
  if (users % OFFLINE_ONE_IN !== 0 || users <= 2 * CONTACTS)
    throw new Error(`--users must be a multiple of ${OFFLINE_ONE_IN}, and over ${2 * CONTACTS}`)
  const report: Report = { logins: [], changes: [], subjects: [], told: [] }
  const site = await Site.open({ data: options.data })
  try {
    const ports = (await Promise.all(Array.from({ length: EDGES }, () => freePorts()))).map(({ tcp }) => tcp)
    await startAll(site, 1, ports)
    await register(users, ports[0]!)
    const everybody = await logInAll(users, ports, sayHello)
    await buildRing(everybody, { domain: 'localhost', contacts: CONTACTS })
    await logOutAll(everybody)
    await site.stopProcesses()
    for (const services of options.services) await measureCluster(site, services, options, ports, report)
    await measureNaive(site, users - users / OFFLINE_ONE_IN, options, report)
  } finally {
    await site.close()
  }
  return [
    `${EDGES} edges, one router, one nats-server, all on one core; ${users} users with ${CONTACTS} contacts each, of whom ${ONLINE_CONTACTS} are online.`,
    '',
    '| a login, roster and presence included | requests to the table | CPU of edges, µs | of presence | of the router | of NATS |',
    '|---|---|--:|--:|--:|--:|',
    ...report.logins,
    '',
    '| a change of presence | per s | bus messages | their bytes | CPU of edges, µs | of presence | of the router | of NATS | all | all, per delivery | p50, ms | p99, ms |',
    '|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|',
    ...report.changes,
    '',
    '† without sockets and clients.',
    '',
    '| of these, by subject | per s | subject | messages | bytes |',
    '|---|--:|---|--:|--:|',
    ...report.subjects,
    ...report.told,
  ]
}
