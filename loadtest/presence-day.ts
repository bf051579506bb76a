// A phone's day: what the presence of 100 contacts costs a phone that lies in a pocket, with XEP-0352 and without.
//
//   node loadtest/presence-day.ts [--seed 1] [--contacts 100] [--json FILE]
//
// A trace is made up from the seed and replayed to a real server of this work tree, started here, as fast as it goes: each step
// is taken when the one before has arrived. Then once more, the phone saying <inactive/> and <active/> this time. Nobody has
// measured these people; what is assumed of them:
//
//   desk, 40 of 100     one client, from 8:45 ± 45 min to 17:30 ± 1 h; away after 25 min, for 15 min (means, exponential); one
//                       time in ten with a status of its own
//   handset, 40         one client, from 7:00 ± 45 min to 23:00 ± 1 h; away but for 3 pick-ups an hour of 3 min; 4 times a
//                       day its session is lost and not resumed, for 5 min
//   both, 20            the two of them
//   the phone           50 pick-ups of 3 min between 7:00 and 23:00, in which it is active; 60 messages come in that time
//
// Each presence has what clients put into it: capabilities (XEP-0115), the hash of an avatar (XEP-0153), since when it is idle
// (XEP-0319). A wake-up is data that comes while the phone is inactive and nothing has come for 10 s, after which a radio
// sleeps. Bytes are those of stanzas, without TLS and TCP. The server's window for bursts is 0: a day in seconds would be one.
import { createHash } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { setImmediate as turn } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { Client } from './bench/src/client.mjs'
import { inParallel } from './bench/src/crowd.mjs'
import { ProcessMeter } from './bench/src/process-meter.mjs'
import { run as makeUsers } from './bench/src/scenarios/users.mjs'
import { dataFolder, freePorts, Server } from './server.ts'

const { values } = parseArgs({
  options: {
    seed: { type: 'string', default: '1' },
    contacts: { type: 'string', default: '100' },
    json: { type: 'string' },
  },
})
const seed = Number(values.seed)
const contacts = Number(values.contacts)
if (!Number.isInteger(seed) || !Number.isInteger(contacts) || contacts < 1) throw new Error('--seed and --contacts are whole numbers')

const HOUR = 3_600
const MINUTE = 60
const RADIO_TAIL_S = 10
const PATIENCE_MS = 30_000

// The trace ---------------------------------------------------------------------------------------------------------

type Step =
  | { readonly atS: number; readonly kind: 'presence'; readonly contact: number; readonly client: ClientKind; readonly xml: string }
  | { readonly atS: number; readonly kind: 'message'; readonly contact: number }
  | { readonly atS: number; readonly kind: 'active' | 'inactive' }
type ClientKind = 'desk' | 'handset'

/** mulberry32: the same numbers for the same seed, anywhere. */
function randomOf(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
}

const random = randomOf(seed)
const exponential = (mean: number) => -mean * Math.log(1 - random())
const normal = (mean: number, deviation: number) =>
  mean + deviation * Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random())

function presenceXml(contact: number, client: ClientKind, state: 'here' | 'away' | 'gone', atS: number): string {
  if (state === 'gone') return "<presence type='unavailable'/>"
  const hash = (text: string) => createHash('sha1').update(text)
  const photo = hash(`avatar ${contact}`).digest('hex')
  const ver = hash(client).digest('base64')
  const since = new Date(Date.UTC(2026, 0, 5) + atS * 1_000).toISOString()
  const status = client === 'desk' && random() < 0.1 ? '<status>In a meeting until the next hour</status>' : ''
  const away = state === 'away' ? `<show>away</show>${status}<idle xmlns='urn:xmpp:idle:1' since='${since}'/>` : status
  return (
    `<presence>${away}<c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='https://${client}.example' ver='${ver}'/>` +
    `<x xmlns='vcard-temp:x:update'><photo>${photo}</photo></x></presence>`
  )
}

function deskDay(contact: number): Step[] {
  const steps: Step[] = []
  const endS = normal(17.5 * HOUR, HOUR)
  const say = (atS: number, state: 'here' | 'away' | 'gone') =>
    steps.push({ atS, kind: 'presence', contact, client: 'desk', xml: presenceXml(contact, 'desk', state, atS) })
  for (let atS = normal(8.75 * HOUR, 0.75 * HOUR), here = true; atS < endS; here = !here) {
    say(atS, here ? 'here' : 'away')
    atS += exponential((here ? 25 : 15) * MINUTE)
  }
  if (steps.length > 0) say(endS, 'gone')
  return steps
}

function handsetDay(contact: number): Step[] {
  const steps: Step[] = []
  const startS = normal(7 * HOUR, 0.75 * HOUR)
  const endS = Math.min(normal(23 * HOUR, HOUR), 24 * HOUR - 1)
  const losses = Array.from({ length: 4 }, () => startS + random() * (endS - startS)).sort((a, b) => a - b)
  const say = (atS: number, state: 'here' | 'away' | 'gone') =>
    steps.push({ atS, kind: 'presence', contact, client: 'handset', xml: presenceXml(contact, 'handset', state, atS) })
  say(startS, 'here')
  for (let atS = startS + exponential(3 * MINUTE), here = true; atS < endS; ) {
    here = !here
    say(atS, here ? 'here' : 'away')
    atS += exponential((here ? 3 : 17) * MINUTE)
    while (losses.length > 0 && losses[0]! < atS && atS < endS) {
      losses.shift()
      say(atS, 'gone')
      atS += exponential(5 * MINUTE)
      if (atS >= endS) return steps
      say(atS, here ? 'here' : 'away')
      atS += exponential((here ? 3 : 17) * MINUTE)
    }
  }
  say(endS, 'gone')
  return steps
}

function phoneDay(): Step[] {
  const steps: Step[] = [{ atS: 0, kind: 'inactive' }]
  const waking = () => (7 + 16 * random()) * HOUR
  let busyS = 0
  for (const atS of Array.from({ length: 50 }, waking).sort((a, b) => a - b)) {
    if (atS <= busyS) continue // still in the hand
    busyS = atS + exponential(3 * MINUTE)
    steps.push({ atS, kind: 'active' }, { atS: busyS, kind: 'inactive' })
  }
  for (let i = 0; i < 60; i++) steps.push({ atS: waking(), kind: 'message', contact: 1 + Math.floor(random() * contacts) })
  return steps
}

/** Who has what, by their number: of ten four have a desk, four a handset, two both. */
const hasDesk = (contact: number) => contact % 10 < 4 || contact % 10 >= 8
const hasHandset = (contact: number) => contact % 10 >= 4

function trace(): Step[] {
  const steps = phoneDay()
  for (let contact = 1; contact <= contacts; contact++) {
    if (hasDesk(contact)) steps.push(...deskDay(contact))
    if (hasHandset(contact)) steps.push(...handsetDay(contact))
  }
  return steps.sort((a, b) => a.atS - b.atS)
}

// The replay --------------------------------------------------------------------------------------------------------

class Phone {
  atS = 0
  active = true
  presences = 0
  messages = 0
  bytes = 0
  bytesInactive = 0
  wakeUps = 0
  #awakeUntilS = 0

  take(isMessage: boolean, bytes: number): void {
    if (isMessage) this.messages++
    else this.presences++
    this.bytes += bytes
    if (!this.active) {
      this.bytesInactive += bytes
      if (this.atS > this.#awakeUntilS) this.wakeUps++
    }
    this.#awakeUntilS = this.atS + RADIO_TAIL_S
  }

  turns(active: boolean): void {
    this.active = active
    this.#awakeUntilS = this.atS + RADIO_TAIL_S // either way something has just been sent
  }

  get facts() {
    const { presences, messages, bytes, bytesInactive, wakeUps } = this
    return { presences, messages, bytes, bytesInactive, wakeUps }
  }
}

interface People {
  readonly phone: Client
  readonly clients: ReadonlyMap<string, Client>
}

async function replay(steps: readonly Step[], { phone, clients }: People, saysSo: boolean) {
  const day = new Phone()
  phone.onPresence = (_client: Client, _type: number, _buffer: Buffer, start: number, end: number) => day.take(false, end - start)
  phone.onMessage = (_client: Client, _type: number, _buffer: Buffer, start: number, end: number) => day.take(true, end - start)
  let sent = 0
  for (const step of steps) {
    day.atS = step.atS
    if (step.kind === 'presence') {
      const client = clients.get(`${step.contact} ${step.client}`)!
      client.send(step.xml)
      await ping(client) // answered when the presence has been written to all who are to see it
      await turn()
    } else if (step.kind === 'message') {
      const body = 'Are you coming to the theatre tonight? We meet at eight, in front of it.'
      anyOf(clients, step.contact).send(`<message to='${phone.bareJid}' type='chat' id='m${++sent}'><body>${body}</body></message>`)
      await until(() => day.messages === sent, `message ${sent}`)
    } else {
      day.turns(step.kind === 'active')
      if (!saysSo) continue
      phone.send(`<${step.kind} xmlns='urn:xmpp:csi:0'/>`)
      if (step.kind === 'active') await ping(phone)
    }
  }
  return day.facts
}

function anyOf(clients: ReadonlyMap<string, Client>, contact: number): Client {
  return (clients.get(`${contact} desk`) ?? clients.get(`${contact} handset`))!
}

function ping(client: Client): Promise<string> {
  return client.request('get', "<ping xmlns='urn:xmpp:ping'/>", 'localhost')
}

async function until(holds: () => boolean, what: string): Promise<void> {
  const deadline = performance.now() + PATIENCE_MS
  while (!holds()) {
    if (performance.now() > deadline) throw new Error(`did not come: ${what}`)
    await turn()
  }
}

async function everybody(port: number): Promise<People> {
  const options = {
    ...{ host: '127.0.0.1', port, domain: 'localhost', password: 'bench', auth: 'auto', transport: 'tcp' },
    ...{ users: contacts + 1, concurrency: 8 },
  }
  await makeUsers(options, new ProcessMeter([server.pid]))
  const phone = new Client(0, { ...options, resource: 'phone' })
  await phone.login()
  phone.send('<presence/>')
  const clients = new Map<string, Client>()
  await inParallel(contacts, options.concurrency, async (i: number) => {
    const contact = i + 1
    for (const kind of ['desk', 'handset'] as const) {
      if (!(kind === 'desk' ? hasDesk : hasHandset)(contact)) continue
      const client = new Client(contact, { ...options, resource: kind })
      await client.login()
      clients.set(`${contact} ${kind}`, client)
    }
  })
  await subscribe(phone, clients)
  return { phone, clients }
}

/** The phone sees all of them. */
async function subscribe(phone: Client, clients: ReadonlyMap<string, Client>): Promise<void> {
  for (let contact = 1; contact <= contacts; contact++) {
    phone.send(`<presence type='subscribe' to='u${contact}@localhost'/>`)
    await ping(phone)
    anyOf(clients, contact).send(`<presence type='subscribed' to='${phone.bareJid}'/>`)
    await ping(anyOf(clients, contact))
  }
  const roster: string = await phone.request('get', "<query xmlns='jabber:iq:roster'/>")
  const seen = roster.match(/subscription='to'/g)?.length ?? 0
  if (seen !== contacts) throw new Error(`the phone sees ${seen} contacts instead of ${contacts}`)
}

process.env.ROOKERY_PRESENCE_WINDOW_MS = '0'
const server = new Server(await freePorts(), dataFolder(undefined))
const steps = trace()
try {
  await server.start()
  const people = await everybody(server.ports.tcp)
  const without = await replay(steps, people, false)
  const held = await replay(steps, people, true)
  const counts = { seed, contacts, changes: steps.filter(({ kind }) => kind === 'presence').length }
  console.log(`seed ${seed}: ${contacts} contacts, ${counts.changes} changes of presence, ${without.messages} messages`)
  for (const [name, facts] of Object.entries({ 'without XEP-0352': without, 'with XEP-0352': held })) {
    console.log(
      `${name.padEnd(17)} ${facts.presences} presences, ${facts.bytes} bytes, ${facts.bytesInactive} of them while inactive; ${facts.wakeUps} wake-ups`,
    )
  }
  if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify({ ...counts, without, with: held }, null, 2)}\n`)
  for (const client of [people.phone, ...people.clients.values()]) void client.close()
} finally {
  await server.stop('SIGTERM')
}
