// Lanes: numbered envelopes from one process to the owners of a role, and the acks that come back.
//
// What one turn has for one owner goes in one body; so do the acks. An envelope is acked when it is handled: what
// it stored is durable and what it sent is on its way. A source that has too much unacked is told to stop reading
// (`congested`), so a slow owner slows its senders and nothing piles up in between.
//
// What is not acked is kept, and sent again when the bus has lost it (core/lanes/lane-source.ts) or its partition has another
// owner; the owner knows what it has had (core/lanes/lane-receiver.ts). So each envelope is handled at least once, by one owner
// once, and for one account in the order it was sent in. What a new owner gets for the second time says so (its `age`).
//
// Inside one process (`lossless`) nothing is ever sent twice, and nothing is armed.
import type { Subscription } from '#bus/bus.ts'
import { lowercaseId } from '#xmpp/id.ts'
import { addresseesOf, type Envelope, isForMany } from '../envelope.ts'
import type { Log } from '../observing/log.ts'
import { PARTITIONS, partitionOf, type RoleName } from '../ownership/ownership.ts'
import { speaksOf, tellTooOld } from '../ownership/speaks.ts'
import { Reader } from '../wire.ts'
import { type AckHead, readAckHead, type Ways } from './lane-frame.ts'
import { Lane, MANY, NEARLY, type OnAck, type Peer, type View } from './lane-source.ts'

/** How often a lane is looked after that waits for acks. */
export const TICK_MS = 1_000
/** Tells one opening from another of the same process. */
const START_LENGTH = 6

export interface Lanes {
  /** As owners know it. */
  readonly source: string
  /**
   * Sends to the owner of the envelope's account. `onAck` runs once it is handled and durable there, and is given the
   * token: so one function serves all that a source sends. Throws RangeError for one that no body can hold.
   */
  send(role: RoleName, account: string, envelope: Envelope, onAck?: (token: number) => void, token?: number): void
  /**
   * True while something for the partition of this account is not acked: where this process has become its owner, what it hands
   * to itself would overtake that.
   */
  carries(role: RoleName, account: string): boolean
  /** True while the owner of this account is behind, or there is none: take no more from outside until `onRelief`. */
  congested(role: RoleName, account: string): boolean
  /** Envelopes that are not acked, of all lanes. */
  readonly pending: number
  /** Those of them that have an owner who could ack them. */
  readonly handedOn: number
  /** True while it is nearly so: hand nothing more on. */
  isHeldUp(role: RoleName, account: string): boolean
  /** Whether that is so of anybody, or was a moment ago. */
  readonly anyHeldUp: boolean
  /** Runs `resume` once when what is not acked has fallen to half of what may be, on the lane that this account is on now. */
  onRelief(role: RoleName, account: string, resume: () => void): void
  /** Nothing that is not acked is sent any more: it is in the name of accounts that others have. No `onAck` of it runs. */
  drop(): void
  close(): void
}

/** The lanes into one role, and whom they take for the owners. */
class RoleLanes {
  readonly role: RoleName
  readonly #ways: Ways
  readonly #source: string
  /** Any partition will do: all have one owner, and nothing is ever sent to another. */
  #any = false
  /** By owner; '' for what waits until there is one. One is never closed: the owner knows the numbers it has had. */
  readonly #lanes = new Map<string, Lane>()
  readonly #owners: string[] = []
  readonly #epochs: number[] = []
  /** Of `#owners`. */
  readonly #view: View

  constructor(ways: Ways, role: RoleName, source: string) {
    this.#ways = ways
    this.role = role
    this.#source = source
    const { ownership, clock } = ways
    this.#view = {
      ...{ epoch: -1, carried: new Uint32Array(PARTITIONS), over: 0 },
      ...{ sure: () => ownership.sure(), now: () => clock.now(), nowMs: clock.now() },
    }
    this.follow()
  }

  tick(nowMs: number): void {
    this.#view.nowMs = nowMs
    for (const lane of this.#lanes.values()) lane.tick()
  }

  get all(): Iterable<Lane> {
    return this.#lanes.values()
  }

  get pending(): number {
    let sum = 0
    for (const { pending } of this.#lanes.values()) sum += pending
    return sum
  }

  /** Without what waits for somebody to own the partition. */
  get handedOn(): number {
    let sum = 0
    for (const [owner, { pending }] of this.#lanes) if (owner !== '') sum += pending
    return sum
  }

  to(owner: string): Lane | undefined {
    return this.#lanes.get(owner)
  }

  send(account: string, envelope: Envelope, onAck: OnAck, token: number): void {
    const partition = this.#partitionOf(account)
    const many = isForMany(envelope) && addresseesOf(envelope).length > 1
    this.#laneOf(this.#owners[partition]!).send(many ? MANY : partition, envelope, onAck, token)
  }

  isCongested(account: string): boolean {
    return this.#view.over > 0 && this.#laneFor(account).isOver(1)
  }

  isHeldUp(account: string): boolean {
    return this.#view.over > 0 && this.#laneFor(account).isOver(NEARLY)
  }

  get anyHeldUp(): boolean {
    return this.#view.over > 0
  }

  onRelief(account: string, resume: () => void): void {
    const lane = this.#laneFor(account)
    lane.onRelief(resume)
    tellRelieved(lane, this.#ways.log)
  }

  #laneFor(account: string): Lane {
    return this.#laneOf(this.#owners[this.#partitionOf(account)]!)
  }

  carries(account: string): boolean {
    return !this.#any && this.#view.carried[this.#partitionOf(account)]! > 0
  }

  #partitionOf(account: string): number {
    if (this.#ways.ownership.epoch(this.role) !== this.#view.epoch) this.follow()
    return this.#any ? 0 : partitionOf(account)
  }

  #laneOf(owner: string): Lane {
    const known = this.#lanes.get(owner)
    if (known !== undefined) return known
    const subject = owner === '' ? '' : `lane.${this.role}.${owner}`
    const lane = new Lane(this.#ways.bus, subject, this.#source, this.#view, peerOf(this.#ways, owner))
    this.#lanes.set(owner, lane)
    return lane
  }

  /** What is unacked of a partition that has another owner, or the same one anew, goes there before anything else does. */
  follow(): void {
    const { ownership } = this.#ways
    const changed = new Set<number>()
    for (let partition = 0; partition < PARTITIONS; partition++) {
      const owner = ownership.ownerAt(this.role, partition)
      const epoch = ownership.epochAt(this.role, partition)
      if (owner === this.#owners[partition] && epoch === this.#epochs[partition]) continue
      this.#owners[partition] = owner
      this.#epochs[partition] = epoch
      changed.add(partition)
    }
    const released = changed.size === 0 ? [] : [...this.#lanes.values()].flatMap((lane) => lane.release(changed))
    this.#view.epoch = ownership.epoch(this.role)
    this.#any = this.#ways.bus.lossless && new Set(this.#owners).size === 1
    for (const pending of released) this.#laneOf(this.#owners[pending.partition]!).adopt(pending)
    if (released.length === 0) return
    // Not before all of them are where they go: whoever goes on sends behind them.
    for (const lane of this.#lanes.values()) tellRelieved(lane, this.#ways.log)
  }
}

function peerOf(ways: Ways, owner: string): Peer {
  return {
    speaks: () => speaksOf(ways, owner),
    spare(onAck, token) {
      tellTooOld(ways, owner)
      if (onAck === undefined) return
      queueMicrotask(() => {
        try {
          onAck(token)
        } catch (error) {
          ways.log.error('ack.broke', { error })
        }
      })
    },
  }
}

/**
 * The lanes out of a role of one process, named for both. Every opening is a source of its own, whose acks come to
 * `ack.<source>`: it begins to count anew, and what was sent before it is not its own.
 */
export function openLanes(ways: Ways, name: string): Lanes {
  const { bus, ownership, log } = ways
  const source = `${name}${lowercaseId(START_LENGTH)}`
  const roles: Readonly<Record<RoleName, RoleLanes>> = {
    router: new RoleLanes(ways, 'router', source),
    presence: new RoleLanes(ways, 'presence', source),
  }

  function forEach(look: (lane: Lane) => void): void {
    for (const lanes of Object.values(roles)) for (const lane of lanes.all) look(lane)
  }

  const acks = bus.subscribe(`ack.${source}`, (body) => {
    try {
      const reader = new Reader(body)
      const head = readAckHead(reader)
      const lane = roles[head.role as RoleName]?.to(head.owner)
      if (lane === undefined) return
      takeAcks(lane, head, reader, log)
      tellRelieved(lane, log)
    } catch (error) {
      log.error('lane.ack_refused', { error })
    }
  })

  ownership.onChange((role) => roles[role].follow())
  const stopCare = bus.lossless ? undefined : careFor(ways, Object.values(roles))

  return {
    source,
    send(role, account, envelope, onAck, token = 0) {
      roles[role].send(account, envelope, onAck, token)
    },
    carries(role, account) {
      return roles[role].carries(account)
    },
    congested(role, account) {
      return roles[role].isCongested(account)
    },
    get pending() {
      return roles.router.pending + roles.presence.pending
    },
    get handedOn() {
      return roles.router.handedOn + roles.presence.handedOn
    },
    isHeldUp(role, account) {
      return roles[role].isHeldUp(account)
    },
    get anyHeldUp() {
      return roles.router.anyHeldUp || roles.presence.anyHeldUp
    },
    onRelief(role, account, resume) {
      roles[role].onRelief(account, resume)
    },
    drop() {
      forEach((lane) => lane.forget())
      forEach((lane) => tellRelieved(lane, log))
    },
    close() {
      acks.close()
      stopCare?.()
      forEach((lane) => lane.forget())
    },
  }
}

/** Looks after lanes that wait, every second and when the bus is back. */
function careFor({ bus, clock }: Ways, all: readonly RoleLanes[]): () => void {
  let up = true
  const status: Subscription = bus.status((state) => {
    if (state === 'up' && !up) for (const lanes of all) for (const lane of lanes.all) lane.probe()
    up = state === 'up'
  })
  const timer = clock.setInterval(() => {
    const nowMs = clock.now()
    for (const lanes of all) lanes.tick(nowMs)
  }, TICK_MS)
  return () => {
    status.close()
    clock.clearTimeout(timer)
  }
}

function takeAcks(lane: Lane, { received, status, gap }: AckHead, reader: Reader, log: Log): void {
  lane.heard(received, status)
  if (!status) {
    while (!reader.done) tellAcked(lane, reader.u32(), log)
    return
  }
  const open = new Set<number>()
  while (!reader.done) open.add(reader.u32())
  for (const n of lane.handledBy(received, open)) tellAcked(lane, n, log)
  if (gap) lane.sendAgain(received)
}

/** One that breaks does not keep the others waiting. */
function tellRelieved(lane: Lane, log: Log): void {
  for (const resume of lane.relieved()) {
    try {
      resume()
    } catch (error) {
      log.error('relief.broke', { error })
    }
  }
}

/** One whose source breaks does not take the others with it. */
function tellAcked(lane: Lane, n: number, log: Log): void {
  try {
    lane.acked(n)
  } catch (error) {
    log.error('ack.broke', { error })
  }
}
