// One source, and owners who keep what comes until a test says that it is done.
import { Random } from '#test/fuzz/random.ts'
import { parseJid } from '#xmpp/jid.ts'
import { stanza } from '#xmpp/stanza.ts'
import type { Envelope } from '../envelope.ts'
import { Reader } from '../wire.ts'
import { type Node, World } from './lane.fixture.ts'
import { openLanes } from './lane.ts'
import { readAckHead, readLaneHead } from './lane-frame.ts'
import { receiveLanes } from './lane-receiver.ts'

export const ROMEO = 'romeo@example.org'
export const JULIET = 'juliet@example.org'
export const from = parseJid('nurse@example.org/x')

export const message = (account: string, id: string): Envelope => ({
  kind: 'stanza',
  point: 'inbound',
  account,
  origin: undefined,
  stanza: stanza('message', from, { id }),
})

export const toAll = (accounts: readonly string[], id: string): Envelope => ({
  kind: 'fanout',
  accounts,
  stanza: stanza('presence', from, { id }),
})

export interface Came {
  readonly what: string
  readonly done: () => void
}

/** An owner that keeps what comes until the test says it is done. */
export class Keeper {
  readonly node: Node
  readonly came: Came[] = []

  constructor(world: World, name: string) {
    this.node = world.node(name)
    receiveLanes(this.node, 'router', name, (envelope, done) => void this.came.push({ what: shown(envelope), done }))
  }

  /** What has come since it was asked last. */
  take(): string[] {
    return this.came.splice(0).map(({ what, done }) => {
      this.open.push(done)
      return what
    })
  }

  readonly open: (() => void)[] = []

  done(): void {
    this.take()
    for (const done of this.open.splice(0)) done()
  }
}

export const namesOf = (accounts: readonly string[]): string => accounts.map((account) => account.split('@')[0]).join(',')

export function shown(envelope: Envelope): string {
  if (envelope.kind === 'signal') return envelope.name
  if (envelope.kind === 'watch') return `${envelope.watcher} watches ${namesOf(envelope.contacts)}`
  const again = envelope.kind === 'stanza' && envelope.saidMs !== 0 ? ' again' : ''
  const whom = envelope.kind === 'fanout' ? ` to ${namesOf(envelope.accounts)}` : ''
  return `${envelope.stanza.id}${whom}${again}`
}

/** One source and owners p0 (of everything) and p1. `frames` are those of lanes, as they are published. */
export function setUp() {
  const world = new World(new Random(1, 1), 'p0')
  const source = world.node('e1')
  const [p0, p1] = [new Keeper(world, 'p0'), new Keeper(world, 'p1')]
  const lanes = openLanes(source, 'e1')
  const acked: string[] = []
  const said: string[] = []
  world.network.watch = (_bus, subject, body) => said.push(told(subject, body))
  const send = (account: string, id: string): void => lanes.send('router', account, message(account, id), () => acked.push(id))
  /** Of so many bodies from now on, none comes. */
  const lose = async (act: () => void): Promise<void> => {
    world.network.faults.dropOneIn = 1
    act()
    await world.pass(0)
    world.network.faults.dropOneIn = 0
  }
  const learn = (...nodes: Node[]): void => {
    for (const { ownership } of nodes) ownership.learn()
  }
  return { world, source, p0, p1, lanes, acked, said, send, lose, learn }
}

/** `lane p0: 1 2`, `lane p0: probe`, `ack: 1`, `status 3, open 1, gap`. */
export function told(subject: string, body: Uint8Array): string {
  const reader = new Reader(body)
  const numbers: number[] = []
  if (subject.startsWith('lane.')) {
    const { probe } = readLaneHead(reader)
    for (; !reader.done; reader.bytes()) {
      numbers.push(reader.u32())
      reader.u8()
    }
    return `lane ${subject.split('.')[2]}: ${probe ? 'probe' : numbers.join(' ')}`
  }
  const { received, status, gap } = readAckHead(reader)
  while (!reader.done) numbers.push(reader.u32())
  return status ? `status ${received}, open ${numbers.join(' ') || 'none'}${gap ? ', gap' : ''}` : `ack: ${numbers.join(' ')}`
}
