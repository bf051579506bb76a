// Where a command is carried out in a cluster: by whichever process owns the account, asked over the bus.
import { openOperator } from '#cluster/operator.ts'
import { commandLog, type Reach } from './reach.ts'

export const reachCluster: Reach = async ({ config, modules }) => ({
  ...(await openOperator(config, modules, commandLog(), (text) => void process.stderr.write(`${text}\n`))),
  where: 'in the cluster',
})
