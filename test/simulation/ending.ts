// The end of a simulation: nothing fails any more, so all comes to what it has to be, and to rest.
//
// What a client shows of itself may be lost when its owner dies with that on its way to contacts: an owner keeps no log of
// presence. And a bind that comes to the router later than the news that the edge has given it up leaves a session there which
// nobody has. So the clients show themselves anew before it is looked at what contacts see, and only that nobody is missed is
// demanded; `strict` looks first, and takes nobody for there who is not.
import { Violation } from './checker.ts'
import type { Client } from './client.ts'
import type { World } from './world.ts'

/** From the last fault until everything is acked. */
const RECOVERY_MS_MAX = 60_000
/** Until everybody sees who is there and who is not, and what goes on behind the acks is done (the aim for presence: 12 s). */
const SETTLING_MS = 20_000
/** For a message, when nothing fails. */
const DELIVERY_MS_MAX = 8_000
const ANSWER_MS_MAX = 1_000
/** After it nobody says anything any more to somebody who is gone. */
const SILENCE_AFTER_MS = 70_000
const SILENCE_MS = 5_000
/** What is on its way on a lane, to an edge, or back. */
const WORK: readonly string[] = ['lane', 'ack', 'edge', 'edgeack']

/** Resolves with how long it took until everything was acked. */
export async function finish(world: World, strict: boolean): Promise<number> {
  const { scheduler, network, table } = world
  await world.pass(Math.max(0, network.underwayUntilMs - scheduler.nowMs, table.underwayUntilMs - scheduler.nowMs))
  const tookMs = await untilAcked(world)
  await world.pass(SETTLING_MS)
  if (strict) for (const seen of sightsOf(world)) if (seen.missing + seen.ghosts !== '') throw new Violation(textOf(seen))
  await checkSessions(world, strict)
  for (const client of world.clients) client.show()
  await world.pass(DELIVERY_MS_MAX)
  for (const seen of sightsOf(world)) if (seen.missing !== '') throw new Violation(textOf(seen))
  await checkDelivery(world)
  await world.checkRows()
  await world.pass(SILENCE_AFTER_MS)
  await checkSilence(world)
  return tookMs
}

async function untilAcked(world: World): Promise<number> {
  const { scheduler, checker } = world
  const fromMs = scheduler.nowMs
  const isBack = (client: Client): boolean => world.away.has(client) || (client.isConnected && client.session !== '')
  const isOver = (): boolean => checker.open === 0 && !world.alive.some(({ leaving }) => leaving) && world.clients.every(isBack)
  await scheduler.until(() => world.isWrong || isOver(), fromMs + RECOVERY_MS_MAX)
  world.demandRight()
  if (isOver()) return scheduler.nowMs - fromMs
  const late = `${RECOVERY_MS_MAX / 1_000} s after the last fault`
  if (checker.open > 0) throw new Violation(`not acked ${late}: ${checker.unacked.join(', ')}`)
  const without = world.clients.filter((client) => !isBack(client)).map(({ name }) => name)
  if (without.length > 0) throw new Violation(`no session ${late}: ${without.join(', ')}`)
  throw new Violation(`somebody is still leaving ${late}`)
}

interface Sight {
  readonly client: Client
  readonly contact: string
  /** Resources that are there and not seen, and that are seen and not there. */
  readonly missing: string
  readonly ghosts: string
}

/** What each client that is there sees of each contact. */
function sightsOf({ clients, contacts, away }: World): Sight[] {
  const there = clients.filter((client) => !away.has(client))
  return there.flatMap((client) =>
    contacts.get(client.account)!.map((contact) => {
      const resources = there.filter(({ account }) => account === contact).map(({ jid }) => jid.resource)
      const seen = client.sees(contact)
      const missing = resources.filter((resource) => !seen.includes(resource)).join()
      return { client, contact, missing, ghosts: seen.filter((resource) => !resources.includes(resource)).join() }
    }),
  )
}

function textOf({ client, contact, missing, ghosts }: Sight): string {
  const sees = ghosts === '' ? `does not see ${missing}` : `sees ${ghosts}, which is not there,`
  return `${client.jid.full} ${sees} of ${contact}`
}

/** Routers know the sessions that there are; `strict`: and no others. */
async function checkSessions(world: World, strict: boolean): Promise<void> {
  const asker = world.scheduler.random.pick(world.openEdges)
  for (const account of world.accounts) {
    const there = world.clients.filter((client) => client.account === account && !world.away.has(client))
    let known: readonly string[] | undefined
    void asker.sessionsOf(account).then(
      (told) => {
        known = told
      },
      (error: unknown) => world.broke(`nobody tells the sessions of ${account}: ${error}`),
    )
    await world.pass(ANSWER_MS_MAX)
    const isThere = (full: string): boolean => there.some(({ jid }) => jid.full === full)
    const isKnown = there.every(({ jid }) => known?.includes(jid.full))
    if (!isKnown || (strict && !known!.every(isThere)))
      throw new Violation(
        `the router of ${account} knows ${known?.join() || 'no session'}; there is ${there.map(({ jid }) => jid.full).join() || 'none'}`,
      )
  }
}

/** Owners know who is connected where: a message comes to all sessions of whom it is for. */
async function checkDelivery(world: World): Promise<void> {
  const { clients, accounts, away, checker } = world
  const there = clients.filter((client) => !away.has(client))
  const said: { readonly message: string; readonly to: readonly Client[] }[] = []
  for (const sender of there)
    for (const account of accounts) {
      if (account === sender.account) continue
      said.push({ message: sender.say(account), to: there.filter((client) => client.account === account) })
    }
  await world.pass(DELIVERY_MS_MAX)
  for (const { message, to } of said) {
    if (!checker.isAcked(message)) throw new Violation(`nothing fails any more, and ${message} is not acked`)
    for (const { session, jid } of to)
      if (!checker.wasShown(session, message)) throw new Violation(`${message} does not come to ${jid.full}, which is there`)
  }
}

/** All that is kept is given back: nobody has anything to say of it, and no timer looks after it. */
async function checkSilence(world: World): Promise<void> {
  const { published } = world.network
  const before = new Map(published)
  await world.pass(SILENCE_MS)
  for (const kind of WORK) {
    const more = (published.get(kind) ?? 0) - (before.get(kind) ?? 0)
    if (more > 0) throw new Violation(`all is handled, and ${more} bodies were published on ${kind}`)
  }
  for (const { id, clock, own, isEdge } of world.alive) {
    // Its lease, the others', the groups; of each role lanes, multicasts and dead edges; of an edge lanes, and all that waits for seconds.
    const most = 3 + 3 * own.length + (isEdge ? 2 : 0)
    if (clock.pending > most) throw new Violation(`all is handled, and ${id} has ${clock.pending} timers; at most ${most}`)
  }
}
