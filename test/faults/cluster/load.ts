// Pairs of people who talk, and show what they do, without a pause and at a bounded rate: on different edges, some by WebSocket.
//
// Each says numbered messages to the other, changes its presence every few seconds, reads its archive as it grows, and now and
// then loses its connection. What they were told is noted in the checker.
import { setTimeout as sleep } from 'node:timers/promises'
import type { Random } from '#test/fuzz/random.ts'
import { Checker } from './checker.ts'
import { Person } from './person.ts'
import type { Door } from './stream.ts'

const PASSWORD = 'a secret of nobody'
const TICK_MS = 50
const PRESENCE_EVERY_MS = 3_000
const ARCHIVE_EVERY_MS = 2_500
/** How often somebody's connection breaks, of all. */
const STUMBLE_EVERY_MS = 1_000
const WEBSOCKET_ONE_IN = 3
const FRIENDS_WITHIN_MS = 60_000
/** An archive that nobody can read for so long is as good as lost. */
const READ_WITHIN_MS = 60_000

export interface LoadOptions {
  readonly pairs: number
  /** Messages of each person in a second. */
  readonly rate: number
  readonly doors: () => readonly Door[]
  readonly random: Random
}

export class Load {
  readonly checker = new Checker()
  readonly people: readonly Person[]
  readonly #options: LoadOptions
  #timers: NodeJS.Timeout[] = []
  #holdsPresence = false

  constructor(options: LoadOptions) {
    this.#options = options
    this.people = Array.from({ length: 2 * options.pairs }, (_, n) => this.#person(n, this.checker))
    for (const [n, person] of this.people.entries()) person.partner = this.people[n ^ 1]!
  }

  /** Makes the accounts, connects them, and makes friends of them. From then on they talk. */
  async start(): Promise<void> {
    await Promise.all(this.people.map((person) => person.arrive(true)))
    for (const person of this.people) person.befriend()
    if (!(await within(FRIENDS_WITHIN_MS, () => this.people.every(({ seesTruth }) => seesTruth))))
      throw new Error(`they did not become friends: ${this.people.map((person) => person.viewInWords()).join('; ')}`)
    const { rate, random } = this.#options
    let due = 0
    this.#every(TICK_MS, () => {
      for (due += (this.people.length * rate * TICK_MS) / 1_000; due >= 1; due--) random.pick(this.people).say()
    })
    this.#every(1_000, () => {
      for (const person of this.people) person.request()
    })
    this.#every(PRESENCE_EVERY_MS / this.people.length, () => {
      if (!this.#holdsPresence) random.pick(this.people).show()
    })
    this.#every(ARCHIVE_EVERY_MS / this.people.length, () => void random.pick(this.people).poll())
    this.#every(STUMBLE_EVERY_MS, () => random.pick(this.people).stumble())
  }

  /** Each says something and shows something new, and then shows nothing else until `goOn`. */
  hold(): void {
    this.#holdsPresence = true
    for (const person of this.people) {
      person.show()
      person.say()
      person.request()
    }
  }

  goOn(): void {
    this.#holdsPresence = false
  }

  /** Whoever is not at the edge it likes best goes there. */
  spread(): void {
    for (const person of this.people) person.move()
  }

  /** Reads all archives up to now. Returns what is wrong with them, and with all that was shown. */
  async check(): Promise<string[]> {
    const snapshot = this.checker.snapshot()
    const read = await Promise.all(this.people.map((person) => readAll(person)))
    const unread = this.people.filter((_, n) => !read[n]).map(({ account }) => `the archive of ${account} cannot be read`)
    // What is not read is not lost as well.
    return unread.length > 0 ? unread : this.checker.faults(snapshot)
  }

  /** Nobody says anything any more. Resolves when everybody has left. */
  async stop(): Promise<void> {
    for (const timer of this.#timers) clearInterval(timer)
    this.#timers = []
    await Promise.all(this.people.map((person) => person.leave()))
  }

  /** After `stop`: reads all archives from their beginning, by other clients. Returns what differs from what was read before. */
  async checkWhole(): Promise<string[]> {
    const faults: string[] = []
    for (const [n, { account }] of this.people.entries()) {
      const scratch = new Checker()
      const reader = this.#person(n, scratch)
      reader.partner = reader
      await reader.arrive(false)
      if (!(await readAll(reader))) faults.push(`the archive of ${account} cannot be read`)
      await reader.leave()
      faults.push(...this.checker.faultsOfWhole(account, scratch.archives.get(account)!))
    }
    return faults
  }

  #person(n: number, checker: Checker): Person {
    const { doors, random } = this.#options
    return new Person({
      user: `p${n}`,
      password: PASSWORD,
      websocket: n % WEBSOCKET_ONE_IN === 0,
      door: n,
      doors,
      checker,
      random: () => random.next() / 2 ** 32,
    })
  }

  #every(ms: number, work: () => void): void {
    this.#timers.push(setInterval(work, ms))
  }
}

/** False where there is no reading it to its end. */
async function readAll(person: Person): Promise<boolean> {
  const deadline = performance.now() + READ_WITHIN_MS
  while (performance.now() < deadline) {
    // One that is under way may have begun too early.
    await person.poll()
    if (await person.poll()) return true
    await sleep(TICK_MS)
  }
  return false
}

/** True as soon as it holds; false when the time is over. */
export async function within(ms: number, holds: () => boolean): Promise<boolean> {
  const deadline = performance.now() + ms
  while (!holds()) {
    if (performance.now() > deadline) return false
    await sleep(10) // others move the clients: there is no event to wait for
  }
  return true
}
