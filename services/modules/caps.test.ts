import { describe, expect, test } from 'vitest'
import { factsOf } from '#core/hosts.ts'
import { harness } from '#test/harness.ts'
import { attr, el } from '#xmpp/stanza.ts'
import { parseElement } from '#xmpp/xml.ts'
import caps, { capsHash } from './caps.ts'
import disco, { NS_DISCO_INFO, NS_DISCO_ITEMS } from './disco.ts'
import ping from './ping.ts'

/** What is below a `<query/>`. */
function info(xml: string) {
  return parseElement(`<query xmlns='${NS_DISCO_INFO}'>${xml}</query>`).children
}

const FEATURES = `
  <feature var='http://jabber.org/protocol/muc'/>
  <feature var='http://jabber.org/protocol/disco#info'/>
  <feature var='http://jabber.org/protocol/caps'/>
  <feature var='http://jabber.org/protocol/disco#items'/>`
const PSI = `
  <identity xml:lang='en' category='client' name='Psi 0.11' type='pc'/>
  <identity xml:lang='el' category='client' name='Ψ 0.11' type='pc'/>${FEATURES}`
const FORM = `
  <x xmlns='jabber:x:data' type='result'>
    <field var='software'><value>Psi</value></field>
    <field var='FORM_TYPE' type='hidden'><value>urn:xmpp:dataforms:softwareinfo</value></field>
    <field var='ip_version' type='text-multi'><value>ipv6</value><value>ipv4</value></field>
    <field var='os'><value>Mac</value></field>
    <field var='os_version'><value>10.5.1</value></field>
    <field var='software_version'><value>0.11</value></field>
  </x>`

describe('XEP-0115 §5 Verification String', () => {
  test('§5.2 Simple Generation Example', () => {
    expect(capsHash(info(`<identity category='client' type='pc' name='Exodus 0.9.1'/>${FEATURES}`))).toBe(
      'QgayPKawpkPSDYmwT/WM94uAlu0=',
    )
  })

  test('§5.3 Complex Generation Example', () => {
    expect(capsHash(info(PSI + FORM))).toBe('q07IKJEyjvHSyhy//CH0CxmKi8w=')
  })

  test('§5.1 sorting is by octets: what is beyond the basic plane comes behind U+FFFD', () => {
    const astral = "<feature var='\u{10000}'/>"
    const replacement = "<feature var='\uFFFD'/>"
    const known = capsHash(info(replacement + astral))
    expect(capsHash(info(astral + replacement))).toBe(known)
    expect(known).toBe('D1ec1egk2pWn7RzAT6F0FKBnLgw=') // SHA-1 of '\uFFFD<\u{10000}<', computed elsewhere
  })

  test('§5.1 the hash is the one that was named', () => {
    expect(capsHash(info(PSI), 'sha-256')).toHaveLength(44)
    expect(capsHash(info(PSI), 'md5')).toBeUndefined()
    expect(capsHash(info(PSI), 'toString')).toBeUndefined()
  })

  test.each([
    ['an identity twice', `${PSI}<identity xml:lang='en' category='client' name='Psi 0.11' type='pc'/>`],
    ['a feature twice', `${PSI}<feature var='http://jabber.org/protocol/muc'/>`],
    ['a form twice', PSI + FORM + FORM],
    ['a FORM_TYPE of two values', PSI + FORM.replace('<value>urn', '<value>urn:other</value><value>urn')],
  ])('§5.4 %s is ill-formed', (_name, xml) => {
    expect(capsHash(info(xml))).toBeUndefined()
  })

  test('§5.4 a form whose FORM_TYPE is not hidden is passed over', () => {
    expect(capsHash(info(PSI + FORM.replace("type='hidden'", '')))).toBe(capsHash(info(PSI)))
  })
})

describe('XEP-0115 §6.3 Stream Feature', () => {
  test('its hash is that of what disco#info answers, with and without the node', async () => {
    await using server = await harness([caps, disco, ping])
    const romeo = await server.connect('romeo@example.org/garden')
    const { modules, server: facts } = server.process
    const c = caps.streamFeatures!(factsOf(facts, 'example.org'), modules)[0]!
    expect(c).toMatchObject({ ns: 'http://jabber.org/protocol/caps', attrs: { hash: 'sha-1' } })

    const plain = await romeo.get(el('query', NS_DISCO_INFO), 'example.org')
    expect(capsHash(plain.children)).toBe(attr(c, 'ver'))
    const node = `${attr(c, 'node')}#${attr(c, 'ver')}` // §6.2
    const asked = await romeo.get(el('query', NS_DISCO_INFO, { node }), 'example.org')
    expect(asked.attrs).toEqual({ node })
    expect(asked.children).toEqual(plain.children)
  })

  test('another hash than the present one is not found', async () => {
    await using server = await harness([caps, disco])
    const romeo = await server.connect('romeo@example.org/garden')
    const node = 'https://rookery.invalid#ItBTI0XLDFvVxZ72NQElAzKS9sU='
    expect(await romeo.iq('get', el('query', NS_DISCO_INFO, { node }), 'example.org')).toMatchObject({
      condition: 'item-not-found',
    })
  })

  test('§6.2 the caps node is not among the items', async () => {
    await using server = await harness([caps, disco])
    const romeo = await server.connect('romeo@example.org/garden')
    expect((await romeo.get(el('query', NS_DISCO_ITEMS), 'example.org')).children).toEqual([])
  })
})
