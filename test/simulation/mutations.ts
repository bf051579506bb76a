// Servers that are broken on purpose, to see that the checker screams. Each is a wrapper around something that a process is made
// of, or a method of a class of the server that does something else for as long as the simulation runs.

import type { Bus } from '#bus/bus.ts'
import { OwnPartitions } from '#cluster/partitions.ts'
import { Commit, type CommitLog } from '#core/commits/commit.ts'
import { decodeItem } from '#core/commits/log-item.ts'
import type { Lanes } from '#core/lanes/lane.ts'
import { Lane } from '#core/lanes/lane-source.ts'
import { readEdgeHead } from '#core/multicast/multicast-frame.ts'
import { Owner } from '#core/owner.ts'
import { ClusterOwnership } from '#core/ownership/cluster-ownership.ts'
import { Membership } from '#core/ownership/membership.ts'
import { Registry } from '#core/ownership/registry.ts'
import { Resync } from '#core/ownership/resync.ts'
import { LazyPassage } from '#core/passage.ts'
import type { Members } from '#core/process.ts'
import { ArchiveIds } from '#core/storage/archive-id.ts'
import { Store } from '#core/storage/store.ts'
import { Reader, Writer } from '#core/wire.ts'
import { Intake } from '#edge/sessions/intake.ts'
import type { Table } from '#table/table.ts'

export interface Mutation {
  /** What is wrong. */
  readonly name: string
  /** Where it takes many seeds: one that finds it, or did. It is looked for from there. */
  readonly near?: number
  /** It takes so many seeds that it is looked for by run.ts --mutations only. */
  readonly rare?: true
  /** The table of the logs, and of whoever recovers one. */
  readonly ownersTable?: (table: Table) => Table
  /** The bus of the roles, not of their membership. */
  readonly roleBus?: (bus: Bus) => Bus
  readonly members?: (members: Members) => Members
  readonly commitLog?: (log: CommitLog) => CommitLog
  /** Breaks a class, and returns what mends it. */
  readonly patch?: () => () => void
}

export const NONE: Mutation = { name: 'nothing' }

export const MUTATIONS: readonly Mutation[] = [
  {
    name: 'a process is always sure of itself',
    patch: () =>
      patched(
        Membership.prototype,
        'sure',
        () =>
          function (this: Membership) {
            return this.joined
          },
      ),
  },
  {
    name: 'an owner does not check whether it is sure',
    patch: () => patched(ClusterOwnership.prototype, 'sure', () => () => true),
  },
  { name: 'a lane does not send again', patch: () => patched(Lane.prototype, 'sendAgain', () => () => {}) },
  {
    name: 'a lane gives up what is for a partition that has another owner',
    patch: () => patched(Lane.prototype, 'adopt', () => () => {}),
  },
  { name: 'an edge takes deliveries as they come', roleBus: withoutNumbers },
  { name: 'an ack does not wait until it is durable', commitLog: early },
  { name: 'recovery does not seal', near: 92, rare: true, ownersTable: withoutSeals },
  {
    name: 'nothing is recovered',
    patch: () => patched(OwnPartitions.prototype, 'recover', () => async (_process, _role, applied) => applied),
  },
  { name: 'rows are applied without olderThan', ownersTable: unconditional },
  { name: 'what comes again is not looked for', patch: () => patched(LazyPassage.prototype, 'recall', () => () => {}) },
  {
    name: 'a new owner does not go on behind the archive ids of others',
    patch: () => patched(ArchiveIds.prototype, 'resume', () => () => {}),
  },
  { name: 'a new owner goes by what it remembers', patch: () => patched(Store.prototype, 'release', () => () => {}) },
  {
    name: 'partitions are released before all is applied',
    near: 90,
    rare: true,
    patch: () => {
      const mends = [
        patched(Commit.prototype, 'drained', () => Commit.prototype.settled),
        patched(Commit.prototype, 'anyOf', () => () => false), // or whoever releases asks for ever
      ]
      return () => {
        for (const mend of mends) mend()
      }
    },
  },
  {
    name: 'what is handed on within a process overtakes what is on its lane',
    near: 170,
    rare: true,
    patch: () => patched(Owner.prototype, 'send', overtaking),
  },
  {
    name: 'a new owner does not ask the edges',
    patch: () => patched(Resync.prototype, 'ask', () => async () => ({ sessions: [], watches: [] })),
  },
  {
    name: 'nobody ends the sessions of a dead edge',
    members: (members) =>
      withMethods(members, {
        livenessOf: (process) => (members.livenessOf(process) === 'gone' ? 'live' : members.livenessOf(process)),
      }),
  },
  {
    name: 'a session that goes to another edge begins to count anew there what its client says',
    patch: () => {
      const { goOn } = Intake.prototype
      Intake.prototype.goOn = function (this: Intake, _received, toldPresence) {
        goOn.call(this, 0, toldPresence)
      }
      return () => {
        Intake.prototype.goOn = goOn
      }
    },
  },
  {
    name: 'owners go on sending to the edge that a session has left',
    patch: () => {
      const { move } = Registry.prototype
      Registry.prototype.move = function (this: Registry, account, fields, role, multicast) {
        const { session, from } = fields
        if (this.byId(account, String(session)) !== undefined)
          multicast.order({ edge: String(from), session: String(session) }, 'moved', { account, role })
      }
      return () => {
        Registry.prototype.move = move
      }
    },
  },
]

/** Until what this returns is called, `make` of the method stands in its place. */
function patched<T extends object, K extends keyof T>(prototype: T, name: K, make: (method: T[K]) => T[K]): () => void {
  const method = prototype[name]
  prototype[name] = make(method)
  return () => {
    prototype[name] = method
  }
}

/** The same object, with some methods of its own. */
function withMethods<T extends object>(object: T, methods: Partial<T>): T {
  return new Proxy(object, {
    get(target, name) {
      const own = methods[name as keyof T]
      if (own !== undefined) return own
      const value = Reflect.get(target, name, target) as unknown
      return typeof value === 'function' ? value.bind(target) : value
    },
  })
}

function overtaking(send: Owner['send']): Owner['send'] {
  return function (this: Owner, ...args) {
    const { lanes } = this
    const owner = this as { lanes: Lanes }
    owner.lanes = withMethods(lanes, { carries: () => false })
    try {
      send.apply(this, args)
    } finally {
      owner.lanes = lanes
    }
  }
}

/** As version 1 of the frames has them: nothing is held, asked for, or known when it comes again. */
function withoutNumbers(bus: Bus): Bus {
  return withMethods(bus, {
    subscribe: (subject, handler, options) =>
      bus.subscribe(
        subject,
        (body, reply) => {
          if (!subject.startsWith('edge.')) return handler(body, reply)
          const reader = new Reader(body)
          const { owner, number, kind } = readEdgeHead(reader)
          if (kind !== 'deliveries') return
          const out = new Writer(body.length)
          out.u8(1)
          out.text(owner)
          out.f64(number)
          const head = out.take()
          const headBytes = head.length + 5 // an epoch and flags are behind it in version 2
          handler(Buffer.concat([head, Buffer.from(body).subarray(headBytes)]), reply)
        },
        options,
      ),
  })
}

function early(log: CommitLog): CommitLog {
  return {
    versionBytes: log.versionBytes,
    async write(writes, applied) {
      void log.write(writes, applied)
    },
    version: () => log.version(),
  }
}

function withoutSeals(table: Table): Table {
  return withMethods<Table>(table, {
    put: (row, condition) =>
      row.pk.startsWith('l#') && decodeItem(row.value) === 'seal' ? Promise.resolve() : table.put(row, condition),
  })
}

function unconditional(table: Table): Table {
  return withMethods<Table>(table, {
    put: (row, condition) => table.put(row, typeof condition === 'object' ? undefined : condition),
    delete: (key, condition) => table.delete(key, typeof condition === 'object' ? undefined : condition),
  })
}
