import { expect, test } from 'vitest'
import { parseJid } from '#xmpp/jid.ts'
import { manualClock } from '../clock.ts'
import { silentLog } from '../observing/log.ts'
import type { Liveness } from '../process.ts'
import { DeadEdges } from './dead-edges.ts'
import { soleOwnership } from './ownership.ts'
import { BoundSession, Registry } from './registry.ts'

function setUp(count = 1) {
  const clock = manualClock()
  const liveness = new Map<string, Liveness>([['e1', 'live']])
  const cutOff = new Set<string>()
  const listeners: (() => void)[] = []
  const ended: string[] = []
  const sessions = new Registry()
  const state = { sure: true }
  const members = {
    live: () => [],
    candidates: () => [],
    speaksOf: () => 3,
    livenessOf: (edge: string) => liveness.get(edge) ?? 'unseen',
    isCutOff: (edge: string) => cutOff.has(edge),
    onChange: (listener: () => void) => void listeners.push(listener),
    onRead: () => {},
    onFenced: () => {},
  }
  const add = (session: string, edge: string): void =>
    sessions.add(new BoundSession(session, edge, parseJid(`romeo@example.org/${session}`), {} as never))
  for (let n = 0; n < count; n++) add(`s${n}`, 'e1')
  const ownership = { ...soleOwnership('p1'), sure: () => state.sure }
  new DeadEdges(
    { members, clock, ownership, log: silentLog },
    () => sessions.all(),
    (session) => void ended.push(session.session),
  )
  const changed = (): void => {
    for (const listener of listeners) listener()
  }
  return { clock, liveness, cutOff, ended, add, state, changed }
}

test('sessions of an edge that has died are ended when that is known, each once', () => {
  const { clock, liveness, ended, changed } = setUp(2)
  changed()
  clock.advance(60_000)
  expect(ended).toEqual([])
  liveness.set('e1', 'gone')
  changed()
  clock.advance(60_000)
  expect(ended).toEqual(['s0', 's1'])
})

test('many are ended a few at a time', () => {
  const { clock, liveness, ended, changed } = setUp(1_200)
  liveness.set('e1', 'gone')
  changed()
  expect(ended).toHaveLength(500)
  clock.advance(50)
  expect(ended).toHaveLength(1_000)
  clock.advance(50)
  expect(ended).toHaveLength(1_200)
})

test('an edge that nobody has ever seen has 15 s', () => {
  const { clock, liveness, ended, add, changed } = setUp(0)
  add('a', 'e2')
  add('b', 'e3')
  changed()
  clock.advance(10_000)
  liveness.set('e3', 'live')
  changed()
  expect(ended).toEqual([])
  clock.advance(10_000)
  expect(ended).toEqual(['a'])
})

test('a process that is not sure of itself ends nothing', () => {
  const { clock, liveness, ended, state, changed } = setUp()
  liveness.set('e1', 'gone')
  state.sure = false
  changed()
  clock.advance(4_000)
  expect(ended).toEqual([])
  state.sure = true
  clock.advance(5_000)
  expect(ended).toEqual(['s0'])
})

test('an edge that is only silent used to lose its sessions, came back, and never knew', () => {
  const { clock, liveness, ended, changed } = setUp()
  liveness.set('e1', 'silent')
  changed()
  clock.advance(10_000)
  expect(ended).toEqual([])
  liveness.set('e1', 'gone')
  changed()
  expect(ended).toEqual(['s0'])
})

test('sessions of an edge that is without the bus which others have are ended: nothing comes to it', () => {
  const { cutOff, ended, changed } = setUp()
  cutOff.add('e1')
  changed()
  expect(ended).toEqual(['s0'])
})
