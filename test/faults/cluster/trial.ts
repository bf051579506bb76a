// A fault under load: each of its steps strikes, and it is measured how long it takes until all is well; then everything is checked.
//
// Bounds are those that are promised; the allowance beyond them is for a machine that has other things to do. What was measured
// is in the table, where a `!` marks what is over the bound, and no test fails for it.
import { setTimeout as sleep } from 'node:timers/promises'
import type { Fault, Step } from './faults.ts'
import { type Load, within } from './load.ts'
import type { Person } from './person.ts'
import type { Site } from './site.ts'

/** Presence agrees with the truth so soon: where somebody died, and where he said goodbye. */
const PRESENCE_WITHIN_MS = 12_000
const PRESENCE_WITHIN_GOODBYE_MS = 1_000
/** And later by as much as clients take to come back, whose edge is gone: they do not come at once. */
const BACK_WITHIN_MS = 2_000
/** By then no router knows a session that is gone. */
const GHOSTS_WITHIN_MS = 15_000
const ALLOWANCE_MS = 30_000
/** No messages for so long is no pause any more. */
const FLOWS_WITHIN_MS = 60_000

/** From the step to the moment when it was so for half of the people, and for all: some had to log in first. */
interface Took {
  readonly halfMs: number
  readonly allMs: number
  /** For whom it is not so yet. */
  readonly never: readonly Person[]
}

interface Result {
  readonly step: string
  /** Something has come that was said after the step. */
  readonly heard: Took
  /** Something is acknowledged that was said after the step. */
  readonly acked: Took
  /** They see each other as they are. */
  readonly presence: Took
  readonly isLate: boolean
  /** The longest time in which one person heard nothing, the step itself included. */
  readonly pauseMs: number
}

export class Trial {
  readonly #site: Site
  readonly #load: Load
  readonly #results: Result[] = []

  constructor(site: Site, load: Load) {
    this.#site = site
    this.#load = load
  }

  /** Returns what is wrong, a sentence each. */
  async undergo({ steps }: Fault): Promise<string[]> {
    const faults: string[] = []
    for (const step of steps(this.#site)) faults.push(...(await this.#take(step)))
    faults.push(...(await this.#load.check()))
    this.#load.spread()
    faults.push(...(await this.#ghosts()))
    return faults
  }

  async #take({ name, goodbye = false, endsStreams = false, strike }: Step): Promise<string[]> {
    const { people } = this.#load
    const torn = people.map((person) => person.torn)
    const pauses = people.map((person) => person.watch())
    await strike()
    const struckMs = performance.now()
    this.#load.hold()
    const boundMs = (goodbye ? PRESENCE_WITHIN_GOODBYE_MS : PRESENCE_WITHIN_MS) + (endsStreams ? BACK_WITHIN_MS : 0)
    const [heard, acked, presence] = await Promise.all([
      timed(people, FLOWS_WITHIN_MS, ({ heardMs }) => heardMs > struckMs),
      timed(people, FLOWS_WITHIN_MS, ({ ackedMs }) => ackedMs > struckMs),
      timed(people, boundMs + ALLOWANCE_MS, ({ seesTruth }) => seesTruth),
    ])
    const pauseMs = Math.max(...pauses.map((pause) => pause()))
    this.#results.push({ step: name, heard, acked, presence, isLate: presence.allMs > boundMs, pauseMs })
    this.#load.goOn()
    const faults: string[] = []
    if (heard.never.length > 0) faults.push(`${name}: messages do not flow again to ${listOf(heard.never)}`)
    if (acked.never.length > 0) faults.push(`${name}: nothing is acknowledged again to ${listOf(acked.never)}`)
    const hit = people.filter((person, n) => person.torn > torn[n]! && !endsStreams)
    if (hit.length > 0) faults.push(`${name}: streams were ended, and their edges were not touched: ${listOf(hit)}`)
    for (const blind of presence.never) faults.push(`${name}: ${blind.viewInWords()}`)
    return faults
  }

  /** Sessions that routers know and that are not there. */
  async #ghosts(): Promise<string[]> {
    const deadline = performance.now() + GHOSTS_WITHIN_MS + ALLOWANCE_MS
    for (;;) {
      const known = await this.#site.sessions()
      const there = new Set(this.#load.people.map(({ jid }) => jid))
      const ghosts = known.filter((jid) => !there.has(jid))
      if (ghosts.length === 0) return []
      if (performance.now() > deadline) return ghosts.map((jid) => `${jid} is known to the routers, and is not there`)
      await sleep(100) // asking them costs a process
    }
  }

  /** One line a step. */
  table(): string {
    const head = ['half of the people, all:', 'heard again', 'acked again', 'presence agrees  ', 'longest pause']
    const rows = this.#results.map(({ step, heard, acked, presence, isLate, pauseMs }) => [
      step,
      inWords(heard),
      inWords(acked),
      `${inWords(presence)}${isLate ? ' !' : '  '}`,
      seconds(pauseMs),
    ])
    const widths = head.map((_, column) => Math.max(...[head, ...rows].map((row) => row[column]!.length)))
    const lineOf = (row: readonly string[]): string =>
      row.map((cell, n) => (n === 0 ? cell.padEnd(widths[0]!) : cell.padStart(widths[n]!))).join('  ')
    return [head, ...rows].map(lineOf).join('\n')
  }

  /** What the load came to, in one line. */
  summary(): string {
    const { people, checker } = this.#load
    const acked = checker.said.filter((message) => message.acked).length
    const refused = checker.said.filter((message) => message.refused !== '').length
    const logins = people.reduce((sum, person) => sum + person.logins, 0)
    const resumptions = people.reduce((sum, person) => sum + person.resumptions, 0)
    return (
      `${checker.said.length} messages said, ${acked} acknowledged, ${refused} refused, ${checker.late} shown late, ${checker.again} again; ` +
      `${logins} logins, ${resumptions} of them resumed a session`
    )
  }
}

/**
 * Over when it holds for all of them at once. What is measured is when it held for each for the first time: connections go on
 * breaking, and somebody may be away at any moment.
 */
async function timed(people: readonly Person[], patienceMs: number, holds: (person: Person) => boolean): Promise<Took> {
  const beganMs = performance.now()
  const first = new Map<Person, number>()
  let never: readonly Person[] = people
  await within(patienceMs, () => {
    const nowMs = performance.now() - beganMs
    for (const person of people) if (!first.has(person) && holds(person)) first.set(person, nowMs)
    never = people.filter((person) => !holds(person))
    return never.length === 0
  })
  const times = people.map((person) => first.get(person) ?? patienceMs).sort((a, b) => a - b)
  return { halfMs: times[Math.ceil(times.length / 2) - 1]!, allMs: times.at(-1)!, never }
}

function listOf(people: readonly Person[]): string {
  return people.map(({ account, door }) => `${account} at ${door ?? 'no edge'}`).join(', ')
}

function inWords({ halfMs, allMs }: Took): string {
  return `${seconds(halfMs)}, ${seconds(allMs).padStart(6)}`
}

function seconds(ms: number): string {
  return `${(ms / 1_000).toFixed(1)} s`
}
