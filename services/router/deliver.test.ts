import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import {
  type Address,
  conditionOf,
  type MessageType,
  messageType,
  mostAvailable,
  nonNegative,
  type Verdict,
  verdictOf,
} from '#core/delivery-rules.ts'
import type { OfflineMessage } from '#core/hooks.ts'
import { defineModule } from '#core/module.ts'
import { BoundSession } from '#core/ownership/registry.ts'
import { harness, type TestClient, type TestServer } from '#test/harness.ts'
import { parseJid } from '#xmpp/jid.ts'
import { NS_CLIENT, NS_STANZAS } from '#xmpp/ns.ts'
import { childOf, el, find, type Stanza, textOf } from '#xmpp/stanza.ts'

type Letter = 'D' | 'M' | 'A' | 'O' | 'E' | 'S'

/**
 * RFC 6121 §8.5.4, Table 1, and beside its four columns the type `error`, which §8.5.2.1.1, §8.5.2.2.1 and §8.5.3.2.1
 * have ignored wherever no resource matches. D: deliver, M: deliver to the most available, A: to all that are not
 * negative, O: store, E: answer with an error, S: silence. Where the sections leave the choice between E and S, or O
 * and E, this server's choice stands here. A full JID matches a resource that is only connected as well (§8.5.3.1).
 */
const TABLE_1 = `
  condition                 address          normal  chat  groupchat  headline  error
  no account                bare             E       E     E          S         S
  no account                full, no match   E       E     E          S         S
  no sessions               bare             O       O     E          S         S
  no sessions               full, no match   E       O     E          S         S
  no active resources       bare             O       O     E          S         S
  no active resources       full, match      D       D     D          D         D
  no active resources       full, no match   E       O     E          S         S
  negative only             bare             O       O     E          S         S
  negative only             full, match      D       D     D          D         D
  negative only             full, no match   E       O     E          S         S
  one non-negative          bare             D       D     E          D         S
  one non-negative          full, match      D       D     D          D         D
  one non-negative          full, no match   E       D     E          S         S
  several non-negative      bare             M       M     E          A         S
  several non-negative      full, match      D       D     D          D         D
  several non-negative      full, no match   E       M     E          S         S
`
const TYPES: readonly MessageType[] = ['normal', 'chat', 'groupchat', 'headline', 'error']

interface Cell {
  readonly condition: string
  readonly address: Address
  readonly type: MessageType
  readonly letter: Letter
}

const CELLS: readonly Cell[] = TABLE_1.trim()
  .split('\n')
  .slice(1)
  .flatMap((line) => {
    const [condition, address, ...letters] = line.trim().split(/ {2,}/)
    return TYPES.map((type, i) => ({ condition: condition!, address: address as Address, type, letter: letters[i] as Letter }))
  })

/** The resources of juliet in each condition, and their priorities; undefined: connected, and no presence sent. */
const RESOURCES: Readonly<Record<string, Readonly<Record<string, number | undefined>>>> = {
  'no account': {},
  'no sessions': {},
  'no active resources': { closet: undefined },
  'negative only': { cellar: -1, attic: -128, closet: undefined },
  'one non-negative': { balcony: 0, cellar: -1, closet: undefined },
  'several non-negative': { hall: 1, balcony: 5, chamber: 5, cellar: -1, closet: undefined },
}
/** What a full JID that matches names: never the resource that a bare JID would reach. */
const MATCH: Readonly<Record<string, string>> = {
  'negative only': 'cellar',
  'one non-negative': 'cellar',
  'several non-negative': 'hall',
}
/** Who gets it, by the letter, where it is not for one full JID. */
const REACHED: Readonly<Partial<Record<Letter, readonly string[]>>> = {
  D: ['balcony'],
  M: ['balcony', 'chamber'],
  A: ['balcony', 'chamber', 'hall'],
}

const matchOf = (condition: string): string => MATCH[condition] ?? 'closet'

describe('RFC 6121 §8.5.4 Table 1, as data', () => {
  test('has a cell for every condition, address and type', () => {
    expect(CELLS).toHaveLength(16 * 5)
    expect(new Set(CELLS.map(({ condition, address, type }) => `${condition} ${address} ${type}`)).size).toBe(80)
  })

  for (const { condition, address, type, letter } of CELLS) {
    test(`${condition}, ${address}, ${type}: ${letter}`, () => {
      const sessions = sessionsOf(RESOURCES[condition]!)
      const verdict = verdictOf(condition === 'no account' ? 'no account' : conditionOf(sessions), address, type)
      const chosen = { 'most available': mostAvailable(sessions), all: nonNegative(sessions) } as Partial<
        Record<Verdict, readonly BoundSession[]>
      >
      const expected = { O: 'offline', E: 'refuse', S: 'ignore' } as Partial<Record<Letter, Verdict>>
      if (expected[letter] !== undefined) expect(verdict).toBe(expected[letter])
      else if (address === 'full, match') expect(verdict).toBe('deliver')
      else expect(chosen[verdict]?.map(({ jid }) => jid.resource).sort()).toEqual(REACHED[letter])
    })
  }

  test('§5.2.2: no type, and a type that is none, are normal', () => {
    expect(['', 'normal', 'subscribe', 'Chat', 'nonsense'].map(messageType)).toEqual([
      'normal',
      'normal',
      'normal',
      'normal',
      'normal',
    ])
    expect(['chat', 'groupchat', 'headline', 'error'].map(messageType)).toEqual(['chat', 'groupchat', 'headline', 'error'])
  })

  test('§8.5.2.1.1: a single session with a negative priority, or that is not available, is not most available', () => {
    expect(mostAvailable(sessionsOf({ cellar: -1 }))).toEqual([])
    expect(mostAvailable(sessionsOf({ closet: undefined }))).toEqual([])
    expect(mostAvailable(sessionsOf({ hall: 0 }))).toHaveLength(1)
  })
})

describe.each([true, false])('RFC 6121 §8.5.4 Table 1, from end to end (messages are kept: %s)', (keeps) => {
  const offline: OfflineMessage[] = []
  const keeper = defineModule({
    name: 'keeper',
    home: 'router',
    xeps: [],
    setup(app) {
      app.on('message.offline', (message) => {
        offline.push(message)
        message.kept = keeps
      })
    },
  })

  for (const condition of Object.keys(RESOURCES)) {
    describe(condition, () => {
      let server: TestServer
      let romeo: TestClient
      const juliet = new Map<string, TestClient>()

      beforeAll(async () => {
        server = await harness([keeper])
        romeo = await server.connect('romeo@example.org/orchard')
        if (condition !== 'no account') await server.account('juliet@example.org')
        for (const [resource, priority] of Object.entries(RESOURCES[condition]!)) {
          const client = await server.bind(`juliet@example.org/${resource}`)
          if (priority !== undefined) client.available(priority)
          juliet.set(resource, client)
        }
        await server.quiet()
      })
      afterAll(() => server.stop())

      for (const { address, type, letter } of CELLS.filter((cell) => cell.condition === condition)) {
        test(`${address}, ${type}: ${letter}`, async () => {
          const resource = { bare: '', 'full, match': `/${matchOf(condition)}`, 'full, no match': '/elsewhere' }[address]
          const sent = romeo.stanza(
            'message',
            {
              to: parseJid(`juliet@example.org${resource}`),
              type: type === 'normal' ? '' : type,
              id: `${address} ${type}`,
              lang: 'it',
            },
            el('body', NS_CLIENT, {}, 'Ciao'),
            el('x', 'urn:example:x'),
          )
          for (const client of [romeo, ...juliet.values()]) client.received.length = 0
          offline.length = 0
          romeo.send(sent)
          await server.quiet()

          const reached = letter === 'D' && address === 'full, match' ? [matchOf(condition)] : (REACHED[letter] ?? [])
          expect(
            [...juliet]
              .filter(([, { received }]) => received.some(({ name }) => name === 'message'))
              .map(([name]) => name)
              .sort(),
          ).toEqual(reached)
          for (const name of reached) expectSame(juliet.get(name)!.received, sent)
          expect(offline.map(({ stanza }) => stanza.id)).toEqual(letter === 'O' ? [sent.id] : [])
          const refused = letter === 'E' || (letter === 'O' && !keeps)
          if (refused) expectRefusal(romeo.received, sent)
          else expect(romeo.received).toEqual([])
        })
      }
    })
  }
})

/** Delivered once, with the bytes and the addresses it was sent with: `to` is not rewritten (§8.5.2.1). */
function expectSame(received: readonly Stanza[], sent: Stanza): void {
  expect(received).toHaveLength(1)
  const [message] = received
  expect(message).toMatchObject({ name: 'message', id: sent.id, type: sent.type, lang: 'it' })
  expect([message!.from.full, message!.to!.full]).toEqual(['romeo@example.org/orchard', sent.to!.full])
  expect(Buffer.from(message!.payload).toString()).toBe(Buffer.from(sent.payload).toString())
}

/** RFC 6120 §8.3.1: the addresses exchanged, the id and the children repeated, then the error. */
function expectRefusal(received: readonly Stanza[], sent: Stanza): void {
  expect(received).toHaveLength(1)
  const [refusal] = received
  expect(refusal).toMatchObject({ name: 'message', type: 'error', id: sent.id })
  expect([refusal!.from.full, refusal!.to!.full]).toEqual([sent.to!.full, 'romeo@example.org/orchard'])
  expect(refusal!.tree().map(({ name }) => name)).toEqual(['body', 'x', 'error'])
  expect(textOf(find(refusal!, 'body', NS_CLIENT)!)).toBe('Ciao')
  const error = find(refusal!, 'error', NS_CLIENT)!
  expect(error.attrs.type).toBe('cancel')
  expect(childOf(error, 'service-unavailable', NS_STANZAS)).toBeDefined()
}

function sessionsOf(resources: Readonly<Record<string, number | undefined>>): BoundSession[] {
  return Object.entries(resources).map(([resource, priority]) => {
    const session = new BoundSession(resource, 'edge', parseJid(`juliet@example.org/${resource}`), {} as never)
    session.available = priority !== undefined
    session.priority = priority ?? 0
    return session
  })
}
