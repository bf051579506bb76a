import { describe, expect, test } from 'vitest'
import type { AnyModule } from '#core/module.ts'
import { checkOptions } from '#core/options.ts'
import { featuresAfterLogin } from '#edge/features.ts'
import type { Edge } from '#edge/main.ts'
import { harness } from '#test/harness.ts'
import { formOf, formTypeOf } from '#xmpp/form.ts'
import { attr, el } from '#xmpp/stanza.ts'
import caps, { capsHash } from './caps.ts'
import contact from './contact.ts'
import disco, { NS_DISCO_INFO } from './disco.ts'

const INFO = el('query', NS_DISCO_INFO)
const ABUSE = ['mailto:abuse@example.org', 'xmpp:abuse@example.org']
const SUPPORT = 'https://example.org/help?a=1&b=2'
const GIVEN = { modules: { contact: { abuse: ABUSE, support: SUPPORT } } }

describe('XEP-0157 §3 XMPP Addresses', () => {
  test('disco#info of the host shows those that are set, and no others', async () => {
    await using server = await harness([disco, contact], GIVEN)
    const romeo = await server.connect('romeo@example.org/garden')
    const form = formOf(await romeo.get(INFO, 'example.org'))!
    expect(form.type).toBe('result') // XEP-0128 §2
    expect(formTypeOf(form)).toBe('http://jabber.org/network/serverinfo')
    expect(form.fields.slice(1).map((field) => [field.var, field.values])).toEqual([
      ['abuse-addresses', ABUSE],
      ['support-addresses', [SUPPORT]],
    ])
  })

  test('without any there is no form', async () => {
    await using server = await harness([disco, contact])
    const romeo = await server.connect('romeo@example.org/garden')
    expect(formOf(await romeo.get(INFO, 'example.org'))).toBeUndefined()
  })

  test('they are the host’s, and not of its accounts', async () => {
    await using server = await harness([disco, contact], GIVEN)
    const romeo = await server.connect('romeo@example.org/garden')
    expect(formOf(await romeo.get(INFO))).toBeUndefined()
  })

  test.each([['abuse@example.org'], ['mail us'], ['mailto:a b@example.org'], ['']])(
    'a value that is no URI is a fault of the configuration: %j',
    (address) => {
      const { faults } = checkOptions('contact', contact.options!, { status: [SUPPORT, address] })
      expect(faults).toEqual([
        expect.stringContaining(`modules.contact.status[1] is ${JSON.stringify(address)}; it must be a URI`),
      ])
    },
  )
})

describe('XEP-0115 §5.1 Generation Method', () => {
  test('the hash in the stream features is that of a disco#info with the form', async () => {
    await using server = await harness([caps, disco, contact], GIVEN)
    const romeo = await server.connect('romeo@example.org/garden')
    const { modules, server: facts } = server.process
    const capsOf = (modules: readonly AnyModule[]) =>
      featuresAfterLogin({ modules, server: facts } as Edge).find(({ name }) => name === 'c')!
    const c = capsOf(modules)
    const plain = await romeo.get(INFO, 'example.org')
    expect(formOf(plain)).toBeDefined()
    expect(capsHash(plain.children)).toBe(attr(c, 'ver'))

    const node = `${attr(c, 'node')}#${attr(c, 'ver')}` // §6.2
    expect((await romeo.get(el('query', NS_DISCO_INFO, { node }), 'example.org')).children).toEqual(plain.children)
    expect(attr(capsOf(modules.filter(({ name }) => name !== 'contact')), 'ver')).not.toBe(attr(c, 'ver'))
  })
})
