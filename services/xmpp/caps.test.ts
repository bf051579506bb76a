import { describe, expect, test } from 'vitest'
import { capsHash, capsParts } from './caps.ts'
import { NS_DISCO_INFO } from './ns.ts'
import { parseElement } from './xml.ts'

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

test('two answers of one hash may have other features, and not another list', () => {
  const honest = info("<identity category='client' type='phone'/><feature var='urn:a'/><feature var='urn:b+notify'/>")
  const forged = info(`<identity category='client' type='phone'/>
    <x xmlns='jabber:x:data' type='result'>
      <field var='FORM_TYPE' type='hidden'><value>urn:a</value></field><field var='urn:b+notify'/>
    </x>`)
  expect(capsHash(forged)).toBe(capsHash(honest))
  expect(capsParts(forged)).toEqual(['client/phone//', 'urn:a', 'urn:b+notify'])
  expect(capsParts(honest)).toEqual(capsParts(forged))
})
