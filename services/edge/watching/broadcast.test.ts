import { describe, expect, test } from 'vitest'
import { manualClock } from '#core/clock.ts'
import { parseJid } from '#xmpp/jid.ts'
import { NS_CLIENT } from '#xmpp/ns.ts'
import { el, rootTag, type Stanza, stanza, stanzaOfBytes } from '#xmpp/stanza.ts'
import { escapeAttribute } from '#xmpp/xml.ts'
import { Broadcast } from './broadcast.ts'

const ROMEO = parseJid('romeo@example.org/garden')
const ADDRESSES = ['juliet@example.org', 'rené@münchen.example', 'example.org']

/** As each recipient alone would be written to. */
function alone(stanza: Stanza, to: string, xmlns: string): string {
  const tag = rootTag(stanza, to, xmlns)
  const payload = Buffer.from(stanza.payload).toString()
  return payload === '' ? `${tag}/>` : `${tag}>${payload}</${stanza.name}>`
}

function toEach(shown: Stanza): void {
  const broadcast = new Broadcast(shown, manualClock())
  for (const xmlns of ['', NS_CLIENT, '']) {
    for (const to of ADDRESSES) {
      const { before, behind } = broadcast.written(xmlns)
      const text = Buffer.concat([before, Buffer.from(escapeAttribute(to)), behind]).toString()
      expect(text).toBe(alone(shown, to, xmlns))
    }
  }
}

describe('what is shown to many is written once', () => {
  test('and is what each of them would be sent by itself, in a stream (RFC 6120 §4) and in frames (RFC 7395 §3)', () => {
    toEach(stanza('presence', ROMEO, {}))
    toEach(stanza('presence', ROMEO, { type: 'unavailable', id: 'a1' }))
    toEach(
      stanza('presence', ROMEO, { lang: 'de' }, el('show', NS_CLIENT, {}, 'away'), el('status', NS_CLIENT, {}, 'beim Bäcker 🥐')),
    )
    toEach(stanza('message', parseJid('romeo@example.org'), { type: 'headline', id: 'e1' }, el('event', 'urn:x')))
  })

  test('whatever the sender has put into his resource, his id or his words', () => {
    const odd = parseJid("romeo@example.org/ to='' ' to=\"x\" & <to=''>")
    toEach(stanza('presence', odd, { id: " to='' ", type: 'unavailable' }))
    toEach(stanzaOfBytes('presence', odd, undefined, "' to=''", '', '', '', Buffer.from("<status to=''> to='' </status>")))
  })

  test('once for each framing, however many ask', () => {
    const broadcast = new Broadcast(stanza('presence', ROMEO, {}), manualClock())
    const first = broadcast.written('')
    expect(broadcast.written(NS_CLIENT)).not.toBe(first)
    expect(broadcast.written('')).toBe(first)
    expect(broadcast.written(NS_CLIENT)).toBe(broadcast.written(NS_CLIENT))
  })

  test('in bytes of its own: what it was made of may be used again', () => {
    const body = Buffer.from('<show>away</show>')
    const { behind } = new Broadcast(stanzaOfBytes('presence', ROMEO, undefined, '', '', '', '', body), manualClock()).written('')
    body.fill(0)
    expect(Buffer.from(behind).toString()).toBe("'><show>away</show></presence>")
  })
})
