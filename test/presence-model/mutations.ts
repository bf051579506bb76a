// Servers that are broken on purpose, to see that the model screams: a method of a class does something else meanwhile.
import { Commit } from '#core/commits/commit.ts'
import { Hooks } from '#core/hooks.ts'
import { Resync } from '#core/ownership/resync.ts'
import { Inactive } from '#edge/sessions/inactive.ts'
import { Audience } from '#edge/watching/audience.ts'
import { Watching } from '#edge/watching/watching.ts'
import { Audiences } from '#presence/audiences.ts'
import { Availability } from '#presence/availability.ts'
import { Coalescing } from '#presence/coalescing.ts'
import { DirectedPresence } from '#presence/directed.ts'
import { Presences } from '#presence/presences.ts'
import { WatchersAt } from '#presence/watches.ts'

export interface Mutation {
  /** What is wrong. */
  readonly name: string
  /** It takes that something happens to the servers. */
  readonly strikes?: true
  /** Returns what mends it. */
  readonly patch: () => () => void
}

export const MUTATIONS: readonly Mutation[] = [
  {
    name: 'a change is taken for unchanged',
    patch: () =>
      patched(
        Availability.prototype,
        'set',
        (set) =>
          function (this: Availability, ...args) {
            const news = set.apply(this, args)
            return news === 'changed' ? 'unchanged' : news
          },
      ),
  },
  {
    name: 'what has waited while a client was inactive is lost',
    patch: () => patched(Inactive.prototype, 'flush', () => () => {}),
  },
  {
    name: 'directed presence is not remembered: neither what has diverged by it, nor whom to tell of the end',
    patch: () => patched(Availability.prototype, 'direct', () => () => {}),
  },
  { name: 'nobody is told that a resource has gone', patch: () => patched(Availability.prototype, 'remove', forgetful) },
  {
    name: 'a session that ends is not told of',
    patch: () => patched(Presences.prototype, 'closed', () => (_account, _id, done) => done()),
  },
  {
    name: 'whoever comes is shown nobody, for watches are not answered',
    patch: () => patched(Audiences.prototype, 'receive', () => (_watch, done) => done()),
  },
  {
    name: 'who watches many is told of all but one',
    patch: () =>
      patched(
        Watching.prototype,
        'submit',
        (submit) =>
          function (this: Watching, news) {
            submit.call(this, news.contacts.length > 1 ? { ...news, contacts: news.contacts.slice(1) } : news)
          },
      ),
  },
  {
    name: 'a broadcast leaves one out',
    patch: () =>
      patched(
        Audience.prototype,
        'forEach',
        (forEach) =>
          function (this: Audience<{ id: string }>, shown, show) {
            let isFirst = true
            forEach.call(this, shown, (session) => {
              if (!isFirst) show(session)
              isFirst = false
            })
          } as typeof forEach,
      ),
  },
  {
    name: 'everybody who watches is admitted, whatever the roster says',
    patch: () =>
      patched(
        WatchersAt.prototype,
        'isAdmitted',
        () =>
          function (this: WatchersAt, watcher) {
            return this.has(watcher)
          },
      ),
  },
  {
    name: 'who may see somebody no more is not revoked',
    patch: () => patched(Audience.prototype, 'revoke', () => () => {}),
  },
  {
    name: 'the end of a right to see is told to nobody',
    patch: () => patched(Audiences.prototype, 'revoke', () => () => {}),
  },
  {
    name: 'who comes to be seen by somebody who watches already does not greet him',
    patch: () => patched(Audiences.prototype, 'allow', () => () => {}),
  },
  {
    name: 'of presence that waits the last is forgotten',
    patch: () =>
      patched(
        Coalescing.prototype,
        'change',
        (change) =>
          function (this: Coalescing, presence, diverged) {
            if (this.waiting(presence.from.full) === undefined) change.call(this, presence, diverged)
          },
      ),
  },
  {
    name: 'a broadcast overtakes directed presence',
    patch: () => patched(DirectedPresence.prototype, 'follow', () => () => {}),
  },
  {
    name: 'broadcasts go to those from whom a module hides the account, too',
    patch: () => patched(Hooks.prototype, 'hidden', () => () => undefined),
  },
  {
    name: 'a block changes nothing for those who see the account already',
    patch: () =>
      patched(
        Hooks.prototype,
        'emit',
        (emit) =>
          function (this: Hooks, event, payload) {
            return event === 'audience.changed' ? undefined : emit.call(this, event, payload)
          } as Hooks['emit'],
      ),
  },
  {
    name: 'what is told does not wait for what is staged',
    patch: () => patched(Commit.prototype, 'after', () => (_account, release) => release()),
  },
  {
    name: 'a new owner takes nobody for available whom the edges tell of',
    strikes: true,
    patch: () => patched(Presences.prototype, 'adopt', () => () => {}),
  },
  {
    name: 'a new owner does not ask the edges',
    strikes: true,
    patch: () => patched(Resync.prototype, 'ask', () => async () => ({ sessions: [], watches: [] })),
  },
  {
    name: 'a new owner does not hear who watches',
    strikes: true,
    patch: () => patched(Presences.prototype, 'adoptWatches', () => () => {}),
  },
]

/** Until what this returns is called, what `make` makes of the method stands in its place. */
function patched<T extends object, K extends keyof T>(prototype: T, name: K, make: (method: T[K]) => T[K]): () => void {
  const method = prototype[name]
  prototype[name] = make(method)
  return () => {
    prototype[name] = method
  }
}

function forgetful(remove: Availability['remove']): Availability['remove'] {
  return function (this: Availability, ...args) {
    remove.apply(this, args)
    return undefined
  }
}
