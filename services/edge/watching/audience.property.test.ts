// The index against what it stands for: sets of triples, searched from end to end.
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { parseJid } from '#xmpp/jid.ts'
import { stanza } from '#xmpp/stanza.ts'
import { Audience, type WatchNews } from './audience.ts'

const NAMES = Array.from({ length: 5 }, (_, i) => `user${i}@example.org`)
/** Enough that lists are grown in both ways. */
const CROWD = Array.from({ length: 60 }, (_, i) => `crowd${i}@example.org`)

interface Session {
  readonly id: string
  readonly account: string
}

/** Says what is so, and knows nothing of how. */
class Naive {
  readonly watching = new Set<Session>()
  /** `<watcher> <contact>`, and how it stands. */
  readonly pairs = new Map<string, 'admitted' | 'doubtful' | 'none'>()
  readonly seen = new Map<string, Set<string>>()

  sessionsOf(account: string): Session[] {
    return [...this.watching].filter((session) => session.account === account)
  }

  watchersOf(contact: string, ...states: string[]): string[] {
    return [...this.pairs]
      .filter(([pair, state]) => pair.endsWith(` ${contact}`) && states.includes(state))
      .map(([pair]) => pair.split(' ')[0]!)
  }

  /** Those who see the contact at all. */
  isSeen(contact: string): boolean {
    return this.sessionsOf(contact).length > 0 || this.watchersOf(contact, 'admitted', 'doubtful').length > 0
  }

  forgetUnseen(): void {
    for (const contact of this.seen.keys()) if (!this.isSeen(contact)) this.seen.delete(contact)
  }
}

const account = fc.constantFrom(...NAMES)
const some = fc.oneof(
  { weight: 5, arbitrary: fc.uniqueArray(account, { maxLength: 5 }) },
  { weight: 1, arbitrary: fc.constant(CROWD) },
)
const step = fc.oneof(
  fc.record({ does: fc.constant('watch' as const), account, known: fc.boolean(), contacts: some }),
  fc.record({ does: fc.constant('crowd' as const), account }),
  fc.record({ does: fc.constant('unwatch' as const), account, contacts: some }),
  fc.record({ does: fc.constant('leave' as const), at: fc.nat() }),
  fc.record({ does: fc.constantFrom('admit' as const, 'revoke' as const), account, contacts: some }),
  fc.record({ does: fc.constantFrom('show' as const, 'end' as const), account, resource: fc.constantFrom('x', 'y', 'z') }),
  fc.record({ does: fc.constant('doubt' as const), contacts: some }),
  fc.record({ does: fc.constant('snapshot' as const), account, resources: fc.uniqueArray(fc.constantFrom('x', 'y', 'z')) }),
)
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never

class Both {
  readonly naive = new Naive()
  readonly told: WatchNews[] = []
  readonly audience = new Audience<Session>((news) => void this.told.push(news))
  #made = 0

  take(step: Step): void {
    switch (step.does) {
      case 'watch':
        return this.#watch(step.account, step.known ? undefined : this.#session(step.account), step.contacts)
      case 'crowd':
        for (const watcher of CROWD) this.#watch(watcher, this.#session(watcher), [step.account])
        return
      case 'unwatch': {
        const before = step.contacts.filter((contact) => this.naive.pairs.delete(`${step.account} ${contact}`))
        this.naive.forgetUnseen()
        return this.#expectTold(before.length > 0 ? [before] : [], () => this.audience.unwatch(step.account, step.contacts))
      }
      case 'leave':
        return this.#leave([...this.naive.watching][step.at % (this.naive.watching.size || 1)])
      case 'admit':
      case 'revoke':
        return this.#admit(step.does, step.account, step.contacts)
      case 'show':
      case 'end':
        return this.#show(step.account, step.resource, step.does === 'show' ? '' : 'unavailable')
      case 'doubt': {
        for (const [pair, state] of this.naive.pairs)
          if (state === 'admitted' && step.contacts.includes(pair.split(' ')[1]!)) this.naive.pairs.set(pair, 'doubtful')
        this.audience.doubt((contact) => step.contacts.includes(contact))
        return
      }
      case 'snapshot':
        return this.#snapshot(step.account, step.resources)
    }
  }

  #session(account: string): Session {
    return { id: `s${++this.#made}`, account }
  }

  /** That this is said to owners, contacts in any order. */
  #expectTold(contacts: readonly (readonly string[])[], act: () => void): void {
    const before = this.told.length
    act()
    expect(this.told.slice(before).map((news) => [...news.contacts].sort())).toEqual(contacts.map((each) => [...each].sort()))
  }

  #watch(account: string, session: Session | undefined, contacts: readonly string[]): void {
    const { naive } = this
    if (session !== undefined) naive.watching.add(session)
    const counts = naive.sessionsOf(account).length > 0
    const added = contacts.filter((contact) => counts && contact !== account && !naive.pairs.has(`${account} ${contact}`))
    for (const contact of added) naive.pairs.set(`${account} ${contact}`, 'none')
    const greeting = session === undefined ? added : contacts
    this.#expectTold(greeting.length > 0 ? [greeting] : [], () => this.audience.watch(account, session, contacts))
  }

  #leave(session: Session | undefined): void {
    if (session === undefined) return
    const { naive } = this
    const { account } = session
    naive.watching.delete(session)
    const contacts: string[] = []
    if (naive.sessionsOf(account).length === 0)
      for (const pair of [...naive.pairs.keys()])
        if (pair.startsWith(`${account} `)) {
          contacts.push(pair.split(' ')[1]!)
          naive.pairs.delete(pair)
        }
    naive.forgetUnseen()
    this.#expectTold(contacts.length > 0 ? [contacts] : [], () => this.audience.leave(account, session))
  }

  #admit(does: 'admit' | 'revoke', contact: string, watchers: readonly string[]): void {
    const { naive, audience } = this
    if (does === 'revoke' && watchers.length === 0) return this.#revokeAll(contact)
    for (const watcher of watchers) {
      const pair = `${watcher} ${contact}`
      if (naive.pairs.has(pair)) naive.pairs.set(pair, does === 'admit' ? 'admitted' : 'none')
    }
    naive.forgetUnseen()
    audience[does](contact, watchers)
  }

  #revokeAll(contact: string): void {
    const { naive, audience } = this
    const lost = naive.watchersOf(contact, 'admitted', 'doubtful')
    const ids = lost.flatMap((watcher) => naive.sessionsOf(watcher)).map(({ id }) => id)
    const gone = audience.revokeAll(contact)
    expect(gone.map(({ resource }) => resource).sort()).toEqual(
      ids.length === 0 ? [] : [...(naive.seen.get(contact) ?? [])].sort(),
    )
    for (const { from } of gone) expect(from.map(({ id }) => id).sort()).toEqual(ids.sort())
    for (const watcher of lost) naive.pairs.set(`${watcher} ${contact}`, 'none')
    naive.forgetUnseen()
  }

  #show(contact: string, resource: string, type: string): void {
    const { naive, audience } = this
    const shown = { contact, only: undefined, stanza: stanza('presence', parseJid(`${contact}/${resource}`), { type }) }
    const seen = naive.seen.get(contact) ?? new Set<string>()
    expect(audience.note(shown)).toBe(naive.isSeen(contact) && !seen.has(resource))
    if (type === '' && naive.isSeen(contact)) naive.seen.set(contact, seen.add(resource))
    else if (naive.watchersOf(contact, 'doubtful').length === 0) seen.delete(resource)
    const to: string[] = []
    audience.forEach(shown, ({ id }) => void to.push(id))
    const expected = naive.watchersOf(contact, 'admitted').flatMap((watcher) => naive.sessionsOf(watcher))
    expect(to.sort()).toEqual(expected.map(({ id }) => id).sort())
  }

  #snapshot(contact: string, resources: readonly string[]): void {
    const { naive, audience } = this
    const lost = naive.watchersOf(contact, 'doubtful')
    const left = [contact, ...naive.watchersOf(contact, 'admitted')]
    const expected = new Map<string, string[]>()
    for (const resource of naive.seen.get(contact) ?? []) {
      const from = [...lost, ...(resources.includes(resource) ? [] : left)].flatMap((watcher) => naive.sessionsOf(watcher))
      if (from.length > 0) expected.set(resource, from.map(({ id }) => id).sort())
    }
    const gone = audience.snapshot(contact, resources)
    expect(new Map(gone.map(({ resource, from }) => [resource, from.map(({ id }) => id).sort()]))).toEqual(expected)
    for (const watcher of lost) naive.pairs.set(`${watcher} ${contact}`, 'none')
    if (naive.isSeen(contact)) naive.seen.set(contact, new Set(resources))
    else naive.seen.delete(contact)
  }

  check(): void {
    const { naive, audience } = this
    expect(audience.pairs).toBe(naive.pairs.size)
    expect(audience.admitted).toBe([...naive.pairs.values()].filter((state) => state === 'admitted').length)
    for (const contact of NAMES) {
      const [told] = audience.watched((bare) => bare === contact)
      expect([...(told?.watchers ?? [])].sort()).toEqual(naive.watchersOf(contact, 'admitted', 'doubtful', 'none').sort())
      expect([...(told?.admitted ?? [])].sort()).toEqual(naive.watchersOf(contact, 'admitted', 'doubtful').sort())
      expect([...(told?.resources ?? [])].sort()).toEqual([...(naive.seen.get(contact) ?? [])].sort())
      const mine = [...naive.pairs.keys()].filter((pair) => pair.startsWith(`${contact} `)).map((pair) => pair.split(' ')[1]!)
      expect([...audience.contactsOf(contact)].sort()).toEqual(mine.sort())
    }
  }
}

test('whoever watches, leaves, is admitted, doubted and told anew, the index says what the sets say', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 100, size: 'max' }), (steps) => {
      const both = new Both()
      for (const step of steps) {
        both.take(step)
        both.check()
      }
    }),
    { numRuns: 25 },
  )
})

test('nothing is left of those who have gone', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 100, size: 'max' }), (steps) => {
      const both = new Both()
      for (const step of steps) both.take(step)
      for (const session of [...both.naive.watching]) both.audience.leave(session.account, session)
      expect([both.audience.pairs, both.audience.admitted, [...both.audience.watched(() => true)]]).toEqual([0, 0, []])
    }),
  )
})
