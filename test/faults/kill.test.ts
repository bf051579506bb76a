// `kill -9` at any moment, under load: what was acknowledged (XEP-0198) is kept, once and in order.
//
// The server is the real command with its table in SQLite. Clients talk without a pause until it is killed; it is started
// again on the same folder, and so on. What they were told is held against the archives (XEP-0313) or, where there is
// none, against the offline messages, all of it asked for over the wire. ledger.ts says what must be true.
//
//   KILLS=200 npx vitest run --project test test/faults/kill.test.ts      SEED=7 repeats the moments, as far as a machine can
//
// By default there are 16 kills with an archive and 5 without.
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { Place, type Started } from '#ctl/rookery.fixture.ts'
import { childOf, type RawElement } from '#test/interop/rawstream.ts'
import { FaultClient, NS_CLIENT, textIn } from './client.ts'
import { type Entry, type Evidence, faultsOf, type Said, type Seen } from './ledger.ts'

const KILLS = Number(process.env.KILLS ?? 16)
const SEED = Number(process.env.SEED ?? Math.floor(Math.random() * 1_000_000))
const TIME_FOR_A_KILL_MS = 20_000
/** From the first word to the kill. */
const TALK_MS_MAX = 250
const NS_MAM = 'urn:xmpp:mam:2'
const PASSWORD = 'a secret of nobody'
/** Unacknowledged messages of one client. */
const WINDOW = 24
const REQUEST_EVERY = 5
const FAULTS_SHOWN = 20

let random: () => number
let place: Place

beforeEach(() => {
  random = generator(SEED)
  place = new Place()
})
afterEach(() => place.clear())

test(`with an archive, ${KILLS} kills`, { timeout: (KILLS + 2) * TIME_FOR_A_KILL_MS }, async () => {
  const users = ['romeo', 'juliet', 'nurse']
  const said: Said[] = []
  const seen: Seen[] = []
  const archives = new Map<string, Entry[]>(users.map((user) => [`${user}@localhost`, []]))
  const file = configure({})
  for (let kill = 0; kill < KILLS; kill++) {
    const server = await place.run(file)
    const clients = await logIn(server, users, kill === 0)
    for (const client of clients) await readArchive(client, archives.get(client.account)!)
    for (const client of clients) {
      client.onMessage = (message) => seen.push(seenBy(client, message))
      client.send('<presence/>')
    }
    await killWhileTalking(server, clients, users, said, kill)
  }
  const server = await place.run(file)
  for (const client of await logIn(server, users, false)) {
    const found = archives.get(client.account)!
    await readArchive(client, found)
    const again: Entry[] = []
    await readArchive(client, again)
    expect(again, `the archive of ${client.account} has not changed since it was read`).toEqual(found)
  }
  expect((await server.stop()).code).toBe(0)

  expect(seen.length).toBeGreaterThan(0)
  expectNothingLost({ said, places: archives, belongsIn: ({ from, to }) => [from, to], seen })
})

const OFFLINE_KILLS = Math.ceil(KILLS / 3.2)

test(`without one, ${OFFLINE_KILLS} kills`, { timeout: (OFFLINE_KILLS + 2) * TIME_FOR_A_KILL_MS }, async () => {
  const talkers = ['romeo', 'mercutio']
  const sleepers = ['juliet', 'nurse']
  const said: Said[] = []
  const spools = new Map<string, Entry[]>(sleepers.map((user) => [`${user}@localhost`, []]))
  const file = configure({ mam: { enabled: false }, offline: { messagesMax: 100_000 } })
  for (let kill = 0; kill < OFFLINE_KILLS; kill++) {
    const server = await place.run(file)
    if (kill === 0) for (const client of await logIn(server, sleepers, true)) await client.logOut()
    await killWhileTalking(server, await logIn(server, talkers, kill === 0), sleepers, said, kill)
  }
  const server = await place.run(file)
  for (const client of await logIn(server, sleepers, false)) await readSpool(client, spools.get(client.account)!, said)
  expect((await server.stop()).code).toBe(0)

  expectNothingLost({ said, places: spools, belongsIn: ({ to }) => [to] })
})

function configure(modules: object): string {
  // Archives and spools are read as fast as they come: nobody is to be cut off for reading slowly.
  const limits = { registrationsPerHourPerAddress: 0, writeBufferBytes: 64 * 1024 * 1024 }
  return place.configure({ registration: 'open', limits, log: { level: 'info' }, modules })
}

async function logIn(server: Started, users: readonly string[], register: boolean): Promise<FaultClient[]> {
  const port = await server.port('c2s')
  return Promise.all(users.map((user) => FaultClient.logIn(port, user, PASSWORD, { register })))
}

/** All talk to all of `to` until the server is killed; resolves when each has read what had still come. */
async function killWhileTalking(
  server: Started,
  clients: readonly FaultClient[],
  to: readonly string[],
  said: Said[],
  kill: number,
): Promise<void> {
  const talks = await Promise.all(clients.map((client) => beginToTalk(client, to, said, kill)))
  await new Promise((resolve) => setTimeout(resolve, random() * TALK_MS_MAX))
  const ended = server.stop('SIGKILL')
  await Promise.all(clients.map(({ closed }) => closed))
  for (const stop of talks) stop()
  await ended
}

/** Says something whenever there is room in the window. Returns what ends it. */
async function beginToTalk(client: FaultClient, to: readonly string[], said: Said[], kill: number): Promise<() => void> {
  await client.enable()
  const own: Said[] = []
  let acked = 0
  const talk = (): void => {
    while (own.length - acked < WINDOW) {
      const id = `${client.account.split('@')[0]}-${kill}-${own.length}`
      const message = { id, from: client.account, to: `${to[Math.floor(random() * to.length)]}@localhost`, acked: false }
      own.push(message)
      said.push(message)
      client.send(`<message to='${message.to}' id='${id}' type='chat'><body>${id} ${'x'.repeat(random() * 200)}</body></message>`)
      if (own.length % REQUEST_EVERY === 0) client.request()
    }
  }
  client.onAcked = (count) => {
    expect(count, 'no more is acknowledged than was sent').toBeLessThanOrEqual(own.length)
    while (acked < count) own[acked++]!.acked = true
  }
  talk()
  const timer = setInterval(talk, 3)
  return () => clearInterval(timer)
}

function seenBy({ account }: FaultClient, message: RawElement): Seen {
  const stanzaId = childOf(message, 'stanza-id', 'urn:xmpp:sid:0')
  expect(stanzaId?.attrs.by).toBe(account)
  return { id: message.attrs.id!, archiveId: stanzaId!.attrs.id!, place: account }
}

/** Appends all that is behind the last entry, page by page. */
async function readArchive(client: FaultClient, entries: Entry[]): Promise<void> {
  client.onMessage = (message) => {
    const result = childOf(message, 'result', NS_MAM)
    if (result === undefined) return
    const original = childOf(childOf(result, 'forwarded', 'urn:xmpp:forward:0')!, 'message', NS_CLIENT)!
    expect(textIn(original, 'body')!.split(' ')[0]).toBe(original.attrs.id)
    entries.push({ id: original.attrs.id!, archiveId: result.attrs.id! })
  }
  for (;;) {
    const last = entries.at(-1)
    const after = last === undefined ? '' : `<after>${last.archiveId}</after>`
    const set = `<set xmlns='http://jabber.org/protocol/rsm'><max>100</max>${after}</set>`
    const fin = await client.iq('set', `<query xmlns='${NS_MAM}'>${set}</query>`)
    if (fin?.attrs.complete === 'true') return
  }
}

/** Comes online and takes what waits, up to a message that was written behind it all. */
async function readSpool(client: FaultClient, entries: Entry[], said: readonly Said[]): Promise<void> {
  const owed = new Set(said.filter(({ to, acked }) => acked && to === client.account).map(({ id }) => id))
  await new Promise<void>((resolve) => {
    const last = (): void =>
      client.send(`<message to='${client.account}/fault' type='chat' id='last'><body>last</body></message>`)
    const patience = setTimeout(last, TIME_FOR_A_KILL_MS / 2) // something is lost: say what
    client.onMessage = ({ attrs }) => {
      if (attrs.id === 'last') {
        clearTimeout(patience)
        return resolve()
      }
      entries.push({ id: attrs.id!, archiveId: '' })
      if (owed.delete(attrs.id!) && owed.size === 0) last()
    }
    client.send('<presence/>')
    if (owed.size === 0) last()
  })
}

function expectNothingLost(evidence: Evidence): void {
  const { said, seen = [] } = evidence
  const acked = said.filter(({ acked }) => acked).length
  console.log(`SEED=${SEED}: ${said.length} messages said, ${acked} acknowledged, ${seen.length} seen`)
  expect(acked).toBeGreaterThan(0)
  expect(faultsOf(evidence).slice(0, FAULTS_SHOWN), `SEED=${SEED}`).toEqual([])

  const database = new DatabaseSync(join(place.data, 'rookery.sqlite'))
  try {
    expect(database.prepare('PRAGMA integrity_check').all()).toEqual([{ integrity_check: 'ok' }])
  } finally {
    database.close()
  }
}

/** Numbers from 0 to 1 that a seed repeats (mulberry32). */
function generator(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296
  }
}
