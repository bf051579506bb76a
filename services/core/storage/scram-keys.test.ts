import { createHash, createHmac } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  decodeCredentials,
  deriveCredentials,
  deriveKeys,
  encodeCredentials,
  fakeKeys,
  HASHINGS_RUNNING_MAX,
  HASHINGS_WAITING_MAX,
  HashingBusy,
  hashOf,
  hmacOf,
  PASSWORD_BYTES_MAX,
  PasswordError,
  preparePassword,
  SCRAM_HASHES,
  verifyPassword,
} from './scram-keys.ts'

const base64 = (data: Uint8Array) => Buffer.from(data).toString('base64')

describe('RFC 5802 §3 SCRAM keys', () => {
  test('the keys of RFC 5802 §5 give its server signature', async () => {
    const keys = await deriveKeys('SHA-1', 'pencil', Buffer.from('QSXCR+Q6sek8bf92', 'base64'), 4096)
    const nonce = 'r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j'
    const authMessage = `n=user,r=fyko+d2lbbFgONRv9qkxdawL,${nonce},s=QSXCR+Q6sek8bf92,i=4096,c=biws,${nonce}`
    expect(base64(hmacOf('SHA-1', keys.serverKey, authMessage))).toBe('rmF9pqV8S7suAoZWja4dJRkFsKQ=')
    const signature = hmacOf('SHA-1', keys.storedKey, authMessage)
    const proof = Buffer.from('v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=', 'base64')
    const clientKey = proof.map((byte, index) => byte ^ signature[index]!)
    expect(base64(createHash('sha1').update(clientKey).digest())).toBe(base64(keys.storedKey))
  })

  test('a password has keys for each hash, each with a salt of its own', async () => {
    const { scram } = await deriveCredentials('pencil', 4096)
    expect(Object.keys(scram).sort()).toEqual([...SCRAM_HASHES].sort())
    expect(base64(scram['SHA-1']!.salt)).not.toBe(base64(scram['SHA-256']!.salt))
    expect(scram['SHA-1']).toMatchObject({ iterations: 4096 })
    expect(scram['SHA-1']!.storedKey).toHaveLength(20)
    expect(scram['SHA-256']!.storedKey).toHaveLength(32)
    expect(scram['SHA-512']!.storedKey).toHaveLength(64)
  })

  test('a password verifies against its own keys, and no other does', async () => {
    const credentials = await deriveCredentials('pencil', 10)
    expect(await verifyPassword(credentials, 'pencil')).toBe(true)
    expect(await verifyPassword(credentials, 'Pencil')).toBe(false)
    expect(await verifyPassword(credentials, 'pencil ')).toBe(false)
    expect(await verifyPassword(credentials, '')).toBe(false)
    expect(await verifyPassword(credentials, 'pencil\u0007')).toBe(false)
    expect(await verifyPassword({ scram: {} }, 'pencil')).toBe(false)
  })

  test.each(SCRAM_HASHES)('an account that has only %s is checked by it', async (hash) => {
    const { scram } = await deriveCredentials('pencil', 10)
    const imported = { scram: { [hash]: scram[hash]! } }
    expect(await verifyPassword(imported, 'pencil')).toBe(true)
    expect(await verifyPassword(imported, 'pen')).toBe(false)
  })

  test('iterations below 1 are refused', async () => {
    await expect(deriveCredentials('pencil', 0)).rejects.toThrow(RangeError)
    await expect(deriveCredentials('pencil', 1.5)).rejects.toThrow(RangeError)
  })
})

describe('RFC 4013 SASLprep of passwords', () => {
  // RFC 4013 §3, with the outcomes it lists.
  test.each([
    ['I\u00adX', 'IX'],
    ['user', 'user'],
    ['USER', 'USER'],
    ['\u00aa', 'a'],
    ['\u2168', 'IX'],
  ])('%j is prepared as %j', (password, prepared) => {
    expect(preparePassword(password)).toBe(prepared)
  })

  test.each(['\u0007', '\u0627\u0031', 'a\u0000', '\ud800', '\ufffd', 'a\u05d0'])('%j is prohibited', (password) => {
    expect(() => preparePassword(password)).toThrow(expect.objectContaining({ name: 'PasswordError', reason: 'prohibited' }))
  })

  test.each(['', '\u00ad', '\u200d\ufe0f'])('%j is empty', (password) => {
    expect(() => preparePassword(password)).toThrow(expect.objectContaining({ name: 'PasswordError', reason: 'empty' }))
  })

  test('one byte over the bound is too long', () => {
    expect(preparePassword('x'.repeat(PASSWORD_BYTES_MAX))).toHaveLength(PASSWORD_BYTES_MAX)
    expect(() => preparePassword(`${'x'.repeat(PASSWORD_BYTES_MAX - 1)}é`)).toThrow(
      expect.objectContaining({ reason: 'too-long' }),
    )
  })

  test('what Unicode 3.2 did not know is let through unchanged', () => {
    expect(preparePassword('correct 🫠 battery')).toBe('correct 🫠 battery')
  })

  test('any text is prepared or is a PasswordError, and preparing again changes nothing', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 40 }), (password) => {
        let prepared: string
        try {
          prepared = preparePassword(password)
        } catch (error) {
          expect(error).toBeInstanceOf(PasswordError)
          return
        }
        expect(prepared).not.toBe('')
        expect(preparePassword(prepared)).toBe(prepared)
      }),
      { numRuns: 2000 },
    )
  })

  test('spellings that SASLprep makes one are one password', async () => {
    const credentials = await deriveCredentials('cafe\u0301\u00a0bar', 10)
    expect(await verifyPassword(credentials, 'caf\u00e9 bar')).toBe(true)
  })
})

describe('keys of accounts that do not exist', () => {
  const secret = '07'.repeat(32)

  test('the salt is the same each time, and another for another account, hash or secret', () => {
    const salt = (...args: [string, string, (typeof SCRAM_HASHES)[number]]) => base64(fakeKeys(...args, 4096).salt)
    expect(salt(secret, 'romeo', 'SHA-1')).toBe(salt(secret, 'romeo', 'SHA-1'))
    const others = [
      salt(secret, 'romeo', 'SHA-1'),
      salt(secret, 'juliet', 'SHA-1'),
      salt(secret, 'romeo', 'SHA-256'),
      salt('08'.repeat(32), 'romeo', 'SHA-1'),
    ]
    expect(new Set(others).size).toBe(4)
  })

  test('they have the shape of real ones', async () => {
    const { scram } = await deriveCredentials('pencil', 4096)
    for (const hash of SCRAM_HASHES) {
      const made = fakeKeys(secret, 'romeo', hash, 4096)
      for (const key of ['salt', 'storedKey', 'serverKey'] as const) expect(made[key].length).toBe(scram[hash]![key].length)
      expect(made.iterations).toBe(scram[hash]!.iterations)
    }
  })
})

describe('RFC 2104 HMAC', () => {
  test.each(SCRAM_HASHES)('with %s it is what Node computes, for keys and texts of any length', (hash) => {
    const name = hash.replace('-', '').toLowerCase()
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), fc.string({ unit: 'binary', maxLength: 300 }), (key, data) => {
        expect(hmacOf(hash, key, data).toString('hex')).toBe(createHmac(name, key).update(data, 'utf8').digest('hex'))
        expect(hashOf(hash, key).toString('hex')).toBe(createHash(name).update(key).digest('hex'))
      }),
    )
  })
})

describe('stored form', () => {
  test('credentials survive JSON', async () => {
    const credentials = await deriveCredentials('pencil', 10)
    const read = decodeCredentials(JSON.parse(JSON.stringify(encodeCredentials(credentials))))
    expect(encodeCredentials(read)).toEqual(encodeCredentials(credentials))
    expect(await verifyPassword(read, 'pencil')).toBe(true)
  })

  test('a hash that is not known here is passed over', async () => {
    const encoded = encodeCredentials(await deriveCredentials('pencil', 10))
    const newer = { scram: { ...encoded.scram, 'SHA3-512': { shape: 'unknown' } } }
    expect(encodeCredentials(decodeCredentials(newer))).toEqual(encoded)
  })

  const good = { salt: 'c2FsdA==', iterations: 4096, storedKey: base64(Buffer.alloc(20)), serverKey: base64(Buffer.alloc(20)) }
  test.each([
    [null, 'credentials is not an object'],
    [{}, 'scram is not an object'],
    [{ scram: [] }, 'scram is not an object'],
    [{ scram: { 'SHA-1': 'x' } }, 'scram.SHA-1 is not an object'],
    [{ scram: { 'SHA-1': { ...good, salt: 'c2FsdA' } } }, 'scram.SHA-1.salt is not base64'],
    [{ scram: { 'SHA-1': { ...good, salt: '' } } }, 'scram.SHA-1.salt is not base64'],
    [{ scram: { 'SHA-1': { ...good, iterations: '4096' } } }, 'scram.SHA-1.iterations is not a positive integer'],
    [{ scram: { 'SHA-1': { ...good, iterations: 0 } } }, 'scram.SHA-1.iterations is not a positive integer'],
    [{ scram: { 'SHA-1': { ...good, storedKey: 'c2FsdA==' } } }, 'scram.SHA-1.storedKey is not 20 bytes'],
    [{ scram: { 'SHA-1': { ...good, serverKey: undefined } } }, 'scram.SHA-1.serverKey is not base64'],
  ])('%j is refused', (value, message) => {
    expect(() => decodeCredentials(value)).toThrow(message)
  })
})

test('hashing beyond the queue is refused at once, and the queue is then worked off', async () => {
  const credentials = await deriveCredentials('pencil', 10)
  const places = HASHINGS_RUNNING_MAX + HASHINGS_WAITING_MAX
  const asked = Array.from({ length: places + 3 }, () => verifyPassword(credentials, 'pencil'))
  const outcomes = await Promise.allSettled(asked)
  expect(outcomes.slice(0, places).every((outcome) => outcome.status === 'fulfilled' && outcome.value)).toBe(true)
  for (const outcome of outcomes.slice(places)) {
    expect(outcome).toMatchObject({ status: 'rejected', reason: expect.any(HashingBusy) })
  }
  expect(await verifyPassword(credentials, 'pencil')).toBe(true)
})
