import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { Watches } from './watches.ts'

const CONTACTS = ['romeo@example.org', 'juliet@example.org']
const EDGES = ['e1', 'e2', 'e3']
const WATCHERS = ['nurse@example.org', 'paris@example.org', 'rosaline@example.org']

type Kind = 'add' | 'remove' | 'admit' | 'revoke' | 'revokeAll' | 'removeEdge' | 'forget'
const step = fc.record({
  kind: fc.constantFrom<Kind>('add', 'add', 'add', 'remove', 'admit', 'admit', 'revoke', 'revokeAll', 'removeEdge', 'forget'),
  contact: fc.constantFrom(...CONTACTS),
  edge: fc.constantFrom(...EDGES),
  watcher: fc.constantFrom(...WATCHERS),
})

/** `contact edge watcher` of each pair, and whether it is admitted. */
function pairsOf(watches: Watches): Map<string, boolean> {
  const pairs = new Map<string, boolean>()
  for (const contact of CONTACTS)
    for (const place of watches.of(contact))
      for (const watcher of place.watchers()) pairs.set(`${contact} ${place.edge} ${watcher}`, place.isAdmitted(watcher))
  return pairs
}

test('what is kept of pairs agrees with a list of them', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const watches = new Watches()
      const naive = new Map<string, boolean>()
      for (const { kind, contact, edge, watcher } of steps) {
        const key = `${contact} ${edge} ${watcher}`
        const place = watches.at(contact, edge)
        const known = naive.get(key)
        if (kind === 'add') {
          watches.add(contact, edge, watcher)
          naive.set(key, known ?? false)
        } else if (kind === 'remove') {
          expect(watches.remove(contact, edge, watcher)).toBe(known === true)
          naive.delete(key)
        } else if (kind === 'admit') {
          expect(place?.admit(watcher) ?? false).toBe(known === false)
          if (known !== undefined) naive.set(key, true)
        } else if (kind === 'revoke') {
          expect(place?.revoke(watcher) ?? false).toBe(known === true)
          if (known !== undefined) naive.set(key, false)
        } else if (kind === 'revokeAll') {
          place?.revokeAll()
          for (const each of naive.keys()) if (each.startsWith(`${contact} ${edge} `)) naive.set(each, false)
        } else {
          if (kind === 'removeEdge') watches.removeEdge(edge)
          else watches.forget((account) => account === contact)
          const gone = kind === 'removeEdge' ? ` ${edge} ` : `${contact} `
          for (const each of naive.keys()) if (each.includes(gone)) naive.delete(each)
        }
        expect(pairsOf(watches)).toEqual(naive)
        expect(watches.size).toBe(naive.size)
        expect([...watches.edges()].sort()).toEqual([...new Set([...naive.keys()].map((each) => each.split(' ')[1]))].sort())
        for (const each of CONTACTS)
          for (const { edge, admitted, size } of watches.of(each)) {
            const there = [...naive].filter(([key]) => key.startsWith(`${each} ${edge} `))
            expect([size, admitted]).toEqual([there.length, there.filter(([, isAdmitted]) => isAdmitted).length])
          }
      }
    }),
  )
})

describe('what a contact has published', () => {
  test('is to be told each watcher once, however often he sees the contact go and come', () => {
    const watches = new Watches()
    const place = watches.add('romeo@example.org', 'e1', 'nurse@example.org')
    place.admit('nurse@example.org')
    expect([place.catchUp('nurse@example.org'), place.catchUp('nurse@example.org')]).toEqual([true, false])
    place.revokeAll()
    place.admit('nurse@example.org')
    expect([place.catchUp('nurse@example.org'), place.catchUp('paris@example.org')]).toEqual([false, false])
    place.revoke('nurse@example.org') // what is published meanwhile is not for her
    place.admit('nurse@example.org')
    expect([place.catchUp('nurse@example.org'), place.catchUp('nurse@example.org')]).toEqual([true, false])
  })
})
