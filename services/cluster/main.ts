// One process of a cluster: some roles or all of them, on NATS and DynamoDB, beside others like it.
//
// As in the embedded form, nothing here decides anything: it makes the parts, hands them to each other and starts them in
// order. A process joins when its owners run and opens the ports of clients when every account has an owner that lives,
// here or elsewhere; it stops in the opposite order, and so has handed on all it owned before its owners end.
import { hostname } from 'node:os'
import { systemClock } from '#core/clock.ts'
import { Lifecycle } from '#core/lifecycle.ts'
import type { AnyModule } from '#core/module.ts'
import { Health } from '#core/observing/health.ts'
import type { Log } from '#core/observing/log.ts'
import { Metrics } from '#core/observing/metrics.ts'
import { ClusterOwnership } from '#core/ownership/cluster-ownership.ts'
import { Membership } from '#core/ownership/membership.ts'
import { PARTITIONS, type RoleName } from '#core/ownership/ownership.ts'
import type { Process, RunningRole } from '#core/process.ts'
import type { Config } from '#core/settings/config.ts'
import { type Foundations, makeProcess } from '#embedded/parts.ts'
import { type Role, type Running, serve } from '#embedded/serve.ts'
import { lowercaseId, randomId } from '#xmpp/id.ts'
import { untilOwned } from './owned.ts'
import { OwnPartitions } from './partitions.ts'
import { openBus, openTable } from './parts.ts'

/** To give away all it owns when it stops. */
const LEAVE_MS = 10_000

/**
 * Throws Error that says what is in the way: no NATS, no table, a taken port; or that it was `told` to stop before it had
 * begun.
 */
export async function startCluster(
  config: Config,
  modules: readonly AnyModule[],
  log: Log,
  roles: readonly Role[],
  told: AbortSignal,
): Promise<Running> {
  const id = lowercaseId()
  const lifecycle = new Lifecycle(log)
  try {
    const member = await openMember(config, id, log.child({ process: id }), roles, lifecycle)
    const process = makeProcess(config, modules, member.foundations)
    const health = new Health(roles)
    watch(member, process, health, roles)
    const join = (owners: ReadonlyMap<RoleName, RunningRole>) => joinCluster(member, process, { health, roles, owners, told })
    if (roles.includes('edge') && config.tls.cert.length === 0)
      process.log.warn('certificate.not_shared', {
        help: 'each edge makes a certificate of its own, and clients are asked again at each: set tls.cert and tls.key',
      })
    return await serve({ process, lifecycle, health, roles, join })
  } catch (error) {
    await lifecycle.stop()
    throw error
  }
}

/** A process among others. */
interface Member {
  readonly foundations: Foundations
  readonly membership: Membership
  readonly ownership: ClusterOwnership
  readonly partitions: OwnPartitions
}

async function openMember(config: Config, id: string, log: Log, roles: readonly Role[], lifecycle: Lifecycle): Promise<Member> {
  const metrics = new Metrics()
  const clock = systemClock
  const table = await openTable(config, { log, metrics })
  lifecycle.add('table', () => table.close())
  // Requests of one client wait for each other: behind thousands of rows a lease would run out while the table is slow.
  const leaseTable = await openTable(config, { log, metrics })
  lifecycle.add('table of leases', () => leaseTable.close())
  const { bus, close } = await openBus(config, `rookery ${id}`, { log, metrics })
  lifecycle.add('bus', close)
  const partitions: OwnPartitions = new OwnPartitions({
    process: id,
    table,
    clock,
    log,
    ownership: () => ownership,
    onSealed: (role) => membership.fence(`its log as ${role} was sealed`),
  })
  const membership = new Membership({
    process: id,
    roles,
    host: `${hostname()} ${process.pid}`,
    table: leaseTable,
    bus,
    clock,
    log,
    newId: randomId,
    random: Math.random,
    applied: () => partitions.applied(),
  })
  const ownership = new ClusterOwnership({ membership, table: leaseTable, bus, clock, log, newId: randomId })
  const openLog: Foundations['openLog'] = (role, log) => partitions.openLog(role, log)
  const foundations = { id, bus, table, ownership, members: membership, openLog, clock, log, metrics }
  return { foundations, membership, ownership, partitions }
}

function watch({ membership, ownership }: Member, { metrics, clock }: Process, health: Health, roles: readonly Role[]): void {
  health.probe('lease', clock, async () => {
    if (!membership.joined)
      throw new Error('this process is no member of the cluster: it has not joined yet, or was taken for dead')
    if (!membership.sure()) throw new Error('its lease could not be renewed for seconds: it holds still until the table answers')
  })
  metrics.watch(
    'cluster_members',
    'Processes of the cluster that live, as far as this one knows.',
    () => membership.live().length,
  )
  metrics.watch('lease_sure', '1 while this process is sure of its lease, and so of what it owns.', () =>
    Number(membership.sure()),
  )
  for (const role of ['router', 'presence'] as const) {
    if (!roles.includes(role)) continue
    const count = (): { named: number; served: number } => {
      const sum = { named: 0, served: 0 }
      for (let partition = 0; partition < PARTITIONS; partition++) {
        if (ownership.ownerAt(role, partition) === membership.process) sum.named++
        if (ownership.ownsPartition(role, partition)) sum.served++
      }
      return sum
    }
    metrics.watch(
      `${role}_partitions`,
      `Partitions that this process serves as ${role}; there are ${PARTITIONS}.`,
      () => count().served,
    )
    health.probe(`${role} partitions`, clock, async () => {
      const { named, served } = count()
      if (served < named) throw new Error(`${named - served} of the ${named} that are its own are not ready`)
    })
  }
}

interface Joining {
  readonly health: Health
  readonly roles: readonly Role[]
  readonly owners: ReadonlyMap<RoleName, RunningRole>
  readonly told: AbortSignal
}

async function joinCluster(
  member: Member,
  { log, clock }: Process,
  { health, roles, owners, told }: Joining,
): Promise<RunningRole> {
  const { membership, ownership, partitions } = member
  for (const [role, running] of owners) partitions.add(role, running)
  const stop = () => ownership.leave(LEAVE_MS)
  try {
    await unless(told, ownership.join([...owners.keys()], partitions))
    if (roles.includes('edge')) await unless(told, untilOwned({ membership, ownership, clock, health, log }))
  } catch (error) {
    await stop()
    throw error
  }
  return { name: 'cluster', stop }
}

/** Rejects as soon as the process is told to stop. */
function unless<T>(told: AbortSignal, promise: Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const give = (): void => reject(new Error('it was told to stop before it had started'))
    if (told.aborted) give()
    told.addEventListener('abort', give, { once: true })
    promise.then(resolve, reject).finally(() => told.removeEventListener('abort', give))
  })
}
