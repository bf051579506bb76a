import { describe, expect, test } from 'vitest'
import { parseJid } from '#xmpp/jid.ts'
import { NS_CLIENT } from '#xmpp/ns.ts'
import { type Element, el, type Stanza, stanza, stanzaOfBytes } from '#xmpp/stanza.ts'
import { isWorthArchiving } from './worth-archiving.ts'

const ROMEO = parseJid('romeo@example.org')
const NS_MUC_USER = 'http://jabber.org/protocol/muc#user'
const BODY = el('body', NS_CLIENT, {}, 'hi')
const MARKABLE = el('markable', 'urn:xmpp:chat-markers:0')
const COMPOSING = el('composing', 'http://jabber.org/protocol/chatstates')
const hint = (name: string) => el(name, 'urn:xmpp:hints')

/** As it comes from a client: without a tree, which it counts the building of. */
function received(type: string, children: readonly Element[]): { message: Stanza; trees: () => number } {
  const { child, payload } = stanza('message', ROMEO, { type }, ...children)
  const message = stanzaOfBytes('message', ROMEO, undefined, '', type, '', child, payload)
  const tree = message.tree.bind(message)
  let trees = 0
  message.tree = () => {
    trees++
    return tree()
  }
  return { message, trees: () => trees }
}

describe('XEP-0313 §6.1.1 what is archived', () => {
  test.each<[string, string, readonly Element[], boolean]>([
    ['a body', 'chat', [BODY], true],
    ['a body behind what says nothing', 'chat', [MARKABLE, COMPOSING, BODY], true],
    ['a body behind a hint of something else', 'chat', [hint('no-copy'), BODY], true],
    ['of no type', '', [BODY], true],
    ['the state of a chat', 'chat', [COMPOSING], false],
    ['a marker that something may be marked', 'chat', [MARKABLE], false],
    ['a body of another namespace', 'chat', [el('body', 'urn:example')], false],
    ['a body within something else', 'chat', [el('x', 'urn:example', {}, BODY)], false],
    ['nothing', 'chat', [], false],
    ['of a room', 'groupchat', [BODY], false],
    ['an error', 'error', [BODY, hint('store')], false],
    ['a headline', 'headline', [BODY], false],
    ['XEP-0334 §4.4: a headline with the hint to store it', 'headline', [BODY, hint('store')], true],
    ['XEP-0334 §4.4: a state with the hint to store it', 'chat', [hint('store'), COMPOSING], true],
    ['XEP-0334 §4.2: no-store behind the body', 'chat', [BODY, hint('no-store')], false],
    ['XEP-0334 §4.1: no-permanent-store ahead of it', 'chat', [hint('no-permanent-store'), BODY], false],
    ['both store and no-store', 'chat', [hint('store'), BODY, hint('no-store')], false],
    ['a hint that is deeper, and so of something else', 'chat', [BODY, el('x', 'urn:example', {}, hint('no-store'))], true],
    ['a hint of that name in another namespace', 'chat', [BODY, el('no-store', 'urn:xmpp:hints:1')], true],
  ])('%s', (_name, type, children, kept) => {
    const { message, trees } = received(type, children)
    expect([isWorthArchiving(message), trees()]).toEqual([kept, 0])
  })

  test.each<[string, Element, boolean]>([
    ['an invitation to a room, XEP-0045 §7.8.2', el('x', NS_MUC_USER, {}, el('invite', NS_MUC_USER)), true],
    ['one that is declined', el('x', NS_MUC_USER, {}, el('decline', NS_MUC_USER)), true],
    ['what else a room says', el('x', NS_MUC_USER, {}, el('status', NS_MUC_USER)), false],
  ])('%s', (_name, x, kept) => {
    expect(isWorthArchiving(received('normal', [COMPOSING, x]).message)).toBe(kept)
  })
})
