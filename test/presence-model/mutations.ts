// Servers that are broken on purpose, to see that the model screams: a method of a class does something else meanwhile.
import { Commit } from '#core/commit.ts'
import { Hooks } from '#core/hooks.ts'
import { Owner } from '#core/owner.ts'
import { Resync } from '#core/resync.ts'
import { Availability } from '#presence/availability.ts'
import { Presences } from '#presence/presences.ts'

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
    name: 'directed presence is not remembered: neither what has diverged by it, nor whom to tell of the end',
    patch: () => patched(Availability.prototype, 'direct', () => () => {}),
  },
  { name: 'nobody is told that a resource has gone', patch: () => patched(Availability.prototype, 'remove', forgetful) },
  {
    name: 'a session that ends is not told of',
    patch: () => patched(Presences.prototype, 'closed', () => (_account, _id, done) => done()),
  },
  {
    name: 'whoever comes is shown nobody, for probes are not answered',
    patch: () => patched(Presences.prototype, 'answerProbe', () => () => {}),
  },
  { name: 'a broadcast leaves one out', patch: () => patched(Owner.prototype, 'fanOut', leavingOut) },
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
    name: 'of the accounts in one envelope the first is passed over',
    patch: () =>
      patched(
        Presences.prototype,
        'receiveMany',
        (receive) =>
          function (this: Presences, presence, accounts, done) {
            receive.call(this, presence, accounts.length > 1 ? accounts.slice(1) : accounts, done)
          },
      ),
  },
  {
    name: 'a new owner takes nobody for available whom the edges tell of',
    strikes: true,
    patch: () => patched(Presences.prototype, 'adopt', () => () => {}),
  },
  {
    name: 'a new owner does not ask the edges',
    strikes: true,
    patch: () => patched(Resync.prototype, 'ask', () => async () => []),
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

function leavingOut(fanOut: Owner['fanOut']): Owner['fanOut'] {
  return function (this: Owner, stanza, accounts, ...rest) {
    fanOut.call(this, stanza, accounts.length > 2 ? accounts.slice(0, -1) : accounts, ...rest)
  }
}
