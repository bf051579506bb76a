// Multicasts over a network that loses, repeats and delays: each edge has what each owner sent it in order and once, as long as
// the owner keeps what is missing; else it is told that something is.
import { test } from 'vitest'
import { Random } from '#test/fuzz/random.ts'
import { demand } from '#test/fuzz/target.ts'
import { parseJid } from '#xmpp/jid.ts'
import { stanza } from '#xmpp/stanza.ts'
import { type Node, World } from '../lanes/lane.fixture.ts'
import { type Multicast, openMulticast } from './multicast.ts'
import { receiveMulticast } from './multicast-receiver.ts'

const SEED = Number(process.env.MULTICAST_SEED ?? Date.now() % 2 ** 31)
const RUNS = Number(process.env.MULTICAST_RUNS ?? 2_000)
const romeo = parseJid('romeo@example.org/garden')

/** What one owner has sent to one edge, and what of it has come. */
class Way {
  readonly name: string
  sent = 0
  #come = 0
  /** Since what has come last. */
  #told = false
  losses = 0

  constructor(name: string) {
    this.name = name
  }

  came(n: number): void {
    demand(n > this.#come, () => `${this.name}: ${n} behind ${this.#come}`)
    demand(n === this.#come + 1 || this.#told, () => `${this.name}: ${n} behind ${this.#come}, and no loss told`)
    this.#come = n
    this.#told = false
  }

  lost(): void {
    this.#told = true
    this.losses++
  }

  finish(): void {
    demand(this.#come === this.sent || this.#told, () => `${this.name}: ${this.#come} of ${this.sent}, and no loss told`)
  }
}

interface TestOwner {
  readonly name: string
  readonly node: Node
  readonly multicast: Multicast
}

class Simulation {
  readonly #random: Random
  readonly #world: World
  readonly #owners: TestOwner[]
  readonly #edges: { readonly name: string; readonly node: Node }[]
  readonly #ways = new Map<string, Way>()
  /** The network loses little: each body comes before its owner forgets it, unless somebody is cut off. */
  readonly #kind: boolean
  #wasCut = false

  constructor(random: Random) {
    this.#random = random
    this.#kind = random.chance(2)
    this.#world = new World(random, 'p0')
    this.#owners = ['p0', 'p1'].map((name) => {
      const node = this.#world.node(name)
      return { name, node, multicast: openMulticast(node, 'router', name) }
    })
    this.#edges = ['e1', 'e2'].map((name) => {
      const node = this.#world.node(name)
      receiveMulticast(node, name, {
        delivery: (delivery, { process }) => {
          if (delivery.kind === 'stanza') this.#way(process, name).came(Number(delivery.stanza.id))
        },
        lost: ({ process }) => this.#way(process, name).lost(),
      })
      return { name, node }
    })
    this.#world.network.watch = (bus, subject) => {
      const owner = this.#owners.find(({ node }) => node.bus === bus)
      if (owner === undefined) return
      demand(subject.startsWith('edge.') && owner.node.ownership.isSure, () => `${owner.name} is not sure, and says ${subject}`)
    }
  }

  #way(owner: string, edge: string): Way {
    const name = `${owner} to ${edge}`
    const way = this.#ways.get(name) ?? new Way(name)
    this.#ways.set(name, way)
    return way
  }

  async run(): Promise<void> {
    const random = this.#random
    const { faults } = this.#world.network
    faults.delayMsMax = random.pick([0, 5, 50, 300])
    faults.dropOneIn = this.#kind ? random.pick([0, 20]) : random.pick([2, 5, 20])
    faults.twiceOneIn = random.pick([0, 3, 20])
    for (let step = 5 + random.int(25); step > 0; step--) {
      this.#act()
      await this.#world.pass(random.pick([0, 0, 10, 50, 300, 1_500]), 20)
    }
    Object.assign(faults, { dropOneIn: 0, twiceOneIn: 0 })
    for (const { node } of [...this.#owners, ...this.#edges]) {
      if (node.bus.state === 'down') node.bus.turn('up')
      node.ownership.isSure = true
    }
    await this.#world.pass(7_000, 100)
    for (const way of this.#ways.values()) way.finish()
    const lines = [...this.#owners, ...this.#edges].flatMap(({ node }) => node.log.lines)
    const errors = lines.filter(({ level }) => level === 'error')
    demand(errors.length === 0, () => `logged: ${JSON.stringify(errors)}`)
    if (!this.#kind || this.#wasCut) return
    for (const { name, losses } of this.#ways.values()) demand(losses === 0, () => `${name}: a loss is told, and there was none`)
  }

  #act(): void {
    const random = this.#random
    const { clock } = this.#world
    switch (random.int(10)) {
      case 0: {
        const { ownership } = random.pick(this.#owners).node
        ownership.isSure = false
        clock.setTimeout(() => (ownership.isSure = true), random.int(4_000))
        return
      }
      case 1: {
        const { bus } = random.pick([...this.#owners, ...this.#edges]).node
        if (bus.state === 'down') return
        this.#wasCut = true
        bus.turn('down')
        clock.setTimeout(() => bus.state === 'down' && bus.turn('up'), random.int(8_000))
        return
      }
      default:
        for (let left = 1 + random.int(5); left > 0; left--) this.#send()
    }
  }

  #send(): void {
    const random = this.#random
    const { name, multicast } = random.pick(this.#owners)
    const edge = random.pick(this.#edges).name
    const n = ++this.#way(name, edge).sent
    multicast.deliver({ edge, session: 's' }, stanza('message', romeo, { id: String(n) }))
  }
}

test(`each delivery arrives in order and once, or its edge is told of a loss (MULTICAST_SEED=${SEED})`, async () => {
  for (let run = 0; run < RUNS; run++) {
    try {
      await new Simulation(new Random(SEED, run)).run()
    } catch (cause) {
      throw new Error(`run ${run} of MULTICAST_SEED=${SEED}: ${(cause as Error).message}`, { cause })
    }
  }
})
