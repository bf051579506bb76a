// Events of PEP through a whole server: what the clients of an account, and those of its contacts, are told as they come and go.
import { afterEach, describe, expect, test } from 'vitest'
import blocking from '#modules/blocking.ts'
import disco from '#modules/disco.ts'
import pep from '#modules/pep.ts'
import { capsHash, NS_CAPS } from '#xmpp/caps.ts'
import { NS_DISCO_INFO } from '#xmpp/ns.ts'
import { el } from '#xmpp/stanza.ts'
import { connect, type FakeConnection, makeAccount, settled, startRoles, testProcess } from '../edge.fixture.ts'
import { openEdge } from '../main.ts'

const MOOD = 'http://jabber.org/protocol/mood'
const [ROMEO, JULIET] = ['romeo@example.org', 'juliet@example.org']
const FEATURES = [el('feature', NS_DISCO_INFO, { var: `${MOOD}+notify` })]
const AVAILABLE = `<presence><c xmlns='${NS_CAPS}' hash='sha-1' node='urn:x' ver='${capsHash(FEATURES)}'/></presence>`
const ANSWER = `<query xmlns='${NS_DISCO_INFO}'><feature var='${MOOD}+notify'/></query>`

const stops: (() => unknown)[] = []
afterEach(async () => {
  for (const stop of stops.splice(0).reverse()) await stop()
})

const quiet = () => settled(150)

/** Of what came: the ids of the items that its client was told. */
function told(connection: FakeConnection): (string | undefined)[] {
  return [...connection.take().matchAll(/<message [^>]*><event.*?<item id='([^']*)'/g)].map(([, id]) => id)
}

async function start() {
  const process = testProcess({ modules: [blocking, disco, pep] })
  stops.push(await startRoles(process))
  const open = openEdge(process)
  stops.push(() => open.close())
  const logIn = async (account: string, resource: string) => {
    await makeAccount(process, account).catch(() => {})
    const connection = connect(open.onConnection)
    await connection.logIn(account, resource)
    return connection
  }
  /** With a client that wants moods; whose hash is known once one has answered. */
  const online = async (account: string, resource: string) => {
    const connection = await logIn(account, resource)
    connection.send(AVAILABLE)
    await quiet()
    const asked = /<iq [^>]*id='([^']*)' type='get'><query [^>]*disco#info/.exec(connection.written)
    if (asked !== null) connection.send(`<iq type='result' id='${asked[1]}' to='example.org'>${ANSWER}</iq>`)
    await quiet()
    return connection
  }
  return { logIn, online }
}

async function feel(connection: FakeConnection, id: string): Promise<void> {
  const item = `<item id='${id}'><mood xmlns='${MOOD}'><happy/></mood></item>`
  connection.send(
    `<iq type='set' id='q'><pubsub xmlns='http://jabber.org/protocol/pubsub'><publish node='${MOOD}'>${item}</publish></pubsub></iq>`,
  )
  await connection.until("id='q'")
  await quiet()
}

describe('XEP-0163 §4.3.4 Sending the Last Published Item', () => {
  test('an account that comes online is sent its own once, whoever watches it: it used to come again for those', async () => {
    const { online, logIn } = await start()
    const juliet = await online(JULIET, 'balcony')
    const romeo = await online(ROMEO, 'garden')
    romeo.send(`<presence type='subscribe' to='${JULIET}'/>`)
    await quiet()
    juliet.send(`<presence type='subscribed' to='${ROMEO}'/>`)
    await quiet()
    await feel(juliet, '1')
    juliet.send('</stream:stream>')
    romeo.send('</stream:stream>')
    await quiet()
    const back = await online(ROMEO, 'garden') // she is away
    expect(told(back)).toEqual([])
    const again = await online(JULIET, 'balcony')
    expect([told(again), told(back)]).toEqual([['1'], ['1']])
    const phone = await online(JULIET, 'phone')
    expect([told(phone), told(again), told(back)]).toEqual([['1'], [], []])
    const silent = await logIn(JULIET, 'silent')
    silent.send('<presence/>')
    await quiet()
    expect([told(silent), told(phone), told(again), told(back)]).toEqual([[], [], [], []])
  })

  test('who is unblocked, or approved anew, is sent what was published meanwhile, once', async () => {
    const { online } = await start()
    const juliet = await online(JULIET, 'balcony')
    const romeo = await online(ROMEO, 'garden')
    romeo.send(`<presence type='subscribe' to='${JULIET}'/>`)
    await quiet()
    await feel(juliet, '1')
    expect(told(romeo)).toEqual([])
    juliet.send(`<presence type='subscribed' to='${ROMEO}'/>`)
    await quiet()
    expect(told(romeo)).toEqual(['1'])
    for (const id of ['2', '3']) {
      juliet.send(`<iq type='set' id='b'><block xmlns='urn:xmpp:blocking'><item jid='${ROMEO}'/></block></iq>`)
      await juliet.until("id='b'")
      await feel(juliet, id)
      expect(told(romeo)).toEqual([])
      juliet.send(`<iq type='set' id='u'><unblock xmlns='urn:xmpp:blocking'/></iq>`)
      await juliet.until("id='u'")
      await quiet()
      expect(told(romeo)).toEqual([id])
    }
    juliet.send(`<presence type='unsubscribed' to='${ROMEO}'/>`)
    await quiet()
    await feel(juliet, '4')
    romeo.send(`<presence type='subscribe' to='${JULIET}'/>`)
    await quiet()
    expect(told(romeo)).toEqual([])
    juliet.send(`<presence type='subscribed' to='${ROMEO}'/>`)
    await quiet()
    expect(told(romeo)).toEqual(['4'])
  })
})
