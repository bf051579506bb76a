import { type } from 'node:os'
import { describe, expect, test } from 'vitest'
import { harness } from '#test/harness.ts'
import { childOf, el, textOf } from '#xmpp/stanza.ts'
import version from './version.ts'

const NS = 'jabber:iq:version'
const QUERY = el('query', NS)

describe('XEP-0092 §2 Protocol', () => {
  test('a result has the name and the version of the software', async () => {
    await using server = await harness([version])
    const romeo = await server.connect('romeo@example.org/garden')
    const answer = await romeo.get(QUERY, 'example.org')
    expect(textOf(childOf(answer, 'name', NS)!)).toBe('Rookery')
    expect(textOf(childOf(answer, 'version', NS)!)).toBe(server.process.server.version)
  })

  test('accounts have no version of their own', async () => {
    await using server = await harness([version])
    const romeo = await server.connect('romeo@example.org/garden')
    expect(await romeo.iq('get', QUERY)).toMatchObject({ condition: 'service-unavailable' })
  })
})

describe('XEP-0092 §5 Security Considerations', () => {
  test('the operating system is not shown', async () => {
    await using server = await harness([version])
    const romeo = await server.connect('romeo@example.org/garden')
    expect(childOf(await romeo.get(QUERY, 'example.org'), 'os', NS)).toBeUndefined()
  })

  test('it is where an administrator wants it to be', async () => {
    await using server = await harness([version], { modules: { version: { showOs: true } } })
    const romeo = await server.connect('romeo@example.org/garden')
    expect(textOf(childOf(await romeo.get(QUERY, 'example.org'), 'os', NS)!)).toContain(type())
  })
})
