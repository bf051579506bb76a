// What a cluster asks of its table: while nothing happens, for a login, and for an archived message at several rates.
//
// All of it is read from the processes' own counters; what leases and the mark of the archive ids ask meanwhile is taken
// off, by the rate that was measured when nothing happened. Units are those that DynamoDB Local counts, as DynamoDB does: writing
// is one for each KiB begun of an item, reading one for each 4 KiB of what a request returns.
import { runChat } from '../bench/src/chat-flow.mjs'
import { fetchRoster } from '../bench/src/roster-ring.mjs'
import { freePorts } from '../server.ts'
import { logInAll, logOutAll, register, sayHello, sleep } from './people.ts'
import { Site, type TableUse } from './site.ts'

/** Longer than a presence service must have had its accounts until it takes from the router what that has read of them. */
export const IDLE_S = 65
const LOGINS = 300
const PAIRS = 50
const RATES = [10, 100, 1_000]
const CHAT_S = 8
/** Until what was acked is applied, too. */
const APPLIED_S = 2

interface Cost {
  readonly requests: Readonly<Record<string, number>>
  readonly readUnits: number
  readonly writeUnits: number
}

/** What happened between two readings, less what would have happened anyway. */
function between(before: TableUse, after: TableUse, seconds: number, idle: Cost | undefined): Cost {
  const less = (now: number, then: number, anyway: number): number => Math.max(0, now - then - anyway * seconds)
  const names = Object.keys(after.requests)
  return {
    requests: Object.fromEntries(
      names.map((name) => [name, less(after.requests[name]!, before.requests[name] ?? 0, idle?.requests[name] ?? 0)]),
    ),
    readUnits: less(after.readUnits, before.readUnits, idle?.readUnits ?? 0),
    writeUnits: less(after.writeUnits, before.writeUnits, idle?.writeUnits ?? 0),
  }
}

function over({ requests, readUnits, writeUnits }: Cost, count: number): Cost {
  const each = Object.entries(requests).map(([name, value]) => [name, value / count] as const)
  return { requests: Object.fromEntries(each), readUnits: readUnits / count, writeUnits: writeUnits / count }
}

async function costOf(site: Site, work: () => Promise<unknown>, idle?: Cost): Promise<Cost> {
  const before = await site.tableUse()
  const began = performance.now()
  await work()
  return between(before, await site.tableUse(), (performance.now() - began) / 1_000, idle)
}

export function short(value: number): string {
  return String(Number(value.toFixed(3)))
}

function line(what: string, { requests, readUnits, writeUnits }: Cost): string {
  const asked = Object.entries(requests).filter(([, count]) => count >= 0.0005)
  const list = asked.map(([name, count]) => `${short(count)} ${name}`).join(', ')
  return `| ${what} | ${list || 'none'} | ${short(readUnits)} | ${short(writeUnits)} |`
}

async function start(site: Site, port: number): Promise<void> {
  await site.add('router', 'router')
  await site.add('presence', 'presence')
  await site.add('edge', 'edge', { c2s: { port, tlsPort: 'off' } })
  await site.ready()
  await sleep(3) // who owns what has been settled
}

/** Lines of a table. */
export async function units(): Promise<string[]> {
  const lines = ['| what | requests | read units | write units |', '|---|---|--:|--:|']
  const site = await Site.open()
  try {
    const { tcp: port } = await freePorts()
    await start(site, port)
    await register(LOGINS, port)
    await site.stopProcesses()
    await start(site, port) // nothing is in memory
    const idle = over(await costOf(site, () => sleep(IDLE_S)), IDLE_S)
    lines.push(line('an idle process, a minute', over(idle, site.processes.length / 60)))

    for (const what of ['a login', 'the same again, the account in memory']) {
      let clients: Awaited<ReturnType<typeof logInAll>> = []
      const arrive = async (client: (typeof clients)[number]) => {
        await fetchRoster(client)
        sayHello(client)
      }
      const cost = await costOf(
        site,
        async () => {
          clients = await logInAll(LOGINS, [port], arrive)
          await sleep(APPLIED_S)
        },
        idle,
      )
      lines.push(line(`${what}, roster and presence included`, over(cost, LOGINS)))
      const left = await costOf(
        site,
        async () => {
          await logOutAll(clients)
          await sleep(APPLIED_S)
        },
        idle,
      )
      lines.push(line('a logout', over(left, LOGINS)))
    }
    lines.push(...(await archived(site, port, idle)))
  } finally {
    await site.close()
  }
  return lines
}

async function archived(site: Site, port: number, idle: Cost): Promise<string[]> {
  const lines: string[] = []
  const clients = await logInAll(PAIRS * 2, [port], sayHello)
  for (const rate of RATES) {
    const chat = { body: 100, rate, seconds: CHAT_S, warmup: 0, 'in-flight': 1, 'full-jid': false }
    let sent = 0
    const cost = await costOf(
      site,
      async () => {
        const { sentInTotal, lost } = await runChat(clients, chat, { cpu: () => null })
        if (lost > 0) throw new Error(`${lost} messages did not arrive`)
        sent = sentInTotal
        await sleep(APPLIED_S)
      },
      idle,
    )
    lines.push(line(`a message between two archives, ${rate}/s`, over(cost, sent)))
  }
  await logOutAll(clients)
  return lines
}
