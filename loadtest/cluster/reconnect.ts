// Everybody comes back at once: after the death of an edge, and after the death of all, when nothing is in memory.
import type { Client } from '../bench/src/client.mjs'
import { freePorts } from '../server.ts'
import { logIn, logInAll, register, sayHello, sleep } from './people.ts'
import { Site, type TableUse } from './site.ts'

export interface ReconnectOptions {
  readonly users: number
  readonly loginsPerSecond: number
}

/** As clients do: soon, and not all at the same moment. */
const RETRY_S = 0.2
const PATIENCE_S = 120

interface Second {
  readonly s: number
  readonly back: number
  readonly requests: number
}

function sum({ requests }: TableUse): number {
  return Object.values(requests).reduce((all, count) => all + count, 0)
}

/** Each tries until it is back; meanwhile what they and the table do is noted every second. */
async function comeBack(
  site: Site,
  users: number,
  port: number,
  began: number,
): Promise<{ clients: Client[]; seconds: Second[]; allS: number }> {
  const clients = new Array<Client>(users)
  let back = 0
  let done = false
  const one = async (index: number): Promise<void> => {
    while (performance.now() - began < PATIENCE_S * 1_000) {
      try {
        clients[index] = await logIn(index, port, users)
        sayHello(clients[index]!)
        back++
        return
      } catch {
        await sleep(RETRY_S * (1 + Math.random()))
      }
    }
    throw new Error(`u${index} did not come back within ${PATIENCE_S} s`)
  }
  const seconds: Second[] = []
  const watch = async (): Promise<void> => {
    // A process that ended has taken its counts with it: so they begin with those that run now.
    let last = sum(await site.tableUse())
    let lastMs = performance.now()
    while (!done) {
      await sleep(1)
      const now = sum(await site.tableUse())
      const nowMs = performance.now()
      seconds.push({ s: (nowMs - began) / 1_000, back, requests: Math.max(0, now - last) / ((nowMs - lastMs) / 1_000) })
      last = now
      lastMs = nowMs
    }
  }
  const watching = watch()
  await Promise.all(Array.from({ length: users }, (_, index) => one(index)))
  const allS = (performance.now() - began) / 1_000
  await sleep(1)
  done = true
  await watching
  return { clients, seconds, allS }
}

function told(what: string, { users, loginsPerSecond }: ReconnectOptions, seconds: readonly Second[], allS: number): string {
  const most = Math.max(...seconds.map(({ requests }) => requests))
  const logins = seconds.map(({ s, back }, n) => (back - (seconds[n - 1]?.back ?? 0)) / (s - (seconds[n - 1]?.s ?? 0)))
  return `| ${what} | ${users} | ${loginsPerSecond} | ${allS.toFixed(1)} | ${Math.max(...logins).toFixed(0)} | ${most.toFixed(0)} |`
}

/** Lines of a table, and behind it what happened second by second. */
export async function reconnect(options: ReconnectOptions): Promise<string[]> {
  const { users, loginsPerSecond } = options
  const lines = [
    '| who died | sessions | `loginsPerSecond` | all are back after, s | logins/s, at most | requests to the table/s, at most |',
    '|---|--:|--:|--:|--:|--:|',
  ]
  const timelines: string[] = []
  const note = (what: string, seconds: readonly Second[]) =>
    timelines.push(
      '',
      `${what}: ${seconds.map(({ s, back, requests }) => `${s.toFixed(0)} s ${back} back, ${requests.toFixed(0)} requests`).join('; ')}`,
    )
  const site = await Site.open({ config: { limits: { loginsPerSecond } } })
  try {
    const { tcp: first, tls: second } = await freePorts()
    const edge = (name: string, port: number) => site.add(name, 'edge', { c2s: { port, tlsPort: 'off' } })
    const owners = async (n: number) => {
      await site.add(`router-${n}`, 'router')
      await site.add(`presence-${n}`, 'presence')
    }
    await owners(1)
    await edge('edge-1', first)
    await edge('edge-2', second)
    await site.ready()
    await register(users, second)
    await logInAll(users, [first], sayHello)
    await sleep(3)

    let began = performance.now()
    await site.processes.find(({ name }) => name === 'edge-1')!.kill('SIGKILL')
    const warm = await comeBack(site, users, second, began)
    lines.push(told('an edge', options, warm.seconds, warm.allS))
    note('An edge', warm.seconds)

    began = performance.now()
    await Promise.all(site.processes.map((process) => process.kill('SIGKILL')))
    await owners(2)
    await edge('edge-3', second)
    const cold = await comeBack(site, users, second, began)
    lines.push(told('all edges, routers and presence services', options, cold.seconds, cold.allS))
    note('All', cold.seconds)
  } finally {
    await site.close()
  }
  return [...lines, ...timelines]
}
