// Lanes over a network that loses, repeats and delays, between sources and owners that change: whatever happens, each envelope is
// handled, in order, and by no owner twice; and what is acked is handled.
import { test } from 'vitest'
import { Random } from '#test/fuzz/random.ts'
import { demand } from '#test/fuzz/target.ts'
import { parseJid } from '#xmpp/jid.ts'
import { type Stanza, stanza } from '#xmpp/stanza.ts'
import { addresseesOf, type Envelope, isForMany } from '../envelope.ts'
import { partitionOf } from '../ownership/ownership.ts'
import { type Node, World } from './lane.fixture.ts'
import { type Lanes, openLanes } from './lane.ts'
import { receiveLanes } from './lane-receiver.ts'

const SEED = Number(process.env.LANE_SEED ?? Date.now() % 2 ** 31)
const RUNS = Number(process.env.LANE_RUNS ?? 2_000)
const ACCOUNTS = Array.from({ length: 8 }, (_, i) => `user${i}@example.org`)
const PARTITIONS_USED = [...new Set(ACCOUNTS.map(partitionOf))]
const romeo = parseJid('romeo@example.org/garden')

/** What was sent and what has become of it, by `<source> <account>`; envelopes of one pair are numbered from 1. */
class Ledger {
  readonly #sent = new Map<string, number>()
  /** The highest that was handled, by anybody. */
  readonly #first = new Map<string, number>()
  readonly #byIncarnation = new Set<string>()
  readonly #done = new Set<string>()
  readonly unacked = new Set<string>()

  next(pair: string): number {
    const n = (this.#sent.get(pair) ?? 0) + 1
    this.#sent.set(pair, n)
    return n
  }

  handled(pair: string, n: number, incarnation: string, saysAgain: boolean): void {
    const first = this.#first.get(pair) ?? 0
    demand(n > first || saysAgain, () => `${pair} ${n} comes again, and does not say so`)
    demand(n <= first + 1, () => `${pair} ${n} out of order, behind ${first}`)
    this.#first.set(pair, Math.max(first, n))
    const key = `${pair} ${n} ${incarnation}`
    demand(!this.#byIncarnation.has(key), () => `${key} twice`)
    this.#byIncarnation.add(key)
  }

  done(pair: string, n: number): void {
    this.#done.add(`${pair} ${n}`)
  }

  acked(name: string): void {
    demand(this.unacked.delete(name), () => `${name} acked twice`)
    for (const one of name.split(',')) demand(this.#done.has(one), () => `${one} acked, and not handled`)
  }

  finish(): void {
    demand(this.unacked.size === 0, () => `never acked: ${[...this.unacked]}`)
    for (const [pair, n] of this.#sent) demand(this.#first.get(pair) === n, () => `${pair} ${n} was never handled`)
  }
}

/** An owner that takes its time, and forgets what it has begun when it is no owner any more. */
class TestOwner {
  readonly node: Node
  readonly name: string
  readonly #ledger: Ledger
  readonly #random: Random
  readonly #row: World['row']
  readonly #busy = new Map<number, number>()
  dead = false

  constructor(world: World, name: string, ledger: Ledger, random: Random) {
    this.node = world.node(name)
    this.name = name
    this.#ledger = ledger
    this.#random = random
    this.#row = world.row
    receiveLanes(this.node, 'router', name, (envelope, done) => this.#handle(envelope, done))
  }

  busy(partition: number): boolean {
    return (this.#busy.get(partition) ?? 0) > 0
  }

  #handle(envelope: Envelope, done: () => void): void {
    const { ownership, clock } = this.node
    if (envelope.kind === 'signal') throw new Error('nobody sends one')
    const { source, numbers, accounts } = saidIn(envelope)
    const says = envelope.kind === 'stanza' ? envelope.saidMs !== 0 : true // what is for many does not
    const epochs = accounts.map((account) => ownership.epochAt('router', partitionOf(account)))
    for (const [i, account] of accounts.entries()) {
      demand(ownership.owns('router', account), () => `${this.name} is handed what is not its own`)
      this.#ledger.handled(
        `${source} ${account}`,
        numbers[account]!,
        `${this.name} ${epochs[i]}`,
        says || !this.#isCurrent(account),
      )
      this.#count(account, 1)
    }
    const finish = (): void => {
      for (const account of accounts) this.#count(account, -1)
      if (this.dead) return
      // What it did counts if it was an owner all the time; the ack of it may still be held back.
      const still = accounts.every((account, i) => ownership.epochAt('router', partitionOf(account)) === epochs[i])
      if (!still) return
      for (const account of accounts) this.#ledger.done(`${source} ${account}`, numbers[account]!)
      done()
    }
    if (this.#random.chance(3)) finish()
    else clock.setTimeout(finish, this.#random.int(400))
  }

  /** Nobody has taken its partition, so that what this owner does counts. */
  #isCurrent(account: string): boolean {
    const partition = partitionOf(account)
    return this.#row.epochs[partition] === this.node.ownership.epochAt('router', partition)
  }

  #count(account: string, more: number): void {
    const partition = partitionOf(account)
    this.#busy.set(partition, (this.#busy.get(partition) ?? 0) + more)
  }
}

class Simulation {
  readonly #random: Random
  readonly #world: World
  readonly #ledger = new Ledger()
  readonly #sources: { readonly name: string; readonly node: Node; readonly lanes: Lanes }[]
  #owners: TestOwner[]
  #started = 0

  constructor(random: Random) {
    this.#random = random
    this.#world = new World(random, 'p0')
    this.#owners = []
    this.#startOwner()
    this.#startOwner()
    this.#world.network.watch = (bus, subject) => {
      const owner = this.#owners.find(({ node }) => node.bus === bus)
      demand(owner === undefined || owner.node.ownership.isSure, () => `${owner?.name} is not sure, and says ${subject}`)
    }
    this.#sources = ['e1', 'e2'].map((name) => {
      const node = this.#world.node(name)
      return { name, node, lanes: openLanes(node, name) }
    })
  }

  #startOwner(): TestOwner {
    const owner = new TestOwner(this.#world, `p${this.#started++}`, this.#ledger, this.#random)
    this.#owners.push(owner)
    return owner
  }

  async run(): Promise<void> {
    const random = this.#random
    const { faults } = this.#world.network
    faults.delayMsMax = random.pick([0, 5, 50, 300])
    faults.dropOneIn = random.pick([0, 3, 10, 50])
    faults.twiceOneIn = random.pick([0, 5, 30])
    for (let step = 5 + random.int(25); step > 0; step--) {
      this.#act()
      await this.#world.pass(random.pick([0, 0, 10, 50, 300, 1_500]), 20)
    }
    Object.assign(faults, { dropOneIn: 0, twiceOneIn: 0 })
    for (const node of this.#nodes()) {
      if (node.bus.state !== 'up') node.bus.turn('up')
      node.ownership.learn()
    }
    await this.#world.pass(8_000, 100)
    this.#ledger.finish()
    const lines = this.#nodes().flatMap(({ log }) => log.lines)
    demand(lines.length === 0, () => `logged: ${JSON.stringify(lines)}`)
  }

  #nodes(): Node[] {
    return [...this.#sources, ...this.#owners].map(({ node }) => node)
  }

  #act(): void {
    const random = this.#random
    switch (random.int(12)) {
      case 0:
        return this.#release()
      case 1:
        return this.#kill()
      case 2:
        return this.#fence()
      case 3:
        return this.#cut()
      case 4:
        return random.pick(this.#nodes()).ownership.learn()
      default:
        for (let left = 1 + random.int(6); left > 0; left--) {
          this.#send()
          if (random.chance(6)) random.pick(this.#sources).node.ownership.learn() // in the turn that has sent something
        }
    }
  }

  #send(): void {
    const random = this.#random
    const { name, node, lanes } = random.pick(this.#sources)
    const account = random.pick(ACCOUNTS)
    const { ownership } = node
    const many = random.chance(4)
    const accounts = many
      ? ACCOUNTS.filter(
          (one) =>
            one === account || (random.chance(2) && ownership.ownerOf('router', one) === ownership.ownerOf('router', account)),
        )
      : [account]
    const numbers = Object.fromEntries(accounts.map((one) => [one, this.#ledger.next(`${name} ${one}`)]))
    const said = stanza('message', romeo, { id: JSON.stringify(numbers), type: name })
    const envelope: Envelope = many
      ? manyAs(this.#ledger.unacked.size % 2 === 0 ? 'fanout' : 'watch', accounts, said)
      : { kind: 'stanza', point: 'inbound', account, origin: undefined, stanza: said }
    const label = accounts.map((one) => `${name} ${one} ${numbers[one]}`).join(',')
    this.#ledger.unacked.add(label)
    lanes.send('router', accounts[0]!, envelope, () => this.#ledger.acked(label))
  }

  /** All learn of it, each in its time; the new owner is ready some time after it has. */
  #give(partitions: readonly number[], to: TestOwner): void {
    const { row, clock } = this.#world
    row.give(partitions, to.name)
    for (const partition of partitions) to.node.ownership.unready.add(partition)
    clock.setTimeout(() => {
      for (const partition of partitions) to.node.ownership.unready.delete(partition)
    }, this.#random.int(2_500))
    for (const { ownership } of this.#nodes()) clock.setTimeout(() => ownership.learn(), this.#random.int(2_000))
  }

  #partitionsOf(owner: TestOwner): number[] {
    return PARTITIONS_USED.filter((partition) => this.#world.row.owners[partition] === owner.name)
  }

  /** Gracefully: it takes no more of them, ends what it has begun, and knows first that they are another's. */
  #release(): void {
    const from = this.#random.pick(this.#owners)
    const to = this.#random.pick(this.#owners)
    const { ownership } = from.node
    const partitions = this.#partitionsOf(from).filter((partition) => !ownership.unready.has(partition) && this.#random.chance(2))
    if (from === to || partitions.length === 0 || !ownership.isSure) return
    ownership.learn()
    for (const partition of partitions) ownership.unready.add(partition)
    const look = (): void => {
      const goesOn = !from.dead && !to.dead && ownership.isSure
      if (goesOn && partitions.some((partition) => from.busy(partition))) return void this.#world.clock.setTimeout(look, 20)
      if (goesOn) this.#give(partitions, to)
      ownership.learn()
      for (const partition of partitions) ownership.unready.delete(partition)
    }
    look()
  }

  #kill(): void {
    if (this.#owners.length < 2) return
    const victim = this.#random.pick(this.#owners)
    victim.dead = true
    void victim.node.bus.drain()
    this.#owners = this.#owners.filter((owner) => owner !== victim)
    if (this.#random.chance(2)) this.#startOwner()
    const heir = this.#random.pick(this.#owners)
    this.#world.clock.setTimeout(() => {
      const living = heir.dead ? this.#owners[0]! : heir
      this.#give(this.#partitionsOf(victim), living)
    }, this.#random.int(3_000))
  }

  /** It is not sure any more, and what it owns is taken; it finds out, and goes on as one that owns nothing. */
  #fence(): void {
    const victim = this.#random.pick(this.#owners)
    const { ownership } = victim.node
    if (!ownership.isSure) return
    ownership.isSure = false
    const { clock } = this.#world
    clock.setTimeout(() => {
      const heir = this.#random.pick(this.#owners) // itself, maybe: as an owner that knows nothing of before
      this.#give(this.#partitionsOf(victim), heir)
      clock.setTimeout(() => {
        ownership.learn()
        ownership.isSure = true
      }, this.#random.int(3_000))
    }, this.#random.int(1_000))
  }

  #cut(): void {
    const { bus } = this.#random.pick(this.#nodes())
    if (bus.state === 'down') return
    bus.turn('down')
    this.#world.clock.setTimeout(() => {
      if (bus.state === 'down') bus.turn('up')
    }, this.#random.int(4_000))
  }
}

test(`each envelope is handled at least once, in order, by no owner twice, and acked when it is (LANE_SEED=${SEED})`, async () => {
  for (let run = 0; run < RUNS; run++) {
    try {
      await new Simulation(new Random(SEED, run)).run()
    } catch (cause) {
      throw new Error(`run ${run} of LANE_SEED=${SEED}: ${(cause as Error).message}`, { cause })
    }
  }
})

function manyAs(kind: 'fanout' | 'watch', accounts: readonly string[], said: Stanza): Envelope {
  if (kind === 'fanout') return { kind, accounts, stanza: said }
  return { kind, edge: 'e1', watcher: said.type, session: said.id, contacts: accounts }
}

function saidIn(envelope: Exclude<Envelope, { kind: 'signal' }>) {
  const [source, id] =
    envelope.kind === 'watch' ? [envelope.watcher, envelope.session] : [envelope.stanza.type, envelope.stanza.id]
  const accounts = isForMany(envelope) ? addresseesOf(envelope) : [envelope.account]
  return { source, accounts, numbers: JSON.parse(id) as Record<string, number> }
}
