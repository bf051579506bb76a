import { describe, expect, test } from 'vitest'
import type { AnyModule } from '#core/module.ts'
import { factsOf } from '#core/settings/hosts.ts'
import { checkOptions } from '#core/settings/options.ts'
import { harness } from '#test/harness.ts'
import { capsHash } from '#xmpp/caps.ts'
import { formOf, formTypeOf } from '#xmpp/form.ts'
import { attr, el } from '#xmpp/stanza.ts'
import caps from './caps.ts'
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
    const capsOf = (modules: readonly AnyModule[]) => caps.streamFeatures!(factsOf(facts, 'example.org'), modules)[0]!
    const c = capsOf(modules)
    const plain = await romeo.get(INFO, 'example.org')
    expect(formOf(plain)).toBeDefined()
    expect(capsHash(plain.children)).toBe(attr(c, 'ver'))

    const node = `${attr(c, 'node')}#${attr(c, 'ver')}` // §6.2
    expect((await romeo.get(el('query', NS_DISCO_INFO, { node }), 'example.org')).children).toEqual(plain.children)
    expect(attr(capsOf(modules.filter(({ name }) => name !== 'contact')), 'ver')).not.toBe(attr(c, 'ver'))
  })
})

describe('a domain with addresses of its own', () => {
  const config = {
    domains: ['example.org', 'example.net'],
    modules: { contact: { support: SUPPORT } },
    hosts: { 'example.net': { modules: { contact: { abuse: ['mailto:abuse@example.net'] } } } },
  }
  const options = { config, modules: { contact: { support: [SUPPORT] } } }

  test('shows them beside those of all, and the others do not; its hash is its own', async () => {
    await using server = await harness([caps, disco, contact], options)
    const { modules, server: facts } = server.process
    const hashes: string[] = []
    for (const [domain, fields] of [
      ['example.org', ['support-addresses']],
      ['example.net', ['abuse-addresses', 'support-addresses']],
    ] as const) {
      const romeo = await server.connect(`romeo@${domain}/garden`)
      const plain = await romeo.get(INFO, domain)
      expect(formOf(plain)!.fields.map(({ var: name }) => name)).toEqual(['FORM_TYPE', ...fields])
      const c = caps.streamFeatures!(factsOf(facts, domain), modules)[0]!
      expect(capsHash(plain.children)).toBe(attr(c, 'ver'))
      const node = `${attr(c, 'node')}#${attr(c, 'ver')}`
      expect((await romeo.get(el('query', NS_DISCO_INFO, { node }), domain)).children).toEqual(plain.children)
      hashes.push(attr(c, 'ver'))
    }
    expect(new Set(hashes).size).toBe(2)
  })
})
