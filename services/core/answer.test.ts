import { describe, expect, test } from 'vitest'
import { StanzaError } from '#xmpp/error.ts'
import { parseJid } from '#xmpp/jid.ts'
import { NS_CLIENT, NS_STANZAS } from '#xmpp/ns.ts'
import { el, type StanzaName, stanza } from '#xmpp/stanza.ts'
import { errorOf } from './answer.ts'

const ROMEO = parseJid('romeo@a/x')
const JULIET = parseJid('juliet@b/y')
const BODY = el('body', NS_CLIENT, {}, 'hi')

describe('RFC 6120 §8.3.1: an error', () => {
  test('goes back between swapped addresses, with the id, what was sent and why not', () => {
    const refused = stanza('message', ROMEO, { to: JULIET, id: 'm1', type: 'chat' }, BODY)
    const answer = errorOf(
      refused,
      new StanzaError('not-acceptable', 'blocked', { type: 'cancel', extra: el('blocked', 'urn:b') }),
    )!
    expect(answer).toMatchObject({ name: 'message', from: JULIET, to: ROMEO, id: 'm1', type: 'error', child: refused.child })
    expect(answer.tree()).toEqual([
      BODY,
      el(
        'error',
        NS_CLIENT,
        { type: 'cancel' },
        el('not-acceptable', NS_STANZAS),
        el('text', NS_STANZAS, { 'xml:lang': 'en' }, 'blocked'),
        el('blocked', 'urn:b'),
      ),
    ])
  })

  test('where only a part is repeated, the rest used to be repeated too', () => {
    const secret = stanza(
      'iq',
      ROMEO,
      { to: JULIET, type: 'set' },
      el('query', 'urn:x', {}, el('password', 'urn:x', {}, 'secret')),
    )
    const answer = errorOf(secret, new StanzaError('not-acceptable', '', { echo: el('query', 'urn:x') }))!
    expect(answer.child).toBe('{urn:x}query')
    expect(answer.tree()[0]).toEqual(el('query', 'urn:x'))
    expect(answer.tree()).toHaveLength(2)
    expect(Buffer.from(answer.payload).toString()).not.toContain('secret')
  })

  test('without echo it is all there is', () => {
    const answer = errorOf(
      stanza('iq', ROMEO, { id: 'i1', type: 'set' }, BODY),
      new StanzaError('not-acceptable', '', { echo: false }),
    )!
    expect(answer.tree().map(({ name }) => name)).toEqual(['error'])
    expect(answer.child).toBe(`{${NS_CLIENT}}error`)
    expect(answer.from.full).toBe('romeo@a') // §10.3.3: no `to` is one's own account
  })

  test.each<[StanzaName, string]>([
    ['message', 'error'],
    ['presence', 'error'],
    ['iq', 'error'],
    ['iq', 'result'],
  ])('a %s of type %s is not answered', (name, type) => {
    expect(errorOf(stanza(name, ROMEO, { to: JULIET, type }), new StanzaError('forbidden'))).toBeUndefined()
  })
})
