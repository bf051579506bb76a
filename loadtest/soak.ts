// Mixed load for as long as you like, and whether memory stays flat:
//
//   taskset -c 1 node loadtest/soak.ts [--minutes 30] [--users 500] [--json FILE] [--svg FILE]
//
// Half of the users chat in pairs on TCP, a fifth on WebSocket, and those change their presence as well, each seen by ten
// contacts; the rest log in, ask for the roster, say hello and log out again, all the time. Every ten seconds the server's memory
// and heap are noted. The verdict is the slope of the memory over what comes after the warm-up, a quarter of the time:
// it fails where more than 2 % an hour of it are added that chance does not explain.
import { writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { Client } from './bench/src/client.mjs'
import { inParallel } from './bench/src/crowd.mjs'
import { buildRing, fetchRoster } from './bench/src/roster-ring.mjs'
import { run as makeUsers } from './bench/src/scenarios/users.mjs'
import { atRate, until } from './bench/src/waiting.mjs'
import { plot, type Series, slopeOf } from './plot.ts'
import { dataFolder, freePorts, Server } from './server.ts'

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '30' },
    users: { type: 'string', default: '500' },
    messages: { type: 'string', default: '400' },
    presences: { type: 'string', default: '10' },
    logins: { type: 'string', default: '5' },
    every: { type: 'string', default: '10' },
    data: { type: 'string' },
    json: { type: 'string' },
    svg: { type: 'string' },
  },
})
const users = Number(values.users)
const minutes = Number(values.minutes)
const everyS = Number(values.every)
const CONTACTS = 10
const WARM_UP = 1 / 4
/** A server that was started a moment ago still compiles what it runs. */
const MINUTES_MIN = 10
const GROWTH_PERCENT_PER_HOUR_MAX = 2
/** A growth is no accident where it is more than this many standard errors. */
const ERRORS_MIN = 3
const TYPE_CHAT = 'c'.charCodeAt(0)

const server = new Server(await freePorts(), dataFolder(values.data))
const common = { host: '127.0.0.1', domain: 'localhost', password: 'bench', resource: 'bench', auth: 'auto', path: '/xmpp-websocket', users }
const tcp = { ...common, port: server.ports.tcp, transport: 'tcp', concurrency: 16 }
const websocket = { ...common, port: server.ports.websocket, transport: 'websocket', concurrency: 16 }

const counts = { sent: 0, delivered: 0, presences: 0, presencesSeen: 0, logins: 0, rosters: 0, failed: 0 }
const sleep = (seconds: number) => new Promise((resolve) => setTimeout(resolve, seconds * 1_000))

async function logIn(index: number, options: typeof tcp): Promise<Client> {
  const client = new Client(index, options)
  await client.login()
  client.send('<presence/>')
  return client
}

/** Those that stay: the first half by TCP, the next fifth by WebSocket. */
async function gather(): Promise<Client[]> {
  const all = Math.floor(users * 0.7)
  const clients: Client[] = new Array(all)
  await inParallel(all, 16, async (index: number) => {
    clients[index] = await logIn(index, index < users / 2 ? tcp : websocket)
  })
  await buildRing(clients, { domain: 'localhost', contacts: CONTACTS })
  for (const client of clients) {
    client.onMessage = (_: Client, type: number) => {
      if (type === TYPE_CHAT) counts.delivered++
    }
    client.onPresence = () => counts.presencesSeen++
  }
  return clients
}

/** Returns a function that ends it. */
function load(clients: readonly Client[]): () => void {
  let next = 0
  const someone = () => clients[next++ % clients.length]!
  const stop = [
    atRate(Number(values.messages), () => {
      const sender = someone()
      sender.send(`<message type='chat' id='${next}' to='u${(sender.index + 1) % clients.length}@localhost'><body>soak ${next}</body></message>`)
      counts.sent++
    }),
    atRate(Number(values.presences), () => {
      someone().send(`<presence><status>${next}</status></presence>`)
      counts.presences++
    }),
    atRate(Number(values.logins), () => void comeAndGo()),
  ]
  return () => {
    for (const each of stop) each()
  }
}

let visitor = Math.floor(users * 0.7)
async function comeAndGo(): Promise<void> {
  const index = visitor
  visitor = visitor + 1 < users ? visitor + 1 : Math.floor(users * 0.7)
  try {
    const client = await logIn(index, index % 3 === 0 ? websocket : tcp)
    counts.logins++
    await fetchRoster(client)
    counts.rosters++
    client.send(`<message type='chat' id='hello' to='u0@localhost'><body>hello</body></message>`)
    counts.sent++
    await sleep(1)
    await client.logout()
  } catch (error) {
    counts.failed++
    console.error(`  u${index}: ${(error as Error).message}`)
  }
}

try {
  await server.start()
  await makeUsers({ ...tcp }, { cpu: () => null })
  const clients = await gather()
  console.log(`server: pid ${server.pid}; ${clients.length} users stay, ${minutes} minutes`)
  const memory: Series = { name: 'anonymous memory, MiB', colour: '#1d4ed8', points: [] }
  const heap: Series = { name: 'JavaScript heap in use, MiB', colour: '#e76f51', points: [] }
  const began = performance.now()
  const endLoad = load(clients)
  while (performance.now() - began < minutes * 60_000) {
    await sleep(everyS)
    const atS = (performance.now() - began) / 1_000
    memory.points.push([atS, server.anonymousKiB() / 1024])
    heap.points.push([atS, (await server.metric('nodejs_heap_size_used_bytes')) / 2 ** 20])
    const [now] = memory.points.slice(-1)
    console.log(`  ${atS.toFixed(0)} s: ${now![1].toFixed(1)} MiB, heap ${heap.points.at(-1)![1].toFixed(1)} MiB, ${counts.delivered} messages`)
  }
  endLoad()
  await until(() => counts.delivered >= counts.sent, 15)

  const lasting = memory.points.filter(([atS]) => atS > minutes * 60 * WARM_UP)
  const { perS, errorPerS, mean } = slopeOf(lasting)
  const percentPerHour = (100 * perS * 3_600) / mean
  const flat = perS < ERRORS_MIN * errorPerS || percentPerHour < GROWTH_PERCENT_PER_HOUR_MAX
  const lost = counts.sent - counts.delivered
  const verdict = `${minutes < MINUTES_MIN ? 'too short to tell' : flat ? 'flat' : 'GROWING'}: ${percentPerHour.toFixed(1)} % an hour (standard error ${((100 * errorPerS * 3_600) / mean).toFixed(1)}) of ${mean.toFixed(0)} MiB; ${lost} messages lost, ${counts.failed} logins failed`
  console.log(verdict)
  const results = { users, minutes, counts, lost, mean, percentPerHour, flat, cpuS: server.cpuS(), memory: memory.points, heap: heap.points }
  if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify(results)}\n`)
  if (values.svg !== undefined) writeFileSync(values.svg, plot([memory, heap], `${minutes} minutes of mixed load, ${users} users. ${verdict}`))
  process.exitCode = (flat || minutes < MINUTES_MIN) && lost === 0 && counts.failed === 0 ? 0 : 1
} finally {
  await server.stop('SIGTERM')
}
process.exit()
