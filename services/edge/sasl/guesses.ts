// Guessing passwords, slowed down: wrong ones are counted by account and address, by address, and by account.
//
// What is refused is refused before and after the password is looked at, so that many connections at once gain nothing. A
// stranger locks nobody out: he fills the count of his own address, and the one of the account only slows. What is not the name
// of an account counts like one. Counts end with a window that begins with the first of them; memory is bounded.
import { hash } from 'node:crypto'
import { type Clock, pause } from '#core/clock.ts'
import { networkOf } from '#core/network.ts'

export interface GuessLimits {
  readonly loginFailuresPerAccountAndAddress: number
  readonly loginFailuresPerAddress: number
  readonly loginFailuresPerAccount: number
  readonly loginFailureWindowMs: number
}

/** Counts of one kind; one more, and the one that has been quiet for longest is forgotten. */
export const COUNTS_MAX = 20_000
/** A longer name, which a stranger may choose, is counted by its hash. */
const NAME_LENGTH_MAX = 64
/** How long a login to an account that is being guessed waits: for each `loginFailuresPerAccount` one step more, up to the most. */
export const DELAY_STEP_MS = 1_000
export const DELAY_MS_MAX = 5_000

export class Guesses {
  readonly limits: GuessLimits
  readonly clock: Clock
  /** By network and account, by network, by account. */
  readonly pairs: Counts
  readonly networks: Counts
  readonly accounts: Counts

  constructor(limits: GuessLimits, clock: Clock) {
    this.limits = limits
    this.clock = clock
    this.pairs = new Counts(limits.loginFailureWindowMs, clock)
    this.networks = new Counts(limits.loginFailureWindowMs, clock)
    this.accounts = new Counts(limits.loginFailureWindowMs, clock)
  }

  /** `account`: a bare JID, whether there is one or not. */
  attempt(account: string, address: string): Attempt {
    return new Attempt(this, account, address)
  }
}

/** One try at one account. */
export class Attempt {
  readonly #guesses: Guesses
  readonly #account: string
  readonly #address: string

  constructor(guesses: Guesses, account: string, address: string) {
    this.#guesses = guesses
    this.#account = account.length > NAME_LENGTH_MAX ? hash('sha256', account, 'base64') : account
    this.#address = address
  }

  /** Whatever the password is: too many were wrong. To be asked again when the password has been looked at. */
  get refused(): boolean {
    const { networks, pairs, limits } = this.#guesses
    if (networks.empty) return false // as long as nobody errs it costs nothing
    const network = networkOf(this.#address)
    return (
      reaches(limits.loginFailuresPerAddress, networks.of(network)) ||
      reaches(limits.loginFailuresPerAccountAndAddress, pairs.of(this.#pair(network)))
    )
  }

  /** Before the password is looked at; undefined where nobody has to wait. */
  wait(): Promise<void> | undefined {
    const { accounts, limits, clock } = this.#guesses
    const each = limits.loginFailuresPerAccount
    const steps = each === 0 ? 0 : Math.floor(accounts.of(this.#account) / each)
    if (steps === 0) return undefined
    return pause(clock, Math.min(steps * DELAY_STEP_MS, DELAY_MS_MAX))
  }

  /** The password was wrong, or there is no such account. */
  failed(): void {
    const { accounts, networks, pairs } = this.#guesses
    const network = networkOf(this.#address)
    pairs.add(this.#pair(network))
    networks.add(network)
    accounts.add(this.#account)
  }

  /** It was right: whoever is at this address knows it. */
  succeeded(): void {
    const { pairs } = this.#guesses
    if (!pairs.empty) pairs.forget(this.#pair(networkOf(this.#address)))
  }

  #pair(network: string): string {
    return `${network} ${this.#account}`
  }
}

function reaches(limit: number, count: number): boolean {
  return limit > 0 && count >= limit
}

interface Count {
  count: number
  readonly sinceMs: number
}

/** How often each of many keys was met within a window that begins with the first time. */
class Counts {
  readonly #windowMs: number
  readonly #clock: Clock
  /** The one that was met last is the last. */
  readonly #counts = new Map<string, Count>()

  constructor(windowMs: number, clock: Clock) {
    this.#windowMs = windowMs
    this.#clock = clock
  }

  get empty(): boolean {
    return this.#counts.size === 0
  }

  of(key: string): number {
    const known = this.#counts.get(key)
    return known === undefined || this.#over(known) ? 0 : known.count
  }

  add(key: string): void {
    const counts = this.#counts
    const known = counts.get(key)
    counts.delete(key)
    if (known !== undefined && !this.#over(known)) {
      known.count++
      counts.set(key, known)
      return
    }
    counts.set(key, { count: 1, sinceMs: this.#clock.monotonic() })
    if (counts.size > COUNTS_MAX) counts.delete(counts.keys().next().value!)
  }

  forget(key: string): void {
    this.#counts.delete(key)
  }

  #over({ sinceMs }: Count): boolean {
    return this.#clock.monotonic() - sinceMs >= this.#windowMs
  }
}
