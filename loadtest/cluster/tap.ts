// Whoever listens to all of a bus: what it carries, by the kind of its subjects (services/bus/bus.ts).
//
// NATS hands everything over once more for it, so nobody's CPU is measured while it listens.
import { connect } from '@nats-io/transport-node'

/** By the first word of its subjects: messages, and the bytes of their bodies. */
export type Heard = ReadonlyMap<string, { readonly messages: number; readonly bytes: number }>

/** @param prefix what is before each subject */
export async function listen(url: string, prefix: string, seconds: number): Promise<Heard> {
  const connection = await connect({ servers: url, name: 'tap' })
  const heard = new Map<string, { messages: number; bytes: number }>()
  connection.subscribe(`${prefix}>`, {
    callback(_error, { subject, data }) {
      const kind = subject.slice(prefix.length).split('.', 1)[0]!
      let sum = heard.get(kind)
      if (sum === undefined) heard.set(kind, (sum = { messages: 0, bytes: 0 }))
      sum.messages++
      sum.bytes += data.length
    },
  })
  await connection.flush()
  await new Promise((resolve) => setTimeout(resolve, seconds * 1_000))
  await connection.drain()
  return heard
}
