import { expect, test } from 'vitest'
import type { Delivery } from '#core/envelope.ts'
import { type Ownership, partitionOf, soleOwnership } from '#core/ownership/ownership.ts'
import { parseJid } from '#xmpp/jid.ts'
import { stanza } from '#xmpp/stanza.ts'
import { Outdated } from './outdated.ts'

const romeo = parseJid('romeo@example.org/x')
const juliet = parseJid('juliet@example.org/y')
const sessions = new Map([
  ['s1', { jid: romeo }],
  ['s2', { jid: juliet }],
])
/** Juliet has another owner since epoch 7. */
const ownership: Ownership = {
  ...soleOwnership('p1'),
  epoch: () => 7,
  epochAt: (role, partition) => (role === 'router' && partition === partitionOf(juliet.bare) ? 7 : 2),
}
const outdated = () => new Outdated(ownership, sessions)
const to = (...ids: string[]): Delivery => ({ kind: 'stanza', sessions: ids, to: 'kept', stanza: stanza('message', romeo, {}) })
const close = (session: string): Delivery => ({ kind: 'order', session, name: 'close', fields: {} })
const from = (epoch: number, role: 'router' | 'presence' = 'router') => ({ role, process: 'p1', epoch })

test('what an owner sent before another took the partition goes to those sessions only that are still its own', () => {
  expect(outdated().without(to('s1', 's2'), from(6))).toMatchObject({ kind: 'stanza', sessions: ['s1'] })
  expect(outdated().without(to('s2'), from(6))).toBeUndefined()
})

test('an order that an owner gave before another took the partition goes to those sessions only that are still its own', () => {
  expect(outdated().without(close('s2'), from(6))).toBeUndefined()
  expect(outdated().without(close('s1'), from(6))).toEqual(close('s1'))
})

test('what the present owner sends is handed on as it is, and so is what comes in the other role', () => {
  const delivery = to('s1', 's2')
  expect(outdated().without(delivery, from(7))).toBe(delivery)
  expect(outdated().without(delivery, from(9))).toBe(delivery) // we have not heard of it yet
  expect(outdated().without(delivery, from(6, 'presence'))).toEqual(delivery)
})

test('a session that is not bound yet has what comes for it', () => {
  expect(outdated().without(to('s3'), from(6))).toMatchObject({ sessions: ['s3'] })
})

test('what an owner sent before another took the partition used to come behind what that one sent, where this edge had not read the row yet', () => {
  const behind = new Outdated({ ...ownership, epoch: () => 6, epochAt: () => 2 }, sessions)
  expect(behind.without(to('s1', 's2'), from(6))).toMatchObject({ sessions: ['s1', 's2'] })
  expect(behind.without(to('s2'), from(7))).toMatchObject({ sessions: ['s2'] })
  expect(behind.without(to('s1', 's2'), from(6))).toMatchObject({ sessions: ['s1'] })
  expect(behind.without(close('s2'), from(6))).toBeUndefined()
  expect(behind.without(to('s2'), from(8))).toMatchObject({ sessions: ['s2'] })
})

test('the row goes by itself once it is read', () => {
  let epoch = 6
  const reading = new Outdated({ ...ownership, epoch: () => epoch, epochAt: () => 2 }, sessions)
  reading.without(to('s2'), from(7))
  epoch = 7 // and it says that somebody else has changed hands
  expect(reading.without(to('s2'), from(6))).toMatchObject({ sessions: ['s2'] })
})

test('what a contact’s owner says is void as a whole once the contact has a newer one, whoever it is for', () => {
  const contact = juliet.bare
  const presence = stanza('presence', juliet, {})
  const ofPresence: Ownership = { ...ownership, epochAt: (_role, partition) => ownership.epochAt('router', partition) }
  const said: readonly Delivery[] = [
    { kind: 'shown', contact, only: undefined, sessions: ['s1'], filter: '', stanza: presence },
    { kind: 'admit', contact, watchers: [romeo.bare] },
    { kind: 'revoke', contact, watchers: [] },
    { kind: 'snapshot', contact, resources: [] },
    { kind: 'order', session: '', name: 'watch', fields: { account: contact, contacts: romeo.bare } },
  ]
  for (const delivery of said) {
    const filter = new Outdated(ofPresence, sessions)
    expect(filter.without(delivery, from(6, 'presence'))).toBeUndefined()
    expect(filter.without(delivery, from(7, 'presence'))).toBe(delivery)
  }
})
