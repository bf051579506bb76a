import { expect, test } from 'vitest'
import { type AnyModule, defineModule } from '#core/module.ts'
import { parseChildren } from '#xmpp/xml.ts'
import { allModules } from './modules.ts'
import { doapOf, supportedXeps } from './xeps.ts'

const moduleOf = (name: string, number: string, version: string, status?: 'partial') =>
  defineModule({ name, home: 'router', xeps: [{ number, version, ...(status && { status }) }], setup() {} }) as AnyModule

test('what modules and roles implement is listed once, by number, with where it is', async () => {
  const xeps = supportedXeps(await allModules())
  const numbers = xeps.map(({ number }) => number)
  expect(numbers).toEqual([...new Set(numbers)].sort())
  expect(xeps).toContainEqual({
    ...{ number: '0280', name: 'Message Carbons', version: '1.0.1' },
    ...{ status: 'partial', where: ['carbons'] },
  })
  expect(xeps.find(({ number }) => number === '0198')).toMatchObject({ status: 'complete', where: ['edge/sessions'] })
})

test('it is complete where one says so, and no two may go by different versions', () => {
  const [xep] = supportedXeps([moduleOf('a', '0012', '2.0', 'partial'), moduleOf('b', '0012', '2.0')]).filter(
    ({ number }) => number === '0012',
  )
  expect(xep).toMatchObject({ status: 'complete', where: ['a', 'b'] })
  expect(() => supportedXeps([moduleOf('a', '0012', '2.0'), moduleOf('b', '0012', '1.0')])).toThrow(
    'XEP-0012 is 1.0 in b and 2.0 in a',
  )
  expect(() => supportedXeps([moduleOf('a', '9999', '2.0')])).toThrow('has no name')
})

test('the description of the project is well-formed, and has all of them', async () => {
  const xeps = supportedXeps(await allModules())
  const text = doapOf(xeps)
  const [root] = parseChildren(Buffer.from(text.slice(text.indexOf('<rdf:RDF'))), '')
  expect(root).toMatchObject({ name: 'RDF' })
  expect(text.match(/<xmpp:SupportedXep>/g)).toHaveLength(xeps.length)
})
