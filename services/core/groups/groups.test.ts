import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { contactsChanged, DomainGroups, type Group, SEEN_BY } from './groups.ts'

const at = (name: string): string => `${name}@example.org`

function group(name: string, members: readonly string[], more: Partial<Group> = {}): Group {
  const settings = { displayName: name, description: '', seenBy: 'members', seenByGroups: [] } as const
  return { ...settings, name, members: new Set(members.map(at)), revision: `${name}-1`, ...more }
}

function domain(...groups: readonly Group[]): DomainGroups {
  return new DomainGroups('example.org', 'v', new Map(groups.map((group) => [group.name, group])))
}

describe('who sees whom', () => {
  test('by a group that its members see: each the others, and nobody else', () => {
    const groups = domain(group('montague', ['romeo', 'benvolio']), group('capulet', ['juliet', 'tybalt']))
    expect(groups.shows(at('romeo'), at('benvolio'))).toBe(true)
    expect(groups.shows(at('romeo'), at('juliet'))).toBe(false)
    expect(groups.shows(at('romeo'), at('friar'))).toBe(false)
    expect(groups.shows(at('friar'), at('romeo'))).toBe(false)
  })

  test('by a group that everybody sees: whoever is of the domain, and nobody of another', () => {
    const groups = domain(group('princes', ['escalus'], { seenBy: 'everybody' }))
    expect(groups.shows(at('escalus'), at('romeo'))).toBe(true)
    expect(groups.shows(at('romeo'), at('escalus'))).toBe(false)
    expect(groups.shows(at('escalus'), 'iago@venice.example')).toBe(false)
    expect(groups.shows(at('escalus'), 'iago@not-example.org')).toBe(false)
  })

  test('by a group that members of another see: those do, its own members too unless nobody is to', () => {
    const servants = group('servants', ['nurse', 'peter'], { seenByGroups: ['capulet'] })
    const capulet = group('capulet', ['juliet'])
    const groups = domain(servants, capulet)
    expect(groups.shows(at('nurse'), at('juliet'))).toBe(true)
    expect(groups.shows(at('juliet'), at('nurse'))).toBe(false)
    expect(groups.shows(at('nurse'), at('peter'))).toBe(true)
    expect(domain({ ...servants, seenBy: 'nobody' }, capulet).shows(at('nurse'), at('peter'))).toBe(false)
    expect(domain({ ...servants, seenBy: 'nobody' }, capulet).shows(at('nurse'), at('juliet'))).toBe(true)
  })

  test('a group that is not there lets nobody see', () => {
    const groups = domain(group('servants', ['nurse'], { seenBy: 'nobody', seenByGroups: ['capulet'] }))
    expect(groups.shows(at('nurse'), at('juliet'))).toBe(false)
  })
})

test('a thousand members have one membership, and not one each', () => {
  const members = Array.from({ length: 1_000 }, (_, n) => `c${n}`)
  const groups = domain(group('chorus', members))
  expect(new Set(members.map((name) => groups.membershipOf(at(name)))).size).toBe(1)
})

describe('the token of a membership', () => {
  const montague = group('montague', ['romeo'])
  const capulet = group('capulet', ['juliet'])

  test('is empty without groups, the same while nothing changes, and another with each change of a group that matters', () => {
    const token = (groups: DomainGroups, name = 'romeo') => groups.membershipOf(at(name)).token
    expect(token(domain())).toBe('')
    expect(token(domain(montague), 'friar')).toBe('')
    const before = token(domain(montague, capulet))
    expect(before).not.toBe('')
    expect(token(domain(montague, { ...capulet, revision: 'capulet-2' }))).toBe(before)
    expect(token(domain({ ...montague, revision: 'montague-2' }, capulet))).not.toBe(before)
    const seen = { ...capulet, seenByGroups: ['montague'], revision: 'capulet-2' }
    expect(token(domain(montague, seen))).not.toBe(before)
  })

  test('tells who sees a group from who is in it', () => {
    const open = group('open', ['romeo'], { seenBy: 'everybody' })
    const groups = domain(open)
    expect(groups.membershipOf(at('romeo')).token).not.toBe(groups.membershipOf(at('juliet')).token)
  })
})

// Every pair is compared, before and after: whoever is another's contact in another way must be among the contacts changed.
describe('the contacts of whom a change may matter', () => {
  const NAMES = ['romeo', 'juliet', 'nurse', 'paris', 'tybalt']
  const GROUPS = ['a', 'b', 'c']
  const state = fc.array(
    fc.record({
      members: fc.subarray(NAMES),
      seenBy: fc.constantFrom(...SEEN_BY),
      seenByGroups: fc.subarray(GROUPS),
      displayName: fc.constantFrom('One', 'Two'),
      isThere: fc.boolean(),
    }),
    { minLength: GROUPS.length, maxLength: GROUPS.length },
  )

  test('are all whose relation changes, and of a change of members alone no others than those', () => {
    let revision = 0
    fc.assert(
      fc.property(state, state, (first, second) => {
        const made = (states: typeof first, before?: DomainGroups): DomainGroups => {
          const groups = states.flatMap(({ isThere, members, ...settings }, i) => {
            if (!isThere) return []
            const now = group(GROUPS[i]!, members, { ...settings, revision: `r${++revision}` })
            const old = before?.groups.get(now.name)
            return [old !== undefined && same(old, now) ? old : now]
          })
          return domain(...groups)
        }
        const before = made(first)
        const after = made(second, before)
        for (const name of NAMES) {
          const changed = contactsChanged(at(name), before, after)
          expect(changed.has(at(name))).toBe(false)
          for (const other of NAMES) {
            if (other === name || changed.has(at(other))) continue
            expect(relation(before, at(name), at(other))).toEqual(relation(after, at(name), at(other)))
          }
        }
      }),
    )
  })

  test('one who joins a group of many is the only one that the others are told of', () => {
    const chorus = group('chorus', ['a', 'b', 'c'])
    const before = domain(chorus)
    const after = domain(group('chorus', ['a', 'b', 'c', 'd'], { revision: 'chorus-2' }))
    expect([...contactsChanged(at('a'), before, after)]).toEqual([at('d')])
    expect([...contactsChanged(at('d'), before, after)].sort()).toEqual(['a', 'b', 'c'].map(at))
    expect([...contactsChanged(at('x'), before, after)]).toEqual([])
  })

  function same(a: Group, b: Group): boolean {
    const { revision: _, members, ...settings } = a
    const { revision: __, members: others, ...more } = b
    return JSON.stringify([settings, [...members]]) === JSON.stringify([more, [...others]])
  }

  /** By which groups one sees the other; but for everybody, who cannot be listed, whether he is seen. */
  function relation(groups: DomainGroups, account: string, contact: string) {
    const { sees } = groups.membershipOf(account)
    const by = [...groups.membershipOf(contact).groups].filter((group) => sees.has(group)).map(({ displayName }) => displayName)
    const listed = groups.membershipOf(account).seenByMembersOf
    const isListed = [...groups.membershipOf(contact).groups].some((group) => listed.has(group))
    return { by: by.sort(), seen: isListed && groups.shows(account, contact) }
  }
})
