// What presence costs in a cluster of four edges: bus messages and bytes of a change, CPU, and requests to the table of a login;
// beside a sender that sends a change to each contact.
//
//   taskset -c 1 node loadtest/presence-cluster.ts [--users 240] [--services 1,2] [--rates 20,100] [--seconds 15] [--data FOLDER]
//
// Starts all it measures, on core 0 (DynamoDB Local on core 1, beside the clients), and prints tables: about eight minutes. It
// needs nats-server (scripts/nats-server.sh) and DynamoDB Local (scripts/dynamodb-local.sh). With --data, accounts and rosters are
// made once.
import { parseArgs } from 'node:util'
import { presence } from './cluster/presence.ts'

const { values } = parseArgs({
  options: {
    users: { type: 'string', default: '240' },
    services: { type: 'string', default: '1,2' },
    rates: { type: 'string', default: '20,100' },
    seconds: { type: 'string', default: '15' },
    data: { type: 'string' },
  },
})
/** Exits where it is something else. */
function counts(name: 'users' | 'services' | 'rates' | 'seconds'): number[] {
  const numbers = values[name].split(',').map(Number)
  if (numbers.every((number) => Number.isInteger(number) && number > 0)) return numbers
  console.error(`presence-cluster: --${name} is ${values[name]}; it must be made of whole numbers over 0`)
  process.exit(2)
}

// There are more of these than Node takes for a mistake.
process.setMaxListeners(0)
// What was started says at its start what is to be done at the exit of this process.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => process.exit(130))
const options = {
  users: counts('users')[0]!,
  seconds: counts('seconds')[0]!,
  services: counts('services'),
  rates: counts('rates'),
}
console.log((await presence({ ...options, data: values.data })).join('\n'))
process.exit()
