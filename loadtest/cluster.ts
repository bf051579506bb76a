// What a cluster costs beyond its CPU, which loadtest/bench has: time on the way, requests to the table, and a mass reconnect.
//
//   taskset -c 1 node loadtest/cluster.ts [--only latency,units,reconnect,resume] [--rounds 2] [--users 2000] [--logins 200]
//
// Starts all it measures, on core 0 (DynamoDB Local on core 1, beside the clients), and prints tables. It needs nats-server
// (scripts/nats-server.sh) and DynamoDB Local (scripts/dynamodb-local.sh), and takes about eight minutes.
import { parseArgs } from 'node:util'
import { latency } from './cluster/latency.ts'
import { reconnect } from './cluster/reconnect.ts'
import { resume } from './cluster/resume.ts'
import { units } from './cluster/units.ts'

const { values } = parseArgs({
  options: {
    only: { type: 'string', default: 'latency,units,reconnect,resume' },
    rounds: { type: 'string', default: '2' },
    users: { type: 'string', default: '2000' },
    logins: { type: 'string', default: '200' },
  },
})
const parts: Readonly<Record<string, () => Promise<string[]>>> = {
  latency: () => latency(Number(values.rounds)),
  units,
  resume: () => resume({ users: Math.min(Number(values.users), 500) }),
  reconnect: () => reconnect({ users: Number(values.users), loginsPerSecond: Number(values.logins) }),
}
// There are more of these than Node takes for a mistake.
process.setMaxListeners(0)
// What was started says at its start what is to be done at the exit of this process.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => process.exit(130))
const wanted = values.only.split(',')
const unknown = wanted.find((name) => !(name in parts))
if (unknown !== undefined) {
  console.error(`cluster: there is no part ${unknown}; there are ${Object.keys(parts).join(', ')}`)
  process.exit(2)
}
for (const name of wanted) console.log(`${(await parts[name]!()).join('\n')}\n`)
process.exit()
