import { describe, expect, test } from 'vitest'
import { manualClock } from '#core/clock.ts'
import { capsHash } from '#xmpp/caps.ts'
import { parseJid } from '#xmpp/jid.ts'
import { NS_DISCO_INFO } from '#xmpp/ns.ts'
import { stanza } from '#xmpp/stanza.ts'
import { parseElement } from '#xmpp/xml.ts'
import { connect, type FakeConnection, settled } from '../edge.fixture.ts'
import { ENABLE, idsIn, loggedIn, type Puppets, resume, startPuppets } from '../puppets.fixture.ts'

const IDENTITY = "<identity category='client' type='phone' name='Hanging Gardens'/>"
const feature = (name: string) => `<feature var='${name}'/>`
const MOOD = 'http://jabber.org/protocol/mood'
const AVATAR = 'urn:xmpp:avatar:metadata'
const GARDENS = IDENTITY + [NS_DISCO_INFO, `${MOOD}+notify`, `${AVATAR}+notify`].map(feature).join('')

function verOf(info: string, hash = 'sha-1'): string {
  return capsHash(parseElement(`<query xmlns='${NS_DISCO_INFO}'>${info}</query>`).children, hash)!
}

function available(ver: string, hash = "hash='sha-1'", node = 'https://gardens.example'): string {
  return `<presence><show>away</show><c xmlns='http://jabber.org/protocol/caps' ${hash} node='${node}' ver='${ver}'/></presence>`
}

/** One client, what it was asked, and what is known of it. */
async function client(puppets: Puppets, resource: string) {
  const connection = connect(puppets.open.onConnection)
  await connection.logIn('romeo@example.org', resource)
  const session = [...puppets.edge.sessions.values()].at(-1)!
  return {
    connection,
    session,
    say(xml: string) {
      connection.send(xml)
      return settled()
    },
    asked: () => questionIn(connection),
    answer(id: string, info: string) {
      connection.send(`<iq type='result' id='${id}' to='example.org'><query xmlns='${NS_DISCO_INFO}'>${info}</query></iq>`)
      return settled()
    },
  }
}

/** The id and the node of what the server has asked since the last call. */
function questionIn(connection: FakeConnection) {
  const found = /<iq from='example\.org' to='romeo@example\.org\/[^']*' id='([^']*)' type='get'><query [^>]*node='([^']*)'/.exec(
    connection.take(),
  )
  return found === null ? undefined : { id: found[1]!, node: found[2]! }
}

describe('XEP-0115 §6.2: a client is asked for what its hash stands for', () => {
  test('by disco#info of its node, and wants what it says with +notify', async () => {
    const puppets = startPuppets()
    const learned: unknown[] = []
    puppets.edge.capabilities.onLearned = ({ jid }, nodes) => learned.push([jid.resource, nodes])
    const phone = await client(puppets, 'phone')
    await phone.say(available(verOf(GARDENS)))
    expect(phone.session.notifies).toBeUndefined()
    const { id, node } = phone.asked()!
    expect(node).toBe(`https://gardens.example#${verOf(GARDENS)}`)
    await phone.answer(id, GARDENS)
    expect(phone.session.notifies).toEqual([MOOD, AVATAR])
    expect(phone.session.wants(`${MOOD}+notify`)).toBe(true)
    expect(phone.session.wants(MOOD)).toBe(false)
    expect(learned).toEqual([['phone', [MOOD, AVATAR]]])
  })

  test('what is shown to those who want it goes to no other session', async () => {
    const puppets = startPuppets()
    const [phone, desk] = [await client(puppets, 'phone'), await client(puppets, 'desk')]
    await desk.say('<presence/>')
    await phone.say(available(verOf(GARDENS)))
    await phone.answer(phone.asked()!.id, GARDENS)
    const sessions = [phone.session.id, desk.session.id]
    const { audience } = puppets.edge.watching
    for (const { session } of [phone, desk]) audience.watch(session.jid.bare, session, ['juliet@example.org'])
    const shown = (id: string, filter: string) => {
      const event = stanza('message', parseJid('juliet@example.org'), { id, type: 'headline' })
      puppets.owners.multicast.shown(puppets.process.id, 'juliet@example.org', event, { only: [], sessions, filter })
    }
    shown('mood', `${MOOD}+notify`)
    shown('tune', 'http://jabber.org/protocol/tune+notify')
    shown('all', '')
    await settled()
    expect(idsIn(phone.connection.take())).toEqual(['mood', 'all'])
    expect(idsIn(desk.connection.take())).toEqual(['all'])
  })

  test('the answer is taken out of what the client says, and handed to nobody', async () => {
    const puppets = startPuppets()
    const phone = await client(puppets, 'phone')
    await phone.say(available(verOf(GARDENS)))
    await phone.answer(phone.asked()!.id, GARDENS)
    expect(puppets.owners.summary()).toEqual(['presence presence '])
    for (const { done } of puppets.owners.handed) done()
    await phone.answer('of its own', GARDENS)
    expect(puppets.owners.summary()).toEqual(['presence presence ', 'router iq of its own'])
  })

  test('once for all who come with the same hash, at the same time or later', async () => {
    const puppets = startPuppets()
    const [first, second] = [await client(puppets, 'first'), await client(puppets, 'second')]
    await first.say(available(verOf(GARDENS)))
    await second.say(available(verOf(GARDENS), undefined, 'https://other.example'))
    expect(second.asked()).toBeUndefined()
    await first.answer(first.asked()!.id, GARDENS)
    expect(second.session.notifies).toEqual([MOOD, AVATAR])
    const third = await client(puppets, 'third')
    await third.say(available(verOf(GARDENS)))
    expect(third.asked()).toBeUndefined()
    expect(third.session.notifies).toEqual([MOOD, AVATAR])
  })

  test('one that says what it is capable of again is not asked again; one that says something new is', async () => {
    const puppets = startPuppets()
    const learned: unknown[] = []
    puppets.edge.capabilities.onLearned = (_session, nodes) => learned.push(nodes)
    const phone = await client(puppets, 'phone')
    await phone.say(available(verOf(GARDENS)))
    await phone.answer(phone.asked()!.id, GARDENS)
    await phone.say(`${available(verOf(GARDENS))}<presence/><presence><show>dnd</show></presence>`)
    expect(phone.asked()).toBeUndefined()
    expect(phone.session.notifies).toEqual([MOOD, AVATAR]) // §8.4: nothing is said, so nothing is new
    const more = GARDENS + feature('urn:x+notify')
    await phone.say(available(verOf(more)))
    await phone.answer(phone.asked()!.id, more)
    expect(phone.session.notifies).toEqual([MOOD, 'urn:x', AVATAR])
    expect(learned).toEqual([[MOOD, AVATAR], ['urn:x']])
  })

  test('what it shows to one contact alone says nothing', async () => {
    const phone = await client(startPuppets(), 'phone')
    await phone.say(available(verOf(GARDENS)).replace('<presence>', "<presence to='juliet@example.org'>"))
    expect(phone.asked()).toBeUndefined()
  })

  test('one with stream management counts the question, and is asked again where it is resumed', async () => {
    const puppets = startPuppets()
    const phone = await client(puppets, 'phone')
    phone.connection.send(ENABLE)
    const previd = /id='([^']*)'/.exec(await phone.connection.until('<enabled'))![1]!
    await phone.say(available(verOf(GARDENS)))
    const { id } = phone.asked()!
    for (const { done } of puppets.owners.handed) done()
    phone.connection.vanish()
    const next = await loggedIn(puppets)
    next.send(resume(previd, 0))
    await settled()
    expect(questionIn(next)?.id).toBe(id)
    next.send(
      `<iq type='result' id='${id}'><query xmlns='${NS_DISCO_INFO}'>${GARDENS}</query></iq><a xmlns='urn:xmpp:sm:3' h='1'/>`,
    )
    await settled()
    expect(phone.session.notifies).toEqual([MOOD, AVATAR])
    expect(next.ended).toBe(false)
  })

  test('a question that was not acknowledged when the session ends goes to nobody', async () => {
    const puppets = startPuppets()
    const phone = await client(puppets, 'phone')
    phone.connection.send("<enable xmlns='urn:xmpp:sm:3'/>")
    await phone.say(available(verOf(GARDENS)))
    for (const { done } of puppets.owners.handed) done()
    phone.connection.vanish()
    await settled()
    expect(puppets.owners.summary()).toEqual([
      'presence presence ',
      'router signal session.closed',
      'presence signal session.closed',
    ])
  })
})

describe('XEP-0115 §5.4: what does not have its hash', () => {
  test('holds for that session alone, and the next one is asked', async () => {
    const puppets = startPuppets()
    const [liar, honest] = [await client(puppets, 'liar'), await client(puppets, 'honest')]
    await liar.say(available(verOf(GARDENS)))
    await honest.say(available(verOf(GARDENS)))
    await liar.answer(liar.asked()!.id, IDENTITY + feature('urn:x+notify'))
    expect(liar.session.notifies).toEqual(['urn:x'])
    expect(honest.session.notifies).toBeUndefined()
    await honest.answer(honest.asked()!.id, GARDENS)
    expect(honest.session.notifies).toEqual([MOOD, AVATAR])
  })

  test.for([
    ['no hash, as before version 1.4', '', '0.1'],
    ['a hash that nobody here can check', "hash='md5'", 'bm90aGluZw=='],
  ])('%s: each session is asked for itself', async ([, hash, ver]) => {
    const puppets = startPuppets()
    for (const resource of ['first', 'second']) {
      const one = await client(puppets, resource)
      await one.say(available(ver!, hash))
      const { id, node } = one.asked()!
      expect(node).toBe(`https://gardens.example#${ver}`)
      await one.answer(id, GARDENS)
      expect(one.session.notifies).toEqual([MOOD, AVATAR])
    }
  })

  test.for([
    [
      'a feature spelled as the field of a form',
      `${IDENTITY}<x xmlns='jabber:x:data' type='result'>
      <field var='FORM_TYPE' type='hidden'><value>urn:a</value></field><field var='urn:b+notify'/></x>`,
    ],
    ['a feature as it is', IDENTITY + feature('urn:a') + feature('urn:b+notify')],
  ])('whoever has answered, what holds for all is the same: %s', async ([, answered]) => {
    const puppets = startPuppets()
    const ver = verOf(IDENTITY + feature('urn:a') + feature('urn:b+notify'))
    const [first, second] = [await client(puppets, 'first'), await client(puppets, 'second')]
    await first.say(available(ver))
    await second.say(available(ver))
    await first.answer(first.asked()!.id, answered!)
    expect(second.session.notifies).toEqual(['urn:b'])
  })

  test('two features in one text, with what separates them, hold for nobody else', async () => {
    const puppets = startPuppets()
    const ver = verOf(IDENTITY + feature('urn:a') + feature('urn:b+notify'))
    const [first, second] = [await client(puppets, 'first'), await client(puppets, 'second')]
    await first.say(available(ver))
    await second.say(available(ver))
    const joined = IDENTITY + feature('urn:a&lt;urn:b+notify')
    expect(verOf(joined)).toBe(ver)
    await first.answer(first.asked()!.id, joined)
    expect(second.session.notifies).toBeUndefined()
    expect(second.asked()).toBeDefined()
  })

  test('an error is no answer, and the next one is asked', async () => {
    const puppets = startPuppets()
    const [first, second] = [await client(puppets, 'first'), await client(puppets, 'second')]
    await first.say(available(verOf(GARDENS)))
    await second.say(available(verOf(GARDENS)))
    await first.say(`<iq type='error' id='${first.asked()!.id}'><error type='cancel'/></iq>`)
    expect(first.session.notifies).toEqual([])
    expect(second.asked()).toBeDefined()
  })

  test('an answer that is too long is not read', async () => {
    const phone = await client(startPuppets(), 'phone')
    const long = GARDENS + feature('x'.repeat(33_000))
    await phone.say(available(verOf(long)))
    await phone.answer(phone.asked()!.id, long)
    expect(phone.session.notifies).toEqual([])
  })

  test('of what one client wants the first hundred nodes count', async () => {
    const phone = await client(startPuppets(), 'phone')
    const many = IDENTITY + Array.from({ length: 150 }, (_, i) => feature(`urn:x:${100 + i}+notify`)).join('')
    await phone.say(available(verOf(many)))
    await phone.answer(phone.asked()!.id, many)
    expect(phone.session.notifies).toHaveLength(100)
  })
})

describe('a client that does not answer', () => {
  test('has the next one asked 30 seconds later, and may answer still', async () => {
    const clock = manualClock()
    const puppets = startPuppets({ clock })
    const [silent, patient] = [await client(puppets, 'silent'), await client(puppets, 'patient')]
    await silent.say(available(verOf(GARDENS)))
    await patient.say(available(verOf(GARDENS)))
    const late = silent.asked()!.id
    clock.advance(29_000)
    expect(patient.asked()).toBeUndefined()
    clock.advance(3_000)
    expect(patient.asked()).toBeDefined()
    await silent.answer(late, GARDENS)
    expect(patient.session.notifies).toEqual([MOOD, AVATAR])
    expect(silent.session.notifies).toEqual([MOOD, AVATAR])
    expect(puppets.owners.summary().filter((line) => line.startsWith('router'))).toEqual([])
  })

  test('and ends its session has the next one asked', async () => {
    const puppets = startPuppets()
    const [first, second] = [await client(puppets, 'first'), await client(puppets, 'second')]
    await first.say(available(verOf(GARDENS)))
    await second.say(available(verOf(GARDENS)))
    first.connection.vanish()
    await settled()
    await second.answer(second.asked()!.id, GARDENS)
    expect(second.session.notifies).toEqual([MOOD, AVATAR])
  })

  test('is asked one thing at a time: what it has said meanwhile, behind the answer', async () => {
    const phone = await client(startPuppets(), 'phone')
    const more = GARDENS + feature('urn:x+notify')
    await phone.say(available(verOf(GARDENS)))
    const first = phone.asked()!.id
    await phone.say(available(verOf(more)))
    expect(phone.asked()).toBeUndefined()
    await phone.answer(first, GARDENS)
    const { id, node } = phone.asked()!
    expect(node).toContain(verOf(more))
    await phone.answer(id, more)
    expect(phone.session.notifies).toEqual([MOOD, 'urn:x', AVATAR])
  })
})
