import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { parseJid } from '#xmpp/jid.ts'
import { el, stanza } from '#xmpp/stanza.ts'
import { newItem, pendingOf, type RosterItem, updateItem } from './roster/roster-item.ts'
import {
  farewell,
  inbound,
  outbound,
  pendingRequests,
  remove,
  type SubscriptionState,
  type SubscriptionType,
  seenBy,
  sees,
  stateOf,
} from './subscription.ts'

const ROMEO = parseJid('romeo@example.org')
const JULIET = 'juliet@example.org'
const request = { id: 'a1', lang: 'it', child: '', payload: '' }
const visible: RosterItem = { ...newItem(JULIET), name: 'Juliet', groups: ['Friends'], inRoster: true }
const hidden: RosterItem = { ...newItem(JULIET), pendingIn: request }

const IN: Record<SubscriptionState, RosterItem> = {
  None: visible,
  'None + Pending Out': { ...visible, ask: true },
  'None + Pending In': { ...visible, pendingIn: request },
  'None + Pending Out+In': { ...visible, ask: true, pendingIn: request },
  To: { ...visible, subscription: 'to' },
  'To + Pending In': { ...visible, subscription: 'to', pendingIn: request },
  From: { ...visible, subscription: 'from' },
  'From + Pending Out': { ...visible, subscription: 'from', ask: true },
  Both: { ...visible, subscription: 'both' },
}
const STATES = Object.keys(IN) as SubscriptionState[]
const TYPES: SubscriptionType[] = ['subscribe', 'unsubscribe', 'subscribed', 'unsubscribed']

/** Appendix A.2 and A.3: existing state, route or deliver, new state ('-' for no state change). */
const APPENDIX_A = `
A.2.1 outbound subscribe
  None                  | MUST     | None + Pending Out
  None + Pending Out    | MUST     | -
  None + Pending In     | MUST     | None + Pending Out+In
  None + Pending Out+In | MUST     | -
  To                    | MUST     | -
  To + Pending In       | MUST     | -
  From                  | MUST     | From + Pending Out
  From + Pending Out    | MUST     | -
  Both                  | MUST     | -
A.2.2 outbound unsubscribe
  None                  | MUST     | -
  None + Pending Out    | MUST     | None
  None + Pending In     | MUST     | -
  None + Pending Out+In | MUST     | None + Pending In
  To                    | MUST     | None
  To + Pending In       | MUST     | None + Pending In
  From                  | MUST     | -
  From + Pending Out    | MUST     | From
  Both                  | MUST     | From
A.2.3 outbound subscribed
  None                  | MUST NOT | -
  None + Pending Out    | MUST NOT | -
  None + Pending In     | MUST     | From
  None + Pending Out+In | MUST     | From + Pending Out
  To                    | MUST NOT | -
  To + Pending In       | MUST     | Both
  From                  | MUST NOT | -
  From + Pending Out    | MUST NOT | -
  Both                  | MUST NOT | -
A.2.4 outbound unsubscribed
  None                  | MUST NOT | -
  None + Pending Out    | MUST NOT | -
  None + Pending In     | MUST     | None
  None + Pending Out+In | MUST     | None + Pending Out
  To                    | MUST NOT | -
  To + Pending In       | MUST     | To
  From                  | MUST     | None
  From + Pending Out    | MUST     | None + Pending Out
  Both                  | MUST     | To
A.3.1 inbound subscribe
  None                  | MUST     | None + Pending In
  None + Pending Out    | MUST     | None + Pending Out+In
  None + Pending In     | MUST NOT | -
  None + Pending Out+In | MUST NOT | -
  To                    | MUST     | To + Pending In
  To + Pending In       | MUST NOT | -
  From                  | MUST NOT | -
  From + Pending Out    | MUST NOT | -
  Both                  | MUST NOT | -
A.3.2 inbound unsubscribe
  None                  | MUST NOT | -
  None + Pending Out    | MUST NOT | -
  None + Pending In     | MUST     | None
  None + Pending Out+In | MUST     | None + Pending Out
  To                    | MUST NOT | -
  To + Pending In       | MUST     | To
  From                  | MUST     | None
  From + Pending Out    | MUST     | None + Pending Out
  Both                  | MUST     | To
A.3.3 inbound subscribed
  None                  | MUST NOT | -
  None + Pending Out    | MUST     | To
  None + Pending In     | MUST NOT | -
  None + Pending Out+In | MUST     | To + Pending In
  To                    | MUST NOT | -
  To + Pending In       | MUST NOT | -
  From                  | MUST NOT | -
  From + Pending Out    | MUST     | Both
  Both                  | MUST NOT | -
A.3.4 inbound unsubscribed
  None                  | MUST NOT | -
  None + Pending Out    | MUST     | None
  None + Pending In     | MUST NOT | -
  None + Pending Out+In | MUST     | None + Pending In
  To                    | MUST     | None
  To + Pending In       | MUST     | None + Pending In
  From                  | MUST NOT | -
  From + Pending Out    | MUST     | From
  Both                  | MUST     | From
`

for (const section of APPENDIX_A.trim().split(/\n(?=A\.)/)) {
  const [title = '', ...rows] = section.split('\n')
  const [, direction, type] = title.split(' ') as [string, 'outbound' | 'inbound', SubscriptionType]
  describe(`RFC 6121 ${title}`, () => {
    const cells = rows.map(
      (row) => row.split('|').map((cell) => cell.trim()) as [SubscriptionState, string, SubscriptionState | '-'],
    )
    const verb = direction === 'outbound' ? 'route' : 'deliver'
    test.each(cells)(`"%s": %s ${verb}, then "%s"`, (existing, verdict, then) => {
      const before = IN[existing]
      const change =
        direction === 'outbound' ? outbound(before, JULIET, type) : inbound(before, JULIET, type, { ...request, id: 'later' })
      expect('route' in change ? change.route : change.deliver).toBe(verdict === 'MUST')
      const after = then === '-' ? before : IN[then]
      if (after.pendingIn !== undefined && before.pendingIn === undefined) {
        expect(change.after).toEqual({ ...after, pendingIn: { ...request, id: 'later' } })
      } else if (direction === 'outbound' && type === 'subscribed' && verdict === 'MUST NOT' && !seenBy(before)) {
        expect(change.after).toEqual({ ...after, approved: true }) // §3.4.2
      } else expect(change.after).toEqual(after)
      if (then === '-' && !change.after?.approved) expect(change.after).toBe(before) // nothing to write
    })
    test('has a cell for each state', () => expect(cells.map(([state]) => state)).toEqual(STATES))
  })
}

describe('RFC 6121 §3.1 requesting a subscription', () => {
  test('§3.1.2 a request adds the contact to the roster with ask, and pushes it', () => {
    expect(outbound(undefined, JULIET, 'subscribe')).toMatchObject({
      route: true,
      push: true,
      after: { ...newItem(JULIET), ask: true, inRoster: true },
    })
  })

  test('§3.1.3 a request does not put the contact into the roster, and pushes nothing', () => {
    expect(inbound(undefined, JULIET, 'subscribe', request)).toEqual({ after: hidden, deliver: true, push: false })
    expect(inbound(visible, JULIET, 'subscribe', request)).toMatchObject({ deliver: true, push: false })
  })

  test('§3.1.3 a request that is repeated keeps the first', () => {
    expect(inbound(hidden, JULIET, 'subscribe', { ...request, id: 'again' }).after).toBe(hidden)
  })

  test.each(['From', 'From + Pending Out', 'Both'] as const)(
    '§3.1.3 in "%s" the answer is subscribed, and the presence',
    (state) => {
      expect(inbound(IN[state], JULIET, 'subscribe')).toMatchObject({
        autoReply: 'subscribed',
        presence: 'send-presence',
        push: false,
      })
    },
  )

  test('§3.1.5 an approval adds the contact to the roster, pushes it, and sends presence', () => {
    expect(outbound(hidden, JULIET, 'subscribed')).toEqual({
      after: { ...newItem(JULIET), subscription: 'from', inRoster: true },
      route: true,
      push: true,
      presence: 'send-presence',
    })
  })

  test('§3.1.5 a denial leaves no row, pushes nothing, and shows no presence', () => {
    expect(outbound(hidden, JULIET, 'unsubscribed')).toEqual({ after: undefined, route: true, push: false })
  })

  test('§3.1.6 an approval nobody asked for is ignored', () => {
    expect(inbound(undefined, JULIET, 'subscribed')).toEqual({ after: undefined, deliver: false, push: false })
  })

  test('asking back for a hidden request shows the contact, and keeps the request', () => {
    const { after, push } = outbound(hidden, JULIET, 'subscribe')
    expect(push).toBe(true)
    expect(after).toEqual({ ...hidden, ask: true, inRoster: true })
  })

  test('§3.1.3 requests are delivered again as they came, hidden or not, until they are answered', () => {
    const lang = { to: ROMEO, id: 'a1', type: 'subscribe', lang: 'it' }
    const came = stanza(
      'presence',
      parseJid(JULIET),
      lang,
      el('status', 'jabber:client', {}, 'O Romeo'),
      el('nick', 'urn:n', {}, 'J'),
    )
    const { after } = inbound(undefined, JULIET, 'subscribe', pendingOf(came))
    const [again, ...more] = pendingRequests(ROMEO, [visible, after as RosterItem])
    expect(more).toEqual([])
    expect(again).toMatchObject({ name: 'presence', type: 'subscribe', id: 'a1', lang: 'it', child: came.child })
    expect([again?.from.full, again?.to?.full]).toEqual([JULIET, ROMEO.full])
    expect(again?.tree()).toEqual(came.tree())
    expect(pendingRequests(ROMEO, [outbound(after, JULIET, 'subscribed').after as RosterItem])).toEqual([])
  })
})

describe('RFC 6121 §3.2, §3.3 ending a subscription', () => {
  test.each(['From', 'From + Pending Out', 'Both'] as const)('§3.2.2, §3.3.3 in "%s" its end sends unavailable', (state) => {
    expect(outbound(IN[state], JULIET, 'unsubscribed')).toMatchObject({ presence: 'send-unavailable', push: true })
    expect(inbound(IN[state], JULIET, 'unsubscribe')).toMatchObject({ presence: 'send-unavailable', push: true })
  })

  test('§3.3.3 a request that is withdrawn leaves no row, and shows no presence', () => {
    expect(inbound(hidden, JULIET, 'unsubscribe')).toEqual({ after: undefined, deliver: true, push: false })
  })

  test('presence goes only to those who may see it, and unavailable only to those who might', () => {
    for (const state of STATES)
      for (const type of TYPES)
        for (const change of [outbound(IN[state], JULIET, type), inbound(IN[state], JULIET, type)]) {
          if (change.presence === 'send-presence') expect(seenBy(change.after)).toBe(true)
          expect(change.presence === 'send-unavailable').toBe(seenBy(IN[state]) && !seenBy(change.after))
        }
  })
})

describe('RFC 6121 §3.4 pre-approval', () => {
  test('§3.4.2 for a contact not in the roster an item is made and pushed, and nothing is routed', () => {
    const after = { ...newItem(JULIET), approved: true, inRoster: true }
    expect(outbound(undefined, JULIET, 'subscribed')).toEqual({ after, route: false, push: true })
  })

  test.each(['None', 'None + Pending Out', 'To'] as const)('§3.4.2 in "%s" approved is set and pushed, once', (state) => {
    const first = outbound(IN[state], JULIET, 'subscribed')
    expect(first).toEqual({ after: { ...IN[state], approved: true }, route: false, push: true })
    expect(outbound(first.after, JULIET, 'subscribed')).toEqual({ after: first.after, route: false, push: false })
  })

  test.each(['From', 'From + Pending Out', 'Both'] as const)('§3.4.2 in "%s" it is silently ignored', (state) => {
    expect(outbound(IN[state], JULIET, 'subscribed')).toEqual({ after: IN[state], route: false, push: false })
  })

  test.each([
    ['None', 'From'],
    ['None + Pending Out', 'From + Pending Out'],
    ['To', 'Both'],
  ] as const)('§3.4 A request in "%s" is answered and not delivered, then "%s"', (state, then) => {
    expect(inbound({ ...IN[state], approved: true }, JULIET, 'subscribe', request)).toEqual({
      after: { ...IN[then], approved: true },
      deliver: false,
      push: true,
      autoReply: 'subscribed',
      presence: 'send-presence',
    })
  })

  test.each(STATES)('A.2.4 [1] unsubscribed takes an approval back in "%s"', (state) => {
    const { after, push } = outbound({ ...IN[state], approved: true }, JULIET, 'unsubscribed')
    expect(after?.approved).toBe(false)
    expect(push).toBe(true)
  })

  test('what the contact does leaves the approval', () => {
    for (const state of STATES)
      for (const type of TYPES) expect(inbound({ ...IN[state], approved: true }, JULIET, type).after?.approved).toBe(true)
  })
})

describe('RFC 6121 §2.5 removing a contact', () => {
  test.each([
    ['None', []],
    ['None + Pending Out', ['unsubscribe']],
    ['None + Pending In', ['unsubscribed']],
    ['None + Pending Out+In', ['unsubscribe', 'unsubscribed']],
    ['To', ['unsubscribe']],
    ['To + Pending In', ['unsubscribe', 'unsubscribed']],
    ['From', ['unsubscribed']],
    ['From + Pending Out', ['unsubscribe', 'unsubscribed']],
    ['Both', ['unsubscribe', 'unsubscribed']],
  ] as const)('§2.5.2 in "%s" sends %j', (state, types) => {
    expect(remove(IN[state])).toEqual({ types, presence: seenBy(IN[state]) ? 'send-unavailable' : undefined })
  })

  test('§2.5.3 a contact that is not in the roster is item-not-found, also when it waits for an answer', () => {
    expect(() => remove(undefined)).toThrow('item-not-found')
    expect(() => remove(hidden)).toThrow('item-not-found')
  })

  test('an account that is deleted denies also the hidden requests', () => {
    expect(farewell(hidden)).toEqual({ types: ['unsubscribed'] })
  })
})

/** Two accounts, each with a row for the other, and what is in flight between them. */
class Pair {
  readonly rows: [RosterItem | undefined, RosterItem | undefined] = [undefined, undefined]
  readonly shown: [RosterItem | undefined, RosterItem | undefined] = [undefined, undefined]
  readonly flights: [SubscriptionType[], SubscriptionType[]] = [[], []]
  deliveries = 0

  act(me: 0 | 1, action: SubscriptionType | 'set' | 'remove') {
    if (action === 'set') {
      this.rows[me] = updateItem(this.rows[me], { kind: 'update', jid: JULIET, name: 'n', groups: [] })
      this.shown[me] = this.rows[me]
    } else if (action === 'remove') {
      if (!this.rows[me]?.inRoster) return
      this.flights[me].push(...remove(this.rows[me]).types)
      this.rows[me] = undefined
      this.shown[me] = undefined
    } else {
      const change = outbound(this.rows[me], JULIET, action)
      this.settle(me, change.after, change.push)
      if (change.route) this.flights[me].push(action)
    }
  }

  /** One stanza of mine arrives at the other. False if there was none. */
  deliver(me: 0 | 1): boolean {
    const type = this.flights[me].shift()
    if (type === undefined) return false
    this.deliveries++
    const peer = me === 0 ? 1 : 0
    const change = inbound(this.rows[peer], JULIET, type, request)
    this.settle(peer, change.after, change.push)
    if (change.autoReply !== undefined) this.flights[peer].push(change.autoReply)
    return true
  }

  drain() {
    while (this.deliver(0) || this.deliver(1)) if (this.deliveries > 1_000) throw new Error('a loop of replies')
  }

  settle(me: 0 | 1, after: RosterItem | undefined, push: boolean) {
    if (push) {
      expect(after?.inRoster).toBe(true)
      this.shown[me] = after
    }
    this.rows[me] = after
    expect(view(this.shown[me])).toEqual(after?.inRoster ? view(after) : undefined) // a push for each change, and no hidden item
  }

  agree() {
    for (const [mine, theirs] of [this.rows, [this.rows[1], this.rows[0]] as const]) {
      expect(sees(mine)).toBe(seenBy(theirs))
      expect(mine?.ask ?? false).toBe(theirs?.pendingIn !== undefined)
    }
  }
}

function view(item: RosterItem | undefined) {
  return item && [item.subscription, item.ask, item.approved, item.name]
}

describe('two accounts', () => {
  const who = fc.constantFrom<0 | 1>(0, 1)
  const action = fc.constantFrom(...TYPES, 'set' as const, 'remove' as const)

  test('agree on who sees whom and who has asked whom, whenever nothing is in flight', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(who, action), { maxLength: 40 }), (acts) => {
        const pair = new Pair()
        for (const [me, what] of acts) {
          pair.act(me, what)
          pair.drain()
          pair.agree()
        }
      }),
      { numRuns: 500 },
    )
  })

  // Stanzas that cross can leave the two apart: subscription stanzas have no numbers, so a late answer to a request
  // that was withdrawn is taken for the answer to the next. What must hold is that it ends, and that it can be mended.
  const crossing = fc.array(fc.tuple(who, fc.oneof(action, fc.constant('deliver' as const))), { maxLength: 60 })

  function play(acts: readonly (readonly [0 | 1, SubscriptionType | 'set' | 'remove' | 'deliver'])[]): Pair {
    const pair = new Pair()
    for (const [me, what] of acts) {
      if (what === 'deliver') pair.deliver(me)
      else pair.act(me, what)
    }
    pair.drain()
    return pair
  }

  test('answer no stanza with more than one, and no answer with another, even when stanzas cross', () => {
    fc.assert(
      fc.property(crossing, (acts) => {
        const sent = acts.reduce(
          (sum, [, what]) => sum + (what === 'deliver' || what === 'set' ? 0 : what === 'remove' ? 2 : 1),
          0,
        )
        expect(play(acts).deliveries).toBeLessThanOrEqual(2 * sent)
      }),
      { numRuns: 500 },
    )
  })

  test('agree again, after stanzas have crossed, once both have ended it or one has asked and the other approved', () => {
    fc.assert(
      fc.property(crossing, fc.boolean(), (acts, end) => {
        const pair = play(acts)
        for (const me of [0, 1] as const) {
          for (const what of ['unsubscribe', 'unsubscribed'] as const) {
            pair.act(me, what)
            pair.drain()
          }
        }
        if (!end) {
          for (const [me, what] of [
            [0, 'subscribe'],
            [1, 'subscribed'],
            [1, 'subscribe'],
            [0, 'subscribed'],
          ] as const) {
            pair.act(me, what)
            pair.drain()
          }
        }
        pair.agree()
        expect(pair.rows.map(stateOf)).toEqual(end ? ['None', 'None'] : ['Both', 'Both'])
      }),
      { numRuns: 500 },
    )
  })
})
