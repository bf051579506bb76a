// What it costs when all of an organisation come in the morning: one group, whose members are in each other's rosters, and all of
// them log in, get the roster and say hello, until each has been shown every other.
//
//   taskset -c 1 node loadtest/group-morning.ts [--members 200,1000] [--forms embedded,cluster] [--services 1]
//
// Starts all it measures, on core 0 (DynamoDB Local on core 1, beside the clients), anew before the morning, so that nothing is in
// memory, and prints a table: about six minutes. What the server does anyway is taken off. For the cluster it needs nats-server
// (scripts/nats-server.sh) and DynamoDB Local (scripts/dynamodb-local.sh).
import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import type { Client } from './bench/src/client.mjs'
import { inParallel } from './bench/src/crowd.mjs'
import { ProcessMeter } from './bench/src/process-meter.mjs'
import { ArrivalBoard, fetchRoster, senderIndex } from './bench/src/roster-ring.mjs'
import { until, untilQuiet } from './bench/src/waiting.mjs'
import { logIn, logOutAll, register, sayHello, sleep } from './cluster/people.ts'
import { Site } from './cluster/site.ts'
import { IDLE_S, short } from './cluster/units.ts'
import { dataFolder, freePorts, Server } from './server.ts'

const EDGES = 4
/** As in a rush, and no more than an edge admits at once. */
const LOGINS_AT_ONCE = 32
const GROUP = 'everybody@localhost'
const SETTLED_S = 3
/** Until everybody has been shown everybody: two minutes for a million presences. */
const PATIENCE_S = 180

type Counts = ReadonlyMap<string, number>

/** One form of the server, to be measured from outside. */
interface Subject {
  readonly name: string
  /** Of its edges. */
  readonly ports: readonly number[]
  /** `rookery` with these arguments, on what runs. */
  rookery(...args: readonly string[]): Promise<void>
  /** It runs anew, with what is stored and nothing else. */
  restart(): Promise<void>
  /** How long it is left alone then: what it does anyway in that time is taken off. */
  readonly idleS: number
  /** Everything there is to count since its start: all of it only grows. */
  counts(): Promise<Counts>
  close(): Promise<void>
}

async function embedded(): Promise<Subject> {
  const data = dataFolder(undefined)
  const server = new Server(await freePorts(), data)
  await server.start()
  return {
    name: 'embedded',
    idleS: 5,
    ports: [server.ports.tcp],
    async rookery(...args) {
      const binary = join(import.meta.dirname, '../bin/rookery')
      execFileSync(binary, [...args, '--config', join(data, 'rookery.yaml')], { stdio: ['ignore', 'ignore', 'inherit'] })
    },
    async restart() {
      await server.stop('SIGTERM')
      await server.start()
    },
    async counts() {
      const text = await (await fetch(`http://127.0.0.1:${server.ports.metrics}/metrics`)).text()
      const named = [...text.matchAll(/^rookery_(\S+) (\S+)$/gm)].map(([, name, value]) => [name!, Number(value)] as const)
      return new Map([...named, ['cpu all', cpuOf(new ProcessMeter([server.pid])).get('cpu all')!]])
    },
    close: () => server.stop('SIGTERM'),
  }
}

async function cluster(services: number): Promise<Subject> {
  const site = await Site.open()
  const ports = (await Promise.all(Array.from({ length: EDGES }, () => freePorts()))).map(({ tcp }) => tcp)
  const start = async (): Promise<void> => {
    await site.add('router', 'router')
    for (let n = 1; n <= services; n++) await site.add(`presence-${n}`, 'presence')
    for (const [n, port] of ports.entries()) await site.add(`edge-${n + 1}`, 'edge', { c2s: { port, tlsPort: 'off' } })
    await site.ready()
    await sleep(SETTLED_S)
  }
  await start()
  return {
    name: `cluster, ${EDGES} edges, ${services} presence service${services === 1 ? '' : 's'}`,
    idleS: IDLE_S,
    ports,
    rookery: (...args) => site.rookery(...args),
    async restart() {
      await site.stopProcesses()
      await start()
    },
    async counts() {
      const { published, publishedBytes } = await site.carried()
      return new Map([
        ...(await site.counts()),
        ...cpuOf(site.meter()),
        ['bus messages', published],
        ['bus bytes', publishedBytes],
      ])
    },
    close: () => site.close(),
  }
}

/** In seconds, of all, and by what a process is. */
function cpuOf(meter: ProcessMeter): Map<string, number> {
  const { user, system, of } = meter.cpu()!
  const sums = new Map([['cpu all', user + system]])
  for (const [name, seconds] of Object.entries(of as Record<string, number>)) {
    const kind = `cpu ${name.replace(/-\d+$/, '')}`
    sums.set(kind, (sums.get(kind) ?? 0) + seconds)
  }
  return sums
}

/** By how much each has risen, less what it would have anyway: so much a second. */
function risenFrom(before: Counts, after: Counts, anyway?: { readonly risen: Counts; readonly share: number }): Counts {
  const rise = (name: string): number =>
    after.get(name)! - (before.get(name) ?? 0) - (anyway?.risen.get(name) ?? 0) * (anyway?.share ?? 0)
  return new Map([...after.keys()].map((name) => [name, Math.max(0, rise(name))]))
}

interface Morning {
  readonly clients: readonly Client[]
  /** Until everybody has been shown everybody. */
  readonly seconds: number
  /** What clients have received of presence, and pushes of the roster. */
  readonly presences: number
  readonly bytes: number
  readonly pushes: number
}

/** Everybody comes. Rejects where somebody is not shown somebody, or twice: nobody shows anything but that he is there. */
async function morning(members: number, ports: readonly number[]): Promise<Morning> {
  const board = new ArrivalBoard(members, members - 1)
  const clients = new Array<Client>(members)
  let [presences, bytes, pushes] = [0, 0, 0]
  const began = performance.now()
  await inParallel(members, LOGINS_AT_ONCE, async (index: number) => {
    const client = await logIn(index, ports[index % ports.length]!, members)
    clients[index] = client
    client.onPresence = (_: Client, type: number, buffer: Buffer, start: number, end: number, fromAt: number) => {
      presences++
      bytes += end - start
      if (type === 0) board.note(client, senderIndex(buffer, fromAt))
    }
    client.onRosterPush = () => {
      pushes++
    }
    await fetchRoster(client)
    sayHello(client)
  })
  if (!(await until(() => board.complete >= members, PATIENCE_S)))
    throw new Error(`${board.complete} of ${members} have been shown everybody after ${PATIENCE_S} s`)
  const seconds = (performance.now() - began) / 1_000
  await untilQuiet(() => presences, 1)
  if (presences > members * members) throw new Error(`${presences} presences came, and there are ${members * members}`)
  return { clients, seconds, presences, bytes, pushes }
}

/** Numbers of a line: of the whole morning, and then of one login. */
async function measure(subject: Subject, members: number): Promise<string> {
  await register(members, subject.ports[0]!)
  await subject.rookery('group', 'create', GROUP)
  const names = Array.from({ length: members }, (_, n) => `u${n}@localhost`)
  for (let at = 0; at < members; at += 100) await subject.rookery('group', 'add', GROUP, ...names.slice(at, at + 100))
  await subject.restart()
  const started = await subject.counts()
  await sleep(subject.idleS)
  const before = await subject.counts()
  const beganMs = performance.now()
  const { clients, seconds, presences, bytes, pushes } = await morning(members, subject.ports)
  const after = await subject.counts()
  const share = (performance.now() - beganMs) / 1_000 / subject.idleS
  const risen = risenFrom(before, after, { risen: risenFrom(started, before), share })
  await logOutAll(clients)
  const rise = (name: string): number => risen.get(name) ?? 0
  const requests = new Map<string, number>()
  for (const name of after.keys()) {
    const operation = /^table_requests_total\{operation="(\w+)"/.exec(name)?.[1]
    if (operation !== undefined) requests.set(operation, (requests.get(operation) ?? 0) + rise(name) / members)
  }
  const kinds = ['edge', 'presence', 'router', 'nats'].filter((kind) => after.has(`cpu ${kind}`))
  const cpu = kinds.length === 0 ? '' : ` (${kinds.map((kind) => `${kind} ${rise(`cpu ${kind}`).toFixed(1)}`).join(', ')})`
  const carried = after.has('bus messages')
  const cells = [
    `${members}`,
    seconds.toFixed(1),
    carried ? rise('bus messages').toFixed(0) : '–',
    carried ? (rise('bus bytes') / 1e6).toFixed(1) : '–',
    [...requests].flatMap(([operation, count]) => (count >= 0.005 ? `${short(count)} ${operation}` : [])).join(', ') || '–',
    `${presences}`,
    (bytes / 1e6).toFixed(0),
    `${pushes}`,
    `${rise('cpu all').toFixed(1)}${cpu}`,
    ((rise('cpu all') * 1e6) / presences).toFixed(1),
  ]
  return `| ${subject.name} | ${cells.join(' | ')} |`
}

const { values } = parseArgs({
  options: {
    members: { type: 'string', default: '200,1000' },
    forms: { type: 'string', default: 'embedded,cluster' },
    services: { type: 'string', default: '1' },
  },
})
const FORMS: Readonly<Record<string, () => Promise<Subject>>> = { embedded, cluster: () => cluster(Number(values.services)) }
const [members, forms] = [values.members.split(',').map(Number), values.forms.split(',')]
if (!members.every((count) => Number.isInteger(count) && count > 1) || !(Number(values.services) >= 1)) {
  console.error('group-morning: --members are whole numbers over 1, --services is at least 1')
  process.exit(2)
}
const unknown = forms.find((form) => !Object.hasOwn(FORMS, form))
if (unknown !== undefined) {
  console.error(`group-morning: there is no form ${unknown}; there are ${Object.keys(FORMS).join(', ')}`)
  process.exit(2)
}
// There are more of these than Node takes for a mistake.
process.setMaxListeners(0)
// What was started says at its start what is to be done at the exit of this process.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => process.exit(130))
console.log(
  '| all of a group come | members | seconds | bus messages | their MB | requests to the table, a login | presences received | their MB | roster pushes | CPU, s | CPU per presence, µs |',
)
console.log('|---|--:|--:|--:|--:|---|--:|--:|--:|--:|--:|')
for (const form of forms) {
  for (const count of members) {
    const subject = await FORMS[form]!()
    try {
      console.log(await measure(subject, count))
    } finally {
      await subject.close()
    }
  }
}
process.exit()
