// What the way over the bus adds: a message's time from client to client at a low rate, embedded and in clusters, by turns.
import { runChat } from '../bench/src/chat-flow.mjs'
import { dataFolder, freePorts, Server } from '../server.ts'
import { logInAll, logOutAll, register, sayHello, sleep } from './people.ts'
import { Site } from './site.ts'

const PAIRS = 50
const RATE = 100
const SECONDS = 10
/** Of the first round, in which what runs is compiled. */
const WARM_UP_SECONDS = 4
const CHAT = { body: 100, rate: RATE, warmup: 1, 'in-flight': 1, 'full-jid': false }

interface Subject {
  readonly name: string
  /** Where the sender of each pair is, and where the recipient. */
  readonly ports: readonly number[]
  close(): Promise<void>
}

interface Latency {
  readonly p50Ms: number
  readonly p99Ms: number
}

async function embedded(archive: boolean): Promise<Subject> {
  process.env.MAM = archive ? 'on' : 'off'
  const server = new Server(await freePorts(), dataFolder(undefined))
  await server.start()
  const close = () => server.stop('SIGTERM')
  return { name: 'embedded', ports: [server.ports.tcp], close }
}

/** So many processes of each role; sender and recipient of a pair are on different edges. */
async function cluster(each: number, archive: boolean): Promise<Subject> {
  const site = await Site.open({ config: { modules: { mam: { enabled: archive } } } })
  const inner = await Promise.all(Array.from({ length: each }, () => freePorts()))
  for (const [n, { tcp }] of inner.entries()) {
    await site.add(`router-${n}`, 'router')
    await site.add(`presence-${n}`, 'presence')
    await site.add(`edge-${n}`, 'edge', { c2s: { port: tcp, tlsPort: 'off' } })
  }
  await site.ready()
  return { name: `cluster, ${each} of each role`, ports: inner.map(({ tcp }) => tcp), close: () => site.close() }
}

async function measure({ ports }: Subject, seconds: number): Promise<Latency> {
  const clients = await logInAll(PAIRS * 2, ports, sayHello)
  await sleep(1)
  const { p50Ms, p99Ms, lost } = await runChat(clients, { ...CHAT, seconds }, { cpu: () => null })
  await logOutAll(clients)
  if (lost > 0 || p50Ms === null || p99Ms === null) throw new Error(`${lost} messages did not arrive`)
  return { p50Ms, p99Ms }
}

/** Lines of a table. */
export async function latency(rounds: number): Promise<string[]> {
  const lines = [`| way of a message, ${RATE}/s in ${PAIRS} pairs | p50, ms | p99, ms |`, '|---|--:|--:|']
  for (const archive of [false, true]) {
    const subjects = [await embedded(archive), await cluster(1, archive), await cluster(2, archive)]
    const results = subjects.map((): Latency[] => [])
    try {
      for (const { ports } of subjects) await register(PAIRS * 2, ports[0]!)
      for (let round = 0; round <= rounds; round++) {
        for (const [n, subject] of subjects.entries()) {
          const result = await measure(subject, round === 0 ? WARM_UP_SECONDS : SECONDS)
          if (round > 0) results[n]!.push(result)
        }
      }
    } finally {
      await Promise.all(subjects.map((subject) => subject.close()))
    }
    for (const [n, { name }] of subjects.entries()) {
      const cell = (of: keyof Latency): string => {
        const values = results[n]!.map((result) => result[of])
        const [least, most] = [Math.min(...values).toPrecision(3), Math.max(...values).toPrecision(3)]
        return least === most ? least : `${least}–${most}`
      }
      lines.push(`| ${name}${archive ? ', archived' : ''} | ${cell('p50Ms')} | ${cell('p99Ms')} |`)
    }
  }
  return lines
}
