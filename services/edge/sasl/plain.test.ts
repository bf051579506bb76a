import { describe, expect, test } from 'vitest'
import { deriveCredentials, HASHINGS_RUNNING_MAX, HASHINGS_WAITING_MAX } from '#core/storage/scram-keys.ts'
import { authOf, begin, serverOf } from './sasl.fixture.ts'

const auth = authOf({ romeo: { credentials: await deriveCredentials('pencil', 10) } })

function login(message: string | Uint8Array) {
  return begin('PLAIN', serverOf(auth)).start(typeof message === 'string' ? Buffer.from(message) : message)
}

describe('RFC 4616 PLAIN', () => {
  test.each([
    ['no authorization identity', '\0romeo\0pencil'],
    ['the own bare JID as authorization identity', 'romeo@example.org\0romeo\0pencil'],
    ['an authorization identity in other letters', 'ROMEO@Example.ORG\0romeo\0pencil'],
    ['a user name in other letters', '\0Romeo\0pencil'],
    ['a password that is prepared to the right one', '\0romeo\0pen\u00adcil'],
  ])('logs in with %s', async (_, message) => {
    expect(await login(message)).toEqual({ kind: 'success', username: 'romeo', generation: 0 })
  })

  test.each([
    ['a wrong password', '\0romeo\0pencils', 'not-authorized'],
    ['a password that nobody may have', '\0romeo\0pencil\u0007', 'not-authorized'],
    ['an account that does not exist', '\0juliet\0pencil', 'not-authorized'],
    ['a user name that is no localpart', '\0romeo@example.org\0pencil', 'not-authorized'],
    ['somebody else as authorization identity', 'juliet@example.org\0romeo\0pencil', 'invalid-authzid'],
    ['another domain as authorization identity', 'romeo@example.com\0romeo\0pencil', 'invalid-authzid'],
    ['a full JID as authorization identity', 'romeo@example.org/orchard\0romeo\0pencil', 'invalid-authzid'],
    ['a bare user name as authorization identity', 'romeo\0romeo\0pencil', 'invalid-authzid'],
    ['an authorization identity that is no JID', '@\0romeo\0pencil', 'invalid-authzid'],
    ['an empty message', '', 'malformed-request'],
    ['one NUL', 'romeo\0pencil', 'malformed-request'],
    ['three NULs', '\0romeo\0pencil\0', 'malformed-request'],
    ['no user name', '\0\0pencil', 'malformed-request'],
    ['no password', '\0romeo\0', 'malformed-request'],
  ])('refuses %s', async (_, message, condition) => {
    expect(await login(message)).toMatchObject({ kind: 'failure', condition })
  })

  test('refuses what is not UTF-8', async () => {
    const message = Buffer.concat([Buffer.from('\0romeo\0pencil'), Buffer.from([0xff])])
    expect(await login(message)).toMatchObject({ kind: 'failure', condition: 'malformed-request' })
  })

  test('a wrong password and an account that does not exist get the same answer', async () => {
    expect(await login('\0romeo\0wrong')).toEqual(await login('\0juliet\0wrong'))
  })

  test('an account that does not exist costs a hashing too', async () => {
    const places = HASHINGS_RUNNING_MAX + HASHINGS_WAITING_MAX
    const steps = await Promise.all(Array.from({ length: places + 1 }, () => login('\0juliet\0pencil')))
    for (const step of steps.slice(0, places)) expect(step).toEqual({ kind: 'failure', condition: 'not-authorized' })
    expect(steps[places]).toMatchObject({ kind: 'failure', condition: 'temporary-auth-failure' }) // RFC 6120 §6.5.11
  })
})
