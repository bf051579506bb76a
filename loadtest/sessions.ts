// Many sessions at once, and all of them back after a crash:
//
//   taskset -c 1 node loadtest/sessions.ts [--users 19000] [--transport tcp|tls|websocket] [--data FOLDER] [--json FILE]
//
// Makes the accounts, logs them in by SCRAM, holds them idle, then kills the server with SIGKILL and starts it again
// while every client tries to come back, as clients do. Prints login rate, memory and CPU. The server is started here, on
// core 0, as a process of its own: each of the two has a file descriptor a session. The source addresses are
// 127.0.0.2 to 127.0.0.33, for ports enough. With --data the accounts are kept for the next run.
import { writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { Client } from './bench/src/client.mjs'
import { inParallel } from './bench/src/crowd.mjs'
import { run as makeUsers } from './bench/src/scenarios/users.mjs'
import { dataFolder, everyTwoSeconds, freePorts, Server } from './server.ts'

const { values } = parseArgs({
  options: {
    users: { type: 'string', default: '19000' },
    transport: { type: 'string', default: 'tcp' },
    concurrency: { type: 'string', default: '64' },
    settle: { type: 'string', default: '10' },
    timeout: { type: 'string', default: '900' },
    data: { type: 'string' },
    json: { type: 'string' },
  },
})
const users = Number(values.users)
const settleS = Number(values.settle)
const transport = values.transport as 'tcp' | 'tls' | 'websocket'
/** Tries of one client to come back, 100 ms apart. */
const TRIES_MAX = 1_200

const server = new Server(await freePorts(), dataFolder(values.data))
const options = {
  host: '127.0.0.1',
  port: server.ports[transport],
  domain: 'localhost',
  password: 'bench',
  resource: 'bench',
  auth: 'auto',
  transport,
  path: '/xmpp-websocket',
  spread: true,
  users,
  concurrency: Number(values.concurrency),
}
setTimeout(() => {
  console.error(`sessions: not done within ${values.timeout} s`)
  void server.stop('SIGKILL').finally(() => process.exit(1))
}, Number(values.timeout) * 1_000).unref()

const sleep = (seconds: number) => new Promise((resolve) => setTimeout(resolve, seconds * 1_000))
const seconds = (since: number) => (performance.now() - since) / 1_000
const online = new Set<number>()

async function logIn(index: number): Promise<void> {
  const client = new Client(index, options)
  await client.login()
  client.send('<presence/>')
  online.add(index)
  void client.whenClosed.then(() => online.delete(index))
}

async function comeBack(index: number): Promise<void> {
  for (let tries = 0; tries < TRIES_MAX; tries++) {
    try {
      return await logIn(index)
    } catch {
      await sleep(0.1)
    }
  }
  throw new Error(`u${index} did not come back`)
}

/** All of them at once, so many at a time. Seconds, and milliseconds of the server's CPU for each. */
async function everybody(how: (index: number) => Promise<void>, cpuBefore: number) {
  const began = performance.now()
  const quiet = everyTwoSeconds(() => `  ${online.size} of ${users} online after ${seconds(began).toFixed(0)} s`)
  const halfway = { s: Number.NaN }
  await inParallel(users, options.concurrency, async (index: number) => {
    await how(index)
    if (online.size * 2 >= users && Number.isNaN(halfway.s)) halfway.s = seconds(began)
  })
  quiet()
  const tookS = seconds(began)
  return { tookS, halfS: halfway.s, perSecond: users / tookS, cpuMsEach: ((server.cpuS() - cpuBefore) * 1_000) / users }
}

try {
  await server.start()
  console.log(`server: pid ${server.pid}; making ${users} accounts`)
  await makeUsers({ ...options, port: server.ports.tcp, transport: 'tcp', concurrency: 16 }, { cpu: () => null })
  await server.stop('SIGTERM') // memory is measured on one that has done nothing else
  await server.start()
  await sleep(2)

  const emptyKiB = server.pssKiB()
  console.log(`logging in ${users} by ${transport}; ${(emptyKiB / 1024).toFixed(0)} MiB before`)
  const login = await everybody(logIn, server.cpuS())
  const rightAfterKiB = server.pssKiB()
  await sleep(settleS)
  const settledKiB = server.pssKiB()
  const cpuBefore = server.cpuS()
  await sleep(settleS)
  const idleCpuPercent = ((server.cpuS() - cpuBefore) * 100) / settleS
  const stayed = online.size

  console.log(`${stayed} online and idle; SIGKILL`)
  const killed = performance.now()
  await server.stop('SIGKILL')
  while (online.size > 0) await sleep(0.01)
  const starting = server.start().then(() => seconds(killed))
  const back = await everybody(comeBack, 0)
  const allBackS = seconds(killed)

  const results = {
    users,
    transport,
    login,
    memoryKiB: {
      empty: emptyKiB,
      perSession: (settledKiB - emptyKiB) / users,
      perSessionRightAfter: (rightAfterKiB - emptyKiB) / users,
      inAllMiB: settledKiB / 1024,
    },
    idleCpuPercent,
    stayed,
    restart: { listensAfterS: await starting, allBackAfterS: allBackS, perSecond: back.perSecond, cpuMsEachAndStart: back.cpuMsEach },
  }
  console.log(JSON.stringify(results, (_, value) => (typeof value === 'number' ? Number(value.toPrecision(4)) : value), 2))
  if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify(results, null, 2)}\n`)
  process.exitCode = stayed === users && online.size === users ? 0 : 1
} finally {
  await server.stop('SIGKILL')
}
process.exit()
