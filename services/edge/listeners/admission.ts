// Who may connect at all: asked before anything is made for a connection, so that a refusal costs next to nothing.
//
// Two bounds. Of all connections, how many may be there without a login, whoever they are: in a flood those who have logged in
// keep their streams, and newcomers are turned away. Of one network (core/connections.ts), how many connections in all.
import type { Clock } from '#core/clock.ts'
import { ConnectionCounts } from '#core/connections.ts'
import { isLoopback } from '#core/network.ts'
import type { Counter, Metrics } from '#core/observing/metrics.ts'
import type { Config } from '#core/settings/config.ts'

/** Why a connection was closed before it was taken. */
export type Refusal = 'before_login' | 'address' | 'proxy_header' | 'proxy_untrusted'
const REFUSALS: readonly Refusal[] = ['before_login', 'address', 'proxy_header', 'proxy_untrusted']

export interface AdmissionParts {
  readonly config: Pick<Config, 'limits' | 'trustedProxies'>
  readonly clock: Clock
  readonly metrics: Metrics
  /** Counts the streams that have not logged in: linear in all streams, so asked ten times a second at most. */
  readonly strangers: () => number
}

const COUNT_MS = 100

export class Admission {
  /** Connections that are taken and have no stream yet. */
  waiting = 0
  readonly trusts: (address: string) => boolean
  readonly #parts: AdmissionParts
  readonly #refused: Readonly<Record<Refusal, Counter>>
  readonly #counts: ConnectionCounts
  /** Never less than the connections without a login: what was counted last, and all that have come since. */
  #strangersMax = 0
  #countedMs = -Infinity

  constructor(parts: AdmissionParts) {
    this.#parts = parts
    const { limits, trustedProxies } = parts.config
    this.#counts = new ConnectionCounts(limits.connectionsPerAddress, trustedProxies)
    this.trusts = this.#counts.trusts
    const family = parts.metrics.counter(
      'connections_refused_total',
      'Connections closed before anything was read of a stream.',
      ['reason'],
    )
    this.#refused = Object.fromEntries(REFUSALS.map((reason) => [reason, family.labels(reason)])) as Record<Refusal, Counter>
  }

  /** Whether one more may come that has yet to log in. False: it is to be closed, and is counted. */
  admits(): boolean {
    const { clock, config, strangers } = this.#parts
    const { connectionsBeforeLogin } = config.limits
    if (this.#strangersMax >= connectionsBeforeLogin && clock.monotonic() - this.#countedMs >= COUNT_MS) {
      this.#strangersMax = strangers() + this.waiting
      this.#countedMs = clock.monotonic()
    }
    if (this.#strangersMax >= connectionsBeforeLogin) return this.refuse('before_login')
    this.#strangersMax++
    return true
  }

  /** Counts one more connection of a client at this address; `leave` is called for each that was let in. False: it is to be closed, and is counted. */
  enter(address: string): boolean {
    return this.#counts.enter(address) || this.refuse('address')
  }

  leave(address: string): void {
    this.#counts.leave(address)
  }

  /** Networks that have a connection. */
  get networks(): number {
    return this.#counts.networks
  }

  /**
   * Whether what begins with a PROXY header is read from this address: of a trusted proxy; where none is named, of one on this
   * machine. Of anybody else it would let him choose the address that he is counted by. False: it is to be closed, and is counted.
   */
  believes(address: string): boolean {
    const { trustedProxies } = this.#parts.config
    const believed = trustedProxies.length === 0 ? isLoopback(address) : this.trusts(address)
    return believed || this.refuse('proxy_untrusted')
  }

  /** Counts it. */
  refuse(reason: Refusal): false {
    this.#refused[reason].inc()
    return false
  }
}
