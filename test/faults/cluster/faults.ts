// What can happen to a cluster, one function each, in steps: each does something and says what may be expected then.
//
// A step is over when `strike` is done; from then on it is measured how long it takes until all is well (trial.ts). What a
// fault broke, its last step mends, so that two of each role are there again for the next.
import { setTimeout as sleep } from 'node:timers/promises'
import { PARTITIONS } from '#core/ownership/ownership.ts'
import type { ClusterProcess } from '#test/cluster/processes.ts'
import { lastLines } from '#test/support/mailbox.ts'
import type { Effect, Rule } from '../dynamo-proxy.ts'
import { type PlainRole, ROLES, type Site } from './site.ts'

export interface Step {
  readonly name: string
  /** Whoever is gone has said so: nobody has to find out. */
  readonly goodbye?: boolean
  /** An edge is gone, and the streams of its clients with it; else no stream may end. */
  readonly endsStreams?: boolean
  strike(): Promise<void>
}

export interface Fault {
  readonly name: string
  steps(site: Site): Iterable<Step>
}

const CUT_MS = 8_000
const NATS_AWAY_MS = 3_000
const REFUSED_MS = 5_000
const TABLE_MS = 5_000

/** `kill -9`; then another comes. */
function killed(role: PlainRole): Fault {
  return {
    name: `${nameOf(role)} is killed`,
    *steps(site) {
      const victim = site.one(role)
      const endsStreams = role === 'edge'
      yield { name: `kill -9 ${role}`, endsStreams, strike: async () => void (await victim.kill('SIGKILL')) }
      yield { name: `${role} joins`, goodbye: true, strike: async () => void (await site.add(role)) }
    },
  }
}

/** SIGSTOP until its lease has run out and others have what it owned; it wakes and must find out. */
function frozen(role: 'router' | 'presence'): Fault {
  return {
    name: `${nameOf(role)} stands still beyond its lease, and wakes`,
    *steps(site) {
      const victim = site.one(role)
      const fencings = victim.events('member.fenced').length
      yield { name: `SIGSTOP ${role}`, strike: () => site.freeze(victim) }
      yield {
        name: `${role} wakes`,
        strike: async () => {
          const others = site.cluster.of(role).filter((process) => process !== victim)
          await happens('others have all that it owned', others, async () => (await ownedBy(role, others)) === PARTITIONS)
          await site.wake(victim)
          await happens('it finds that it is fenced', [victim], () => victim.events('member.fenced').length > fencings)
        },
      }
    },
  }
}

/** It goes on renewing its lease, and nobody hears it. */
function cutOff(role: PlainRole): Fault {
  return {
    name: `${nameOf(role)} is cut from NATS`,
    *steps(site) {
      const relay = site.relayOf(site.one(role))
      yield {
        name: `${role} cut, ${CUT_MS / 1_000} s`,
        strike: async () => {
          relay.cut()
          await sleep(CUT_MS)
          relay.mend()
          if (relay.swallowed === 0)
            throw new Error(`nothing was on its way between ${role} and NATS: it was not cut from anything`)
        },
      }
    },
  }
}

const natsKilled: Fault = {
  name: 'one NATS server of three is killed',
  *steps(site) {
    const n = site.random.int(site.cluster.nats.length)
    yield { name: 'kill -9 one NATS of three', strike: () => site.killNats(n) }
    yield { name: 'that NATS is back', strike: () => site.restartNats(n) }
  },
}

/** As where there is only one. */
const natsAway: Fault = {
  name: 'the whole of NATS is killed, and started again',
  *steps(site) {
    yield {
      name: `no NATS for ${NATS_AWAY_MS / 1_000} s`,
      strike: async () => {
        const all = site.cluster.nats.map((_, n) => n)
        for (const n of all) await site.killNats(n)
        await sleep(NATS_AWAY_MS)
        for (const n of all) await site.restartNats(n)
      },
    }
  },
}

/** While it lasts, all must go on, if slower; after a while it ends. */
function table(name: string, ...rules: Rule[]): Fault {
  return {
    name: `DynamoDB is ${name}`,
    *steps({ proxy }) {
      const from = proxy.decisions.at(-1)?.number ?? 0
      yield {
        name: `DynamoDB ${name}`,
        strike: async () => {
          proxy.rules = rules
        },
      }
      yield {
        name: `DynamoDB no longer ${name}`,
        strike: async () => {
          await sleep(TABLE_MS)
          proxy.rules = []
          const met = new Set(proxy.decisions.filter(({ number }) => number > from).map(({ effect }) => effect))
          const unmet = rules.map(({ effect }) => effect.kind).filter((kind) => !met.has(kind))
          if (unmet.length > 0) throw new Error(`no request has met: ${unmet.join(', ')}`)
        },
      }
    },
  }
}

const throttled = table('throttled, 30 %', { probability: 0.3, effect: { kind: 'throttle' } })
const slow = table('slow, +500 ms', { effect: { kind: 'delay', minMs: 500, maxMs: 500 } })
const failing = table(
  'failing, before and after',
  ...among(0.08, [
    { kind: 'error-before' },
    { kind: 'error-after', status: 503, type: 'ServiceUnavailable' },
    { kind: 'reset-before' },
    { kind: 'reset-after' },
    { kind: 'partial' },
  ]),
)

const refused: Fault = {
  name: 'DynamoDB refuses connections',
  *steps(site) {
    yield {
      name: `no DynamoDB for ${REFUSED_MS / 1_000} s`,
      strike: async () => {
        await site.proxy.refuse(true)
        await sleep(REFUSED_MS)
        await site.proxy.refuse(false)
      },
    }
  },
}

/** One more than there were, and one less again: who came first goes. */
const resized: Fault = {
  name: 'a router is added, and one is taken away',
  *steps(site) {
    const oldest = site.cluster.of('router')[0]!
    yield { name: 'router added', goodbye: true, strike: async () => void (await site.add('router')) }
    yield { name: 'router told to stop', goodbye: true, strike: () => oldest.stop() }
  },
}

/** Of every process, one after the other, by SIGTERM. */
const rolling: Fault = {
  name: 'every process is restarted, one after the other',
  *steps(site) {
    for (const role of ROLES)
      for (const old of site.cluster.of(role)) {
        yield { name: `SIGTERM ${role}`, goodbye: true, endsStreams: role === 'edge', strike: () => old.stop() }
        yield { name: `its successor joins`, goodbye: true, strike: async () => void (await site.add(role)) }
      }
  },
}

export const FAULTS: readonly Fault[] = [
  killed('router'),
  killed('presence'),
  killed('edge'),
  natsKilled,
  natsAway,
  frozen('router'),
  frozen('presence'),
  cutOff('router'),
  throttled,
  slow,
  failing,
  refused,
  resized,
  rolling,
]

/** Besides those, where there is time for more. */
export const MORE_FAULTS: readonly Fault[] = [...FAULTS, cutOff('presence'), cutOff('edge')]

function nameOf(role: PlainRole): string {
  return role === 'presence' ? 'a presence owner' : role === 'edge' ? 'an edge' : 'a router'
}

/** Each with this probability, of all requests. */
function among(probability: number, effects: readonly Effect[]): Rule[] {
  return effects.map((effect, n) => ({ probability: probability / (1 - n * probability), effect }))
}

const HAPPENS_WITHIN_MS = 30_000

async function happens(
  what: string,
  processes: readonly ClusterProcess[],
  holds: () => boolean | Promise<boolean>,
): Promise<void> {
  const deadline = performance.now() + HAPPENS_WITHIN_MS
  while (!(await holds())) {
    const logs = () => processes.map((process) => `--- ${process.name}\n${lastLines(process.log(), 25)}`).join('\n')
    if (performance.now() > deadline) throw new Error(`not within ${HAPPENS_WITHIN_MS} ms: ${what}:\n${logs()}`)
    await sleep(50) // another process: there is no event to wait for
  }
}

/** Partitions of this role. */
async function ownedBy(role: PlainRole, processes: readonly ClusterProcess[]): Promise<number> {
  const counts = await Promise.all(processes.map((process) => process.metric(`rookery_${role}_partitions`)))
  return counts.reduce<number>((sum, count = 0) => sum + count, 0)
}
