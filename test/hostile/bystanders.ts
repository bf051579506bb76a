// Two users who talk to each other while the server is attacked, in a process of their own, and a gauge of its memory.
//
//   node test/hostile/bystanders.ts '{"ports":{…},"pid":4711,"romeo":"…","juliet":"…"}'        with an IPC channel
//
//   → "begin"                          the figures start anew
//   ← {"began":true}
//   → "finish"                         what is under way is waited for
//   ← {"sent":…,"worstMs":…,"medianMs":…,"startMb":…,"peakMb":…,"endMb":…}  or {"fault":"…"}
//
// Every message has the number behind that of the last one, and the time it was sent: one that is missing, comes twice or
// comes out of order is a fault. Both directions are used. Resident memory is read from /proc every 10 ms.
import { readFileSync } from 'node:fs'
import { Peer, type Ports } from './peer.ts'

const EVERY_MS = 5
const GAUGE_EVERY_MS = 10
const PATIENCE_MS = 10_000
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
  fault = ''
  readonly #from: Peer
  readonly #to: Peer
  #rest = ''

  constructor(from: Peer, to: Peer) {
    this.#from = from
    this.#to = to
    to.came = (text) => this.#read(text)
  }

  say(): void {
    const body = `${++this.sent} ${performance.now()}`
    this.#from.say(`<message to='${this.#to.jid}' type='chat' id='b${this.sent}'><body>${body}</body></message>`)
  }

  #read(text: string): void {
    const now = performance.now()
    const parts = (this.#rest + text).split('</message>')
    this.#rest = parts.pop()!
    for (const part of parts) {
      const [, number, sentMs] = /<body>(\d+) ([\d.]+)<\/body>/.exec(part) ?? []
      if (number === undefined) this.fault ||= `something else came: ${part.slice(0, 500)}`
      else if (Number(number) !== ++this.arrived) this.fault ||= `message ${number} came as the ${this.arrived}th`
      this.delaysMs.push(now - Number(sentMs))
    }
  }
}

function residentMb(pid: number): number {
  return Number(readFileSync(`/proc/${pid}/statm`, 'utf8').split(' ')[1]) * PAGE_MB
}

async function main({ ports, pid, romeo, juliet }: Orders): Promise<void> {
  const one = await Peer.online(ports, romeo, 'tcp', 'bystander')
  const other = await Peer.online(ports, juliet, 'websocket', 'bystander')
  const talks = [new Talk(one, other), new Talk(other, one)]
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
    return {
      sent: delaysMs.length,
      worstMs: delaysMs.at(-1) ?? 0,
      medianMs: delaysMs[delaysMs.length >> 1] ?? 0,
      startMb,
      peakMb,
      endMb: residentMb(pid),
    }
  }

  process.on('message', async (order) => {
    if (order === 'begin') {
      for (const talk of talks) talk.delaysMs = []
      startMb = residentMb(pid)
      peakMb = startMb
      process.send!({ began: true })
    } else process.send!(await finish())
  })
  process.send!({ began: true })
}

process.on('disconnect', () => process.exit(0)) // whoever wanted to know is gone
await main(JSON.parse(process.argv[2]!))
