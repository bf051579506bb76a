// Personal eventing (XEP-0163) with clients that nobody here wrote: avatars, keys of OMEMO and bookmarks, between slixmpp, which
// says in its capabilities what it wants to hear of, and @xmpp/client, which asks.
import { type Element, xml } from '@xmpp/client'
import { afterEach, describe, expect, test } from 'vitest'
import { type Account, people } from './accounts.ts'
import { testServer } from './server.ts'
import { HOW_TO_GET_SLIXMPP, type Online, pythonWithSlixmpp, Slixmpp } from './slixmpp.ts'
import { connectXmppJs, type XmppJs } from './xmppjs.ts'

const NS_PUBSUB = 'http://jabber.org/protocol/pubsub'
const AVATAR = 'urn:xmpp:avatar:metadata'
const DEVICES = 'eu.siacs.conversations.axolotl.devicelist'
const BUNDLES = 'eu.siacs.conversations.axolotl.bundles:31415'
const BOOKMARKS = 'urn:xmpp:bookmarks:1'
const NICK = 'http://jabber.org/protocol/nick'
const PICTURE = Buffer.from('89504e470d0a1a0a0000000d49484452', 'hex').toString('base64')

const python = pythonWithSlixmpp()
if (python === undefined) console.warn(`SKIPPED: every test of test/interop/pep.test.ts: ${HOW_TO_GET_SLIXMPP}`)

const server = testServer()
const running: { stop(): Promise<void> }[] = []

async function connect(account: Account, interests: readonly string[]): Promise<{ client: Slixmpp; online: Online }> {
  const client = await Slixmpp.start(server, python!)
  running.push(client)
  return { client, online: await client.connect(account, { interests }) }
}

async function connectOther(account: Account): Promise<XmppJs> {
  const client = await connectXmppJs(server, account, 'websocket')
  running.push(client)
  return client
}

/** Romeo sees Juliet. */
async function befriend(romeo: Slixmpp, juliet: Slixmpp, r: Account, j: Account): Promise<void> {
  await romeo.subscription(j.jid, 'subscribe')
  await juliet.presenceOf('his request', r.jid, { type: 'subscribe' })
  await juliet.subscription(r.jid, 'subscribed')
  await romeo.presenceOf('that she is there', j.jid)
}

const ask = (node: string): Element => xml('pubsub', { xmlns: NS_PUBSUB }, xml('items', { node }))

describe.skipIf(python === undefined)('personal eventing', () => {
  afterEach(async () => {
    await Promise.all(running.splice(0).map((client) => client.stop()))
  })

  test('XEP-0084, XEP-0398: an avatar reaches who wants to hear of it, at once and when he comes later, and is in the vCard', async () => {
    const [j, r] = (await people(server, 'juliet', 'romeo')) as [Account, Account]
    const [juliet, romeo] = await Promise.all([connect(j, [AVATAR]), connect(r, [AVATAR, NICK])])
    await juliet.client.publish(NICK, 'current', "<nick xmlns='http://jabber.org/protocol/nick'>Jule</nick>")
    await befriend(romeo.client, juliet.client, r, j)
    expect((await romeo.client.published('her nickname, as he comes to see her', j.jid, NICK)).items.current).toContain('Jule')
    const id = await juliet.client.avatar(PICTURE, { access_model: 'open' })
    const event = await romeo.client.published('her avatar', j.jid, AVATAR)
    expect(event.items[id]).toContain('image/png')
    expect(await romeo.client.avatarOf(j.jid, id)).toBe(PICTURE)
    await juliet.client.published('her own avatar', j.jid, AVATAR)

    const stranger = await connectOther(((await people(server, 'tybalt')) as [Account])[0])
    const vcard = await stranger.iq('get', j.jid, xml('vCard', { xmlns: 'vcard-temp' }))
    expect(vcard.getChild('vCard')?.getChild('PHOTO')?.getChildText('BINVAL')).toBe(PICTURE)

    await romeo.client.disconnect()
    const later = await connect(r, [AVATAR])
    expect(Object.keys((await later.client.published('her avatar, as he comes', j.jid, AVATAR)).items)).toEqual([id])
  })

  test('XEP-0398: a photo set in the vCard is an avatar', async () => {
    const [j] = (await people(server, 'juliet')) as [Account]
    const juliet = await connect(j, [AVATAR])
    const other = await connectOther(j)
    const photo = xml('PHOTO', {}, xml('TYPE', {}, 'image/png'), xml('BINVAL', {}, PICTURE))
    await other.iq('set', undefined, xml('vCard', { xmlns: 'vcard-temp' }, xml('FN', {}, 'Juliet'), photo))
    const [id] = Object.keys((await juliet.client.published('her avatar', j.jid, AVATAR)).items)
    expect(await juliet.client.avatarOf(j.jid, id!)).toBe(PICTURE)
  })

  test('XEP-0384: anybody gets the devices and the keys of one who lets him; contacts hear of a new device', async () => {
    const [j, r, t] = (await people(server, 'juliet', 'romeo', 'tybalt')) as [Account, Account, Account]
    const [juliet, romeo] = await Promise.all([connect(j, [DEVICES]), connect(r, [DEVICES, NICK])])
    await befriend(romeo.client, juliet.client, r, j)
    const list = "<list xmlns='eu.siacs.conversations.axolotl'><device id='31415'/></list>"
    const bundle = "<bundle xmlns='eu.siacs.conversations.axolotl'><identityKey>BQ==</identityKey></bundle>"
    await juliet.client.publish(DEVICES, 'current', list, { access_model: 'open', persist_items: 'true', max_items: 'max' })
    await juliet.client.publish(BUNDLES, 'current', bundle, { access_model: 'open' })
    expect((await romeo.client.published('her devices', j.jid, DEVICES)).items.current).toContain('31415')

    const tybalt = await connectOther(t)
    const found = await tybalt.iq('get', j.jid, ask(BUNDLES))
    const item = found.getChild('pubsub')?.getChild('items')?.getChild('item')
    expect(item?.getChild('bundle')?.getChildText('identityKey')).toBe('BQ==')
    await juliet.client.publish(NICK, 'current', "<nick xmlns='http://jabber.org/protocol/nick'>Ishmael</nick>")
    expect((await romeo.client.published('her nickname', j.jid, NICK)).items.current).toContain('Ishmael')
    await expect(tybalt.iq('get', j.jid, ask(NICK))).rejects.toMatchObject({ condition: 'not-authorized' })
  })

  test('XEP-0402: bookmarks are kept in private, shared by all one’s clients, and are the same in private storage', async () => {
    const [j, r] = (await people(server, 'juliet', 'romeo')) as [Account, Account]
    const [juliet, phone, romeo] = await Promise.all([connect(j, []), connect(j, [BOOKMARKS]), connect(r, [BOOKMARKS])])
    await befriend(romeo.client, juliet.client, r, j)
    const options = { persist_items: 'true', max_items: 'max', send_last_published_item: 'never', access_model: 'whitelist' }
    const room = `theplay@conference.${server.domain}`
    const payload = "<conference xmlns='urn:xmpp:bookmarks:1' name='The Play' autojoin='true'><nick>JC</nick></conference>"
    await juliet.client.publish(BOOKMARKS, room, payload, options)
    expect((await phone.client.published('the room', j.jid, BOOKMARKS)).items[room]).toContain('autojoin')
    await expect(juliet.client.publish(BOOKMARKS, room, payload, { access_model: 'open' })).rejects.toThrow('conflict')
    await expect(romeo.client.items(j.jid, BOOKMARKS)).rejects.toThrow('not-allowed')

    const old = await connectOther(j)
    const storage = xml('storage', { xmlns: 'storage:bookmarks' })
    const answer = await old.iq('get', undefined, xml('query', { xmlns: 'jabber:iq:private' }, storage))
    expect(answer.getChild('query')?.getChild('storage')?.getChild('conference')?.attrs).toMatchObject({
      jid: room,
      name: 'The Play',
    })
    await juliet.client.retract(BOOKMARKS, room)
    expect((await phone.client.published('that it is gone', j.jid, BOOKMARKS)).retracted).toEqual([room])
  })
})
