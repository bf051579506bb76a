// Two users who talk to each other while the server is attacked, in a process of their own, and a gauge of its memory.
//
//   node test/hostile/bystanders.ts '{"ports":{…},"pid":4711,"romeo":"…","juliet":"…"}'        with an IPC channel
//
//   → "begin"                          the figures start anew
//   ← {"began":true}
//   → "finish"                         what is under way is waited for
//   ← {"sent":…,"worstMs":…,"medianMs":…,"worstCpuMs":…,"startMb":…,"peakMb":…,"endMb":…}  or {"fault":"…"}
//
// Every message has the number behind that of the last one, and the time it was sent: one that is missing, comes twice or
// comes out of order is a fault. Both directions are used. Resident memory is read from /proc every 10 ms.
//
// A message also says how long the thread of the server's event loop had worked when it was sent. What that has worked when
// it comes is what was done while it waited: for it, and for others first. However busy the machine is with anything else,
// that is the server's own doing.
import { readFileSync } from 'node:fs'
import { Peer, type Ports } from './peer.ts'

const EVERY_MS = 5
const GAUGE_EVERY_MS = 10
const PATIENCE_MS = 10_000
/** Linux says so, whatever its kernel's own is. */
const TICK_MS = 10
const PAGE_MB = 4096 / 1024 / 1024

export interface Orders {
  readonly ports: Ports
  readonly pid: number
  readonly romeo: string
  readonly juliet: string
}

export interface Figures {
  readonly sent: number
  readonly worstMs: number
  readonly medianMs: number
  /** The most that the server's event loop has worked while one message was on its way, and what it did as a rule. */
  readonly worstCpuMs: number
  readonly medianCpuMs: number
  readonly startMb: number
  readonly peakMb: number
  readonly endMb: number
}

export type Report = { readonly began: true } | Figures | { readonly fault: string }

/** One direction of the talk. */
class Talk {
  sent = 0
  arrived = 0
  delaysMs: number[] = []
  workedMs: number[] = []
  fault = ''
  readonly #from: Peer
  readonly #to: Peer
  readonly #pid: number
  #rest = ''

  constructor(from: Peer, to: Peer, pid: number) {
    this.#from = from
    this.#to = to
    this.#pid = pid
    to.came = (text) => this.#read(text)
  }

  say(): void {
    const body = `${++this.sent} ${performance.now()} ${workedMs(this.#pid)}`
    this.#from.say(`<message to='${this.#to.jid}' type='chat' id='b${this.sent}'><body>${body}</body></message>`)
  }

  #read(text: string): void {
    const now = performance.now()
    const worked = workedMs(this.#pid)
    const parts = (this.#rest + text).split('</message>')
    this.#rest = parts.pop()!
    for (const part of parts) {
      const [, number, sentMs, before] = /<body>(\d+) ([\d.]+) (\d+)<\/body>/.exec(part) ?? []
      if (number === undefined) this.fault ||= `something else came: ${part.slice(0, 500)}`
      else if (Number(number) !== ++this.arrived) this.fault ||= `message ${number} came as the ${this.arrived}th`
      this.delaysMs.push(now - Number(sentMs))
      this.workedMs.push(worked - Number(before))
    }
  }
}

/** How long the main thread of a process has been on a processor, to ten milliseconds (proc(5)). */
function workedMs(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/task/${pid}/stat`, 'utf8')
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return (Number(fields[11]) + Number(fields[12])) * TICK_MS
}

function residentMb(pid: number): number {
  return Number(readFileSync(`/proc/${pid}/statm`, 'utf8').split(' ')[1]) * PAGE_MB
}

async function main({ ports, pid, romeo, juliet }: Orders): Promise<void> {
  const one = await Peer.online(ports, romeo, 'tcp', 'bystander')
  const other = await Peer.online(ports, juliet, 'websocket', 'bystander')
  const talks = [new Talk(one, other, pid), new Talk(other, one, pid)]
  let startMb = residentMb(pid)
  let peakMb = startMb

  setInterval(() => {
    for (const talk of talks) talk.say()
  }, EVERY_MS)
  setInterval(() => {
    peakMb = Math.max(peakMb, residentMb(pid))
  }, GAUGE_EVERY_MS)

  async function finish(): Promise<Report> {
    const upTo = talks.map(({ sent }) => sent)
    const deadline = performance.now() + PATIENCE_MS
    while (talks.some(({ arrived }, i) => arrived < upTo[i]!)) {
      const [fault] = talks.map(({ fault }) => fault).filter((fault) => fault !== '')
      if (fault !== undefined) return { fault }
      if (one.gone || other.gone) return { fault: 'a bystander was disconnected' }
      if (performance.now() > deadline) return { fault: `of ${upTo} messages only ${talks.map(({ arrived }) => arrived)} came` }
      await new Promise((resolve) => setTimeout(resolve, 5))
    }
    const delaysMs = talks.flatMap(({ delaysMs }) => delaysMs).sort((a, b) => a - b)
    const worked = talks.flatMap(({ workedMs }) => workedMs).sort((a, b) => a - b)
    return {
      sent: delaysMs.length,
      worstMs: delaysMs.at(-1) ?? 0,
      medianMs: delaysMs[delaysMs.length >> 1] ?? 0,
      worstCpuMs: worked.at(-1) ?? 0,
      medianCpuMs: worked[worked.length >> 1] ?? 0,
      startMb,
      peakMb,
      endMb: residentMb(pid),
    }
  }

  process.on('message', async (order) => {
    if (order === 'begin') {
      for (const talk of talks) {
        talk.delaysMs = []
        talk.workedMs = []
      }
      startMb = residentMb(pid)
      peakMb = startMb
      process.send!({ began: true })
    } else process.send!(await finish())
  })
  process.send!({ began: true })
}

process.on('disconnect', () => process.exit(0)) // whoever wanted to know is gone
await main(JSON.parse(process.argv[2]!))
