// A process of its own on a NATS bus, for tests that freeze it: `node nats-child.fixture.ts URL SUBJECT`.
//
// Says on standard output, a line each: the states of its bus, and the length of each body that it gets.
import { openNatsBus } from './nats.ts'

const [url, subject] = process.argv.slice(2) as [string, string]
const bus = await openNatsBus({ servers: [url] })
const say = (what: string | number) => process.stdout.write(`${what}\n`)
bus.subscribe(subject, (body) => say(body.length))
await bus.request('nobody.listens.here', new Uint8Array(), 5000).catch(() => {}) // then the server knows the subscription
bus.status(say)
