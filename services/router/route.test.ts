import { describe, expect, test } from 'vitest'
import type { Delivery } from '#core/envelope.ts'
import { type AnyModule, defineModule, type IqTarget } from '#core/module.ts'
import { receiveMulticast } from '#core/multicast/multicast-receiver.ts'
import { harness, type Refusal, type TestClient, type TestServer } from '#test/harness.ts'
import { StanzaError } from '#xmpp/error.ts'
import { parseJid } from '#xmpp/jid.ts'
import { NS_CLIENT } from '#xmpp/ns.ts'
import { el, type Stanza, stanza, textOf } from '#xmpp/stanza.ts'

const NS = 'urn:example:ask'

/** Answers iqs to each target with the target's name, and keeps what it was asked. */
function asker(): { module: AnyModule; asked: string[] } {
  const asked: string[] = []
  const module = defineModule({
    name: 'asker',
    home: 'router',
    xeps: [],
    namespaces: [NS],
    setup(app) {
      for (const target of ['self', 'account', 'host'] as const satisfies readonly IqTarget[]) {
        app.iq('get', NS, 'query', target, ({ account }) => {
          asked.push(`${target} ${account.bare}`)
          return el('answer', NS, {}, target)
        })
      }
      app.iq('get', NS, 'refused', 'account', () => {
        throw new StanzaError('not-acceptable')
      })
      app.iq('get', NS, 'nothing', 'account', () => {})
      app.iq('get', NS, 'broken', 'account', () => {
        throw new TypeError('a bug')
      })
      app.iq('get', NS, 'later', 'account', async () => {
        await new Promise((resolve) => setImmediate(resolve))
        return el('answer', NS, {}, 'later')
      })
    },
  })
  return { module, asked }
}

const query = el('query', NS)
const unknown = el('query', 'urn:example:unknown')
const isIq = ({ name }: Stanza): boolean => name === 'iq'

async function cast(
  modules: readonly AnyModule[] = [asker().module],
): Promise<{ server: TestServer; romeo: TestClient; juliet: TestClient } & AsyncDisposable> {
  const server = await harness(modules)
  const romeo = await server.online('romeo@example.org/orchard')
  const juliet = await server.online('juliet@example.org/balcony')
  for (const client of [romeo, juliet]) client.received.length = 0
  return { server, romeo, juliet, [Symbol.asyncDispose]: () => server.stop() }
}

const REFUSED = (condition: string) => expect.objectContaining({ condition }) as unknown
const typesOf = (stanzas: readonly Stanza[]): string[] => stanzas.map(({ name, type }) => `${name} ${type}`)

describe('RFC 6120 §10.3 no to', () => {
  test('§10.3.1: a message is as one to the bare JID of its sender', async () => {
    await using all = await cast()
    const phone = await all.server.connect('romeo@example.org/phone')
    all.romeo.send(all.romeo.stanza('message', { id: 'note', type: 'chat' }, el('body', NS_CLIENT, {}, 'to myself')))
    await all.server.quiet()
    expect(all.romeo.received.map(({ id, to }) => [id, to?.full])).toEqual([['note', 'romeo@example.org']])
    expect(phone.received).toEqual([])
    expect(all.juliet.received).toEqual([])
  })

  test('§10.3.1: one of type headline goes to every resource of the sender that is not negative', async () => {
    await using all = await cast()
    const phone = await all.server.online('romeo@example.org/phone')
    const cellar = await all.server.online('romeo@example.org/cellar', -1)
    for (const client of [all.romeo, phone, cellar]) client.received.length = 0
    all.romeo.send(all.romeo.stanza('message', { type: 'headline' }))
    await all.server.quiet()
    expect([all.romeo, phone, cellar].map(({ received }) => received.length)).toEqual([1, 1, 0])
  })

  test('§10.3.3: an iq get or set is for the server, on behalf of the account', async () => {
    const { module, asked } = asker()
    await using all = await cast([module])
    expect(await all.romeo.iq('get', query)).toMatchObject({ children: ['self'] })
    expect(await all.romeo.iq('set', query)).toEqual(REFUSED('feature-not-implemented'))
    expect(asked).toEqual(['self romeo@example.org'])
  })

  test('§10.3.3: the answer comes from the account, or from nobody, to the full JID', async () => {
    await using all = await cast()
    all.romeo.send(all.romeo.stanza('iq', { id: 'a', type: 'get' }, query))
    const answer = await all.romeo.next(({ id }) => id === 'a')
    expect([answer.from.full, answer.to?.full]).toEqual(['romeo@example.org', 'romeo@example.org/orchard'])
  })

  test('an iq result or error is the answer to a push, and is ignored', async () => {
    await using all = await cast()
    for (const type of ['result', 'error']) all.romeo.send(all.romeo.stanza('iq', { id: 'push', type }))
    await all.server.quiet()
    expect(all.romeo.received).toEqual([])
  })
})

describe('RFC 6120 §10.5 addressed to a domain', () => {
  test('§10.5.2: an iq to the host is answered by the host', async () => {
    await using all = await cast()
    expect(await all.romeo.iq('get', query, 'example.org')).toMatchObject({ children: ['host'] })
    expect(await all.romeo.iq('get', unknown, 'example.org')).toEqual(REFUSED('service-unavailable'))
  })

  test('an iq to the host with a resource is service-unavailable', async () => {
    await using all = await cast()
    const answer = (await all.romeo.iq('get', query, 'example.org/announce')) as Refusal
    expect(answer).toEqual(REFUSED('service-unavailable'))
    expect(answer.stanza.from.full).toBe('example.org/announce')
  })

  test('a message to the host is service-unavailable; one of type error is dropped', async () => {
    await using all = await cast()
    for (const to of ['example.org', 'example.org/announce']) {
      for (const type of ['', 'error']) all.romeo.send(all.romeo.stanza('message', { to: parseJid(to), type, id: to }))
    }
    await all.server.quiet()
    expect(all.romeo.received.map(({ type, from, id }) => [type, from.full, id])).toEqual([
      ['error', 'example.org', 'example.org'],
      ['error', 'example.org/announce', 'example.org/announce'],
    ])
  })

  test('presence and an iq result to the host are dropped', async () => {
    await using all = await cast()
    const to = parseJid('example.org')
    all.romeo.send(all.romeo.stanza('presence', { to }))
    all.romeo.send(all.romeo.stanza('presence', { to, type: 'probe' }))
    for (const type of ['result', 'error']) all.romeo.send(all.romeo.stanza('iq', { to, type, id: 'x' }))
    await all.server.quiet()
    expect(all.romeo.received).toEqual([])
  })

  test('§10.4: what is for a domain that is not ours, and cannot be reached, is remote-server-not-found', async () => {
    await using all = await cast()
    expect(await all.romeo.iq('get', query, 'capulet.example')).toEqual(REFUSED('remote-server-not-found'))
    expect(await all.romeo.iq('get', query, 'juliet@capulet.example/balcony')).toEqual(REFUSED('remote-server-not-found'))
    all.romeo.message('juliet@capulet.example', 'hello')
    all.romeo.send(all.romeo.stanza('presence', { to: parseJid('juliet@capulet.example') }))
    await all.server.quiet()
    expect(typesOf(all.romeo.received.slice(2)).sort()).toEqual(['message error', 'presence error'])
  })

  test('a subdomain of ours is not ours', async () => {
    await using all = await cast()
    expect(await all.romeo.iq('get', query, 'conference.example.org')).toEqual(REFUSED('remote-server-not-found'))
  })
})

describe('RFC 6121 §8.5: an iq', () => {
  test('§8.5.1: to an account that does not exist is service-unavailable, whoever would answer for one that does', async () => {
    const { module, asked } = asker()
    await using all = await cast([module])
    for (const to of ['nobody@example.org', 'nobody@example.org/balcony'])
      expect(await all.romeo.iq('get', query, to)).toEqual(REFUSED('service-unavailable'))
    expect(asked).toEqual([])
  })

  test('§8.5.1: to an account that does not exist is service-unavailable also in the home of rosters', async () => {
    await using all = await cast()
    expect(await all.romeo.iq('get', el('query', 'jabber:iq:roster'), 'nobody@example.org')).toEqual(
      REFUSED('service-unavailable'),
    )
  })

  test.each(['online', 'offline'])(
    '§8.5.2.1.3, §8.5.2.2.3: to the bare JID of an account that is %s is answered by the server on its behalf',
    async (state) => {
      const { module, asked } = asker()
      await using all = await cast([module])
      if (state === 'offline') all.juliet.disconnect()
      await all.server.quiet()
      expect(await all.romeo.iq('get', query, 'juliet@example.org')).toMatchObject({ children: ['account'] })
      expect(await all.romeo.iq('get', unknown, 'juliet@example.org')).toEqual(REFUSED('service-unavailable'))
      expect(asked).toEqual(['account juliet@example.org'])
      expect(all.juliet.received).toEqual([])
    },
  )

  test('§8.5.2.1.3: the answer on its behalf comes from the bare JID, with the id, to the full JID', async () => {
    await using all = await cast()
    all.romeo.send(all.romeo.stanza('iq', { id: 'id &"1', type: 'get', to: parseJid('juliet@example.org') }, query))
    const answer = await all.romeo.next(({ name }) => name === 'iq')
    expect([answer.from.full, answer.to?.full, answer.id, answer.type]).toEqual([
      'juliet@example.org',
      'romeo@example.org/orchard',
      'id &"1',
      'result',
    ])
  })

  test('what a handler throws, breaks or leaves out is the answer (RFC 6120 §8.4)', async () => {
    await using all = await cast()
    const ask = (name: string) => all.romeo.iq('get', el(name, NS), 'juliet@example.org')
    expect(await ask('refused')).toEqual(REFUSED('not-acceptable'))
    expect(await ask('nothing')).toBeUndefined()
    expect(await ask('broken')).toEqual(REFUSED('internal-server-error'))
    expect(await ask('later')).toMatchObject({ children: ['later'] })
  })

  test('an iq to one’s own bare JID is for the account itself', async () => {
    const { module, asked } = asker()
    await using all = await cast([module])
    expect(await all.romeo.iq('get', query, 'romeo@example.org')).toMatchObject({ children: ['self'] })
    expect(await all.romeo.iq('get', el('nothing', NS), 'romeo@example.org')).toBeUndefined() // only `account` answers it
    expect(asked).toEqual(['self romeo@example.org'])
  })

  test('§8.5.3.1: to a full JID that matches is delivered as it is, to a resource that is only connected, too; so is the answer', async () => {
    await using all = await cast()
    const closet = await all.server.connect('juliet@example.org/closet')
    all.romeo.send(all.romeo.stanza('iq', { id: 'q', type: 'set', to: closet.jid }, unknown))
    const asked = await closet.next(isIq)
    expect([asked.from.full, asked.to?.full, asked.id, asked.type, asked.child]).toEqual([
      'romeo@example.org/orchard',
      'juliet@example.org/closet',
      'q',
      'set',
      '{urn:example:unknown}query',
    ])
    closet.send(stanza('iq', closet.jid, { to: asked.from, id: 'q', type: 'result' }, el('answer', NS)))
    expect(await all.romeo.next(isIq)).toMatchObject({ type: 'result', id: 'q', from: { full: 'juliet@example.org/closet' } })
    expect(all.juliet.received).toEqual([])
  })

  test('§8.5.3.2.3: to a full JID that does not match is service-unavailable', async () => {
    await using all = await cast()
    expect(await all.romeo.iq('get', query, 'juliet@example.org/elsewhere')).toEqual(REFUSED('service-unavailable'))
  })

  test('RFC 6120 §8.2.3: a result or error is never answered, whomever it is for', async () => {
    await using all = await cast()
    for (const to of [
      'juliet@example.org',
      'juliet@example.org/elsewhere',
      'nobody@example.org',
      'nobody@example.org/x',
      'juliet@capulet.example',
    ]) {
      for (const type of ['result', 'error']) all.romeo.send(all.romeo.stanza('iq', { id: 'x', type, to: parseJid(to) }))
    }
    await all.server.quiet()
    expect([...all.romeo.received, ...all.juliet.received]).toEqual([])
  })

  test('RFC 6120 §8.3.1: an error of any stanza is never answered', async () => {
    await using all = await cast()
    for (const to of [
      'juliet@example.org',
      'juliet@example.org/elsewhere',
      'nobody@example.org',
      'juliet@capulet.example',
      'example.org',
    ]) {
      for (const name of ['message', 'presence'] as const)
        all.romeo.send(all.romeo.stanza(name, { id: 'x', type: 'error', to: parseJid(to) }))
    }
    await all.server.quiet()
    expect([...all.romeo.received, ...all.juliet.received]).toEqual([])
  })
})

describe('RFC 6121 §8.5: presence', () => {
  const TYPES = ['', 'unavailable', 'subscribe', 'subscribed', 'unsubscribe', 'unsubscribed', 'probe', 'error']

  test.each(['nobody@example.org', 'nobody@example.org/balcony'])(
    '§8.5.1: to %s, who does not exist, is ignored, whatever its type',
    async (to) => {
      await using all = await cast()
      for (const type of TYPES) all.romeo.send(all.romeo.stanza('presence', { to: parseJid(to), type }))
      await all.server.quiet()
      expect(all.romeo.received).toEqual([])
    },
  )

  test('§8.5.2.1.2: to a bare JID is delivered to every available resource, a negative one too, and to no other', async () => {
    await using all = await cast()
    const cellar = await all.server.online('juliet@example.org/cellar', -1)
    const closet = await all.server.connect('juliet@example.org/closet')
    for (const client of [all.juliet, cellar]) client.received.length = 0
    for (const type of ['', 'unavailable'])
      all.romeo.send(all.romeo.stanza('presence', { to: parseJid('juliet@example.org'), type, id: 'p' }))
    await all.server.quiet()
    for (const client of [all.juliet, cellar]) {
      expect(client.received.map(({ type, from, to, id }) => [type, from.full, to?.full, id])).toEqual([
        ['', 'romeo@example.org/orchard', 'juliet@example.org', 'p'],
        ['unavailable', 'romeo@example.org/orchard', 'juliet@example.org', 'p'],
      ])
    }
    expect(closet.received).toEqual([])
  })

  test.each([
    ['available', (server: TestServer) => server.online('juliet@example.org/hall')],
    ['available with a negative priority', (server: TestServer) => server.online('juliet@example.org/hall', -1)],
    ['only connected', (server: TestServer) => server.connect('juliet@example.org/hall')],
  ])('§8.5.3.1: to a full JID is delivered to that resource, where it is %s', async (_, connect) => {
    await using all = await cast()
    const hall = await connect(all.server)
    hall.received.length = 0
    for (const type of ['', 'unavailable']) all.romeo.send(all.romeo.stanza('presence', { to: hall.jid, type }))
    await all.server.quiet()
    expect(hall.received.map(({ type, to }) => [type, to?.full])).toEqual([
      ['', 'juliet@example.org/hall'],
      ['unavailable', 'juliet@example.org/hall'],
    ])
    expect(all.juliet.received.filter(({ from }) => from.local === 'romeo')).toEqual([])
  })

  test('§8.5.3.2.2: to a full JID that does not match is ignored', async () => {
    await using all = await cast()
    for (const type of ['', 'unavailable', 'subscribed', 'unsubscribe', 'unsubscribed', 'error']) {
      all.romeo.send(all.romeo.stanza('presence', { to: parseJid('juliet@example.org/elsewhere'), type }))
    }
    await all.server.quiet()
    expect([...all.romeo.received, ...all.juliet.received]).toEqual([])
  })
})

describe('a message to several resources', () => {
  test.each([
    ['chat', 'the most available'],
    ['headline', 'those that are not negative'],
  ])('of type %s used to be a copy of its payload for each of %s: it is one for their edge', async (type) => {
    await using all = await cast()
    const clients = [all.juliet]
    for (let n = 0; n < 20; n++) clients.push(await all.server.online(`juliet@example.org/r${n}`))
    const copies: number[] = []
    const count = (delivery: Delivery) => {
      if (delivery.kind === 'stanza' && delivery.stanza.id === 'large') copies.push(delivery.sessions.length)
    }
    receiveMulticast(all.server.process, all.server.edge, { delivery: count, lost: () => {} })
    const body = el('body', NS_CLIENT, {}, 'x'.repeat(100_000))
    all.romeo.send(all.romeo.stanza('message', { to: parseJid('juliet@example.org'), id: 'large', type }, body))
    await all.server.quiet()
    expect(copies).toEqual([clients.filter(({ edge }) => edge === all.server.edge).length])
    const messages = all.juliet.received.filter(({ name }) => name === 'message')
    expect(messages.map(({ id, to }) => [id, to?.full])).toEqual([['large', 'juliet@example.org']])
  })
})

describe('the server’s own domain names are compared in prepared form', () => {
  test('a message to an account of ours in capitals arrives', async () => {
    await using all = await cast()
    all.romeo.message('JULIET@Example.ORG', 'hi')
    await all.server.quiet()
    expect(all.juliet.bodies()).toEqual(['hi'])
    expect(textOf(all.juliet.received[0]!.tree()[0]!)).toBe('hi')
  })
})
