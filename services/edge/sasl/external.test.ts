import { describe, expect, test } from 'vitest'
import { deriveCredentials } from '#core/storage/scram-keys.ts'
import { certifiedOf } from './external.ts'
import { authOf, begin, serverOf } from './sasl.fixture.ts'

const credentials = await deriveCredentials('pencil', 10)
const auth = authOf({ romeo: { credentials }, juliet: { credentials } })
const login = (message: string | Uint8Array, ...certifiedAs: string[]) =>
  begin('EXTERNAL', serverOf(auth), { certifiedAs }).start(Buffer.from(message as string))

describe('XEP-0178 §2 client certificates', () => {
  test('of one address no authorization identity is needed', async () => {
    expect(await login('', 'romeo')).toEqual({ kind: 'success', username: 'romeo', generation: 0 })
  })

  test('of several, the client says which, and has none of the others', async () => {
    expect(await login('juliet@example.org', 'romeo', 'juliet')).toEqual({ kind: 'success', username: 'juliet', generation: 0 })
    expect(await login('', 'romeo', 'juliet')).toMatchObject({ kind: 'failure', condition: 'invalid-authzid' })
    expect(await login('juliet@example.org', 'romeo')).toMatchObject({ kind: 'failure', condition: 'invalid-authzid' })
  })

  test('of an address without an account it is not-authorized', async () => {
    expect(await login('', 'nobody')).toEqual({ kind: 'failure', condition: 'not-authorized' })
  })

  test('no initial response gets an empty challenge first (RFC 4422 §5)', async () => {
    const exchange = begin('EXTERNAL', serverOf(auth), { certifiedAs: ['romeo'] })
    expect(await exchange.start(undefined)).toEqual({ kind: 'challenge', data: new Uint8Array(0) })
    expect(await exchange.respond(Buffer.from(''))).toEqual({ kind: 'success', username: 'romeo', generation: 0 })
  })

  test.each([
    ['NUL', 'romeo@example.org\0'],
    ['what is not UTF-8', Buffer.from([0xc3, 0x28])],
  ])('%s is malformed-request (RFC 4422 §A.1)', async (_, message) => {
    expect(await login(message, 'romeo')).toMatchObject({ kind: 'failure', condition: 'malformed-request' })
  })
})

describe('the addresses of a certificate', () => {
  test('count where they are bare JIDs of the stream’s domain, prepared and once', () => {
    const addresses = [
      'ROMEO@Example.ORG',
      'romeo@example.org',
      'juliet@example.net',
      'example.org',
      'rosaline@example.org/hall',
      '@',
      'a b@example.org',
      '',
      'tybalt@example.org',
    ]
    expect(certifiedOf(addresses, 'example.org')).toEqual(['romeo', 'tybalt'])
    expect(certifiedOf(addresses, 'example.com')).toEqual([])
  })
})
