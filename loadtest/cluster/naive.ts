// Presence as most servers send it, to compare with: for each change one bus message to the session of each online contact.
//
//   naive.presence        what a client has shown: who it is, a line, and the stanza         (as an edge's lane)
//   naive.edge.<edge>     the session it is for and who shows it, two lines, and the stanza  (one for each contact's session)
//
// It is less than any server does: no lanes that are acked, no numbers by which a loss is noticed, no sockets. It is no part
// of Rookery, and run by presence.ts as two processes of its own:
//
//   node loadtest/cluster/naive.ts sender URL USERS CONTACTS EDGES
//   node loadtest/cluster/naive.ts edges URL USERS EDGES RATE SECONDS      prints { "changes", "delivered" }
import { connect, type NatsConnection } from '@nats-io/transport-node'
import { presenceOf } from './changes.ts'
import { sleep } from './people.ts'

const CHANGES = 'naive.presence'
const subjectOf = (edge: number): string => `naive.edge.${edge}`
/** As long as the product's. */
const sessionOf = (user: number): string => `session-${user}`.padEnd(16, 'x')
const jidOf = (user: number): string => `u${user}@localhost/bench`
const LF = 0x0a
/** After the last change, until all has come. */
const REST_S = 1

/** Users sit in a ring, and everybody has the nearest ones for contacts, all of them online: one after the other on another edge. */
async function sender(connection: NatsConnection, users: number, contacts: number, edges: number): Promise<void> {
  const targets = Array.from({ length: users }, (_, user) =>
    Array.from({ length: contacts }, (_, n) => {
      const distance = (n >> 1) + 1
      const contact = (user + (n % 2 === 0 ? distance : users - distance)) % users
      return { subject: subjectOf(contact % edges), head: `${sessionOf(contact)}\n${jidOf(user)}\n` }
    }),
  )
  connection.subscribe(CHANGES, {
    callback(_error, { data }) {
      const at = data.indexOf(LF)
      const stanza = data.subarray(at + 1)
      for (const { subject, head } of targets[Number(Buffer.from(data.subarray(0, at)).toString())]!)
        connection.publish(subject, Buffer.concat([Buffer.from(head, 'latin1'), stanza]))
    },
  })
  await connection.flush()
  process.send?.('ready')
  await connection.closed()
}

interface EdgesOptions {
  readonly users: number
  readonly edges: number
  readonly rate: number
  readonly seconds: number
}

/** All edges in one process, each with a connection of its own; a session is a counter. */
async function runEdges(url: string, { users, edges, rate, seconds }: EdgesOptions): Promise<void> {
  const sessions = new Map(Array.from({ length: users }, (_, user) => [sessionOf(user), { received: 0 }]))
  const connections = await Promise.all(Array.from({ length: edges }, () => connect({ servers: url })))
  for (const [edge, connection] of connections.entries()) {
    connection.subscribe(subjectOf(edge), {
      callback(_error, { data }) {
        sessions.get(Buffer.from(data.subarray(0, data.indexOf(LF))).toString('latin1'))!.received++
      },
    })
    await connection.flush()
  }
  process.send?.('ready')
  await new Promise((resolve) => process.once('message', resolve)) // the figures before have been read
  const beganMs = performance.now()
  let changes = 0
  for (; changes < rate * seconds; changes++) {
    const dueMs = beganMs + (changes * 1_000) / rate
    if (dueMs > performance.now()) await sleep((dueMs - performance.now()) / 1_000)
    const user = changes % users
    connections[user % edges]!.publish(CHANGES, `${user}\n${presenceOf(changes)}`)
  }
  await sleep(REST_S)
  const delivered = [...sessions.values()].reduce((sum, { received }) => sum + received, 0)
  process.send?.({ changes, delivered })
  await new Promise((resolve) => process.once('message', resolve)) // the figures after, too
}

const [kind, url, ...numbers] = process.argv.slice(2)
const [users, first, second, third] = numbers.map(Number) as [number, number, number, number]
if (kind === 'sender') await sender(await connect({ servers: url }), users, first, second)
else if (kind === 'edges') await runEdges(url!, { users, edges: first, rate: second, seconds: third })
else console.error('naive: sender or edges')
process.exit()
