import fc from 'fast-check'
import { describe, expect, test, vi } from 'vitest'
import { type Credentials, deriveCredentials, fakeCredentials } from '#core/scram-keys.ts'
import { beginExchange, mechanisms, refusalOf, SASL_BYTES_MAX, type SaslServer } from './mechanism.ts'

const TLS = { encrypted: true, plainAllowed: true }
const romeo = await deriveCredentials('pencil', 10)

function serverOf(overrides: Partial<SaslServer> = {}): SaslServer {
  return {
    domain: 'example.org',
    credentials: async (localpart) => (localpart === 'romeo' ? romeo : undefined),
    fake: (localpart) => fakeCredentials(Buffer.alloc(32), localpart, 10),
    ...overrides,
  }
}

const bytes = (text: string) => Buffer.from(text)
const begin = (name: string, server = serverOf()) => beginExchange(name, server, TLS)!
const OUT_OF_ORDER = { kind: 'failure', condition: 'malformed-request', text: 'out of order' }

describe('RFC 6120 §6.3.3 mechanism offers', () => {
  test('the strongest comes first, PLAIN last and only where it is allowed', () => {
    expect(mechanisms(TLS)).toEqual(['SCRAM-SHA-256', 'SCRAM-SHA-1', 'PLAIN'])
    expect(mechanisms({ encrypted: true, plainAllowed: false })).toEqual(['SCRAM-SHA-256', 'SCRAM-SHA-1'])
    expect(mechanisms({ encrypted: false, plainAllowed: false })).toEqual(['SCRAM-SHA-256', 'SCRAM-SHA-1'])
    expect(mechanisms({ encrypted: false, plainAllowed: true })).toContain('PLAIN') // loopback
  })

  test('each mechanism offered can be begun', () => {
    for (const name of mechanisms(TLS)) expect(beginExchange(name, serverOf(), TLS)).toBeDefined()
  })

  test.each(['', 'plain', 'EXTERNAL', 'SCRAM-SHA-1-PLUS', 'constructor', '__proto__', 'toString'])(
    '%j is not offered: invalid-mechanism (§6.5.7)',
    (name) => {
      expect(beginExchange(name, serverOf(), TLS)).toBeUndefined()
      expect(refusalOf(name, TLS)).toBe('invalid-mechanism')
    },
  )

  test('PLAIN on a stream without TLS is encryption-required (§6.5.4)', () => {
    const context = { encrypted: false, plainAllowed: false }
    expect(beginExchange('PLAIN', serverOf(), context)).toBeUndefined()
    expect(refusalOf('PLAIN', context)).toBe('encryption-required')
    expect(refusalOf('PLAIN', { encrypted: true, plainAllowed: false })).toBe('invalid-mechanism')
  })
})

describe('an exchange out of order', () => {
  test('a response before the start is malformed-request, and the exchange is over', async () => {
    const exchange = begin('PLAIN')
    expect(await exchange.respond(bytes('\0romeo\0pencil'))).toEqual(OUT_OF_ORDER)
    expect(await exchange.start(bytes('\0romeo\0pencil'))).toEqual(OUT_OF_ORDER)
  })

  test('a second start is malformed-request, and the exchange is over', async () => {
    const exchange = begin('PLAIN')
    await exchange.start(undefined)
    expect(await exchange.start(undefined)).toEqual(OUT_OF_ORDER)
    expect(await exchange.respond(bytes('\0romeo\0pencil'))).toEqual(OUT_OF_ORDER)
  })

  test('nothing comes after success', async () => {
    const exchange = begin('PLAIN')
    expect(await exchange.start(bytes('\0romeo\0pencil'))).toMatchObject({ kind: 'success' })
    expect(await exchange.respond(bytes('\0romeo\0pencil'))).toEqual(OUT_OF_ORDER)
    expect(await exchange.start(bytes('\0romeo\0pencil'))).toEqual(OUT_OF_ORDER)
  })

  test('nothing comes after failure: a second guess wants a second exchange', async () => {
    const exchange = begin('PLAIN')
    expect(await exchange.start(bytes('\0romeo\0wrong'))).toMatchObject({ condition: 'not-authorized' })
    expect(await exchange.start(bytes('\0romeo\0pencil'))).toEqual(OUT_OF_ORDER)
    expect(await exchange.respond(bytes('\0romeo\0pencil'))).toEqual(OUT_OF_ORDER)
  })

  test('a client that does not wait for the answer gets no success, whichever comes first', async () => {
    const exchange = begin('PLAIN')
    const first = exchange.start(bytes('\0romeo\0pencil'))
    expect(await exchange.respond(bytes('\0romeo\0pencil'))).toEqual(OUT_OF_ORDER)
    expect(await first).toEqual(OUT_OF_ORDER)
  })
})

describe('what fails', () => {
  test.each(['SCRAM-SHA-1', 'SCRAM-SHA-256', 'PLAIN'])('%s: a message over the bound is malformed-request', async (name) => {
    const step = await begin(name).start(new Uint8Array(SASL_BYTES_MAX + 1))
    expect(step).toMatchObject({ kind: 'failure', condition: 'malformed-request' })
  })

  test('is reported once, with the name of the mechanism', async () => {
    const onFailure = vi.fn()
    const exchange = begin('SCRAM-SHA-1', serverOf({ onFailure }))
    await exchange.start(bytes('nonsense'))
    await exchange.start(bytes('nonsense'))
    expect(onFailure.mock.calls).toEqual([[{ mechanism: 'SCRAM-SHA-1', condition: 'malformed-request', text: 'no gs2 header' }]])
  })

  test.each(['SCRAM-SHA-1', 'PLAIN'])('%s: a fault of ours is temporary-auth-failure (RFC 6120 §6.5.11)', async (name) => {
    const message = name === 'PLAIN' ? '\0romeo\0pencil' : 'n,,n=romeo,r=abc'
    for (const fault of [
      { credentials: () => Promise.reject(new Error('away')) },
      {
        fake: (): Credentials => {
          throw new Error('no secret')
        },
      },
    ]) {
      expect(await begin(name, serverOf(fault)).start(bytes(message))).toEqual({
        kind: 'failure',
        condition: 'temporary-auth-failure',
      })
    }
  })
})

describe('whatever a client sends', () => {
  // Random bytes, and pieces of real messages so that they get further than the first check.
  const pieces = [
    'n,,',
    'y,,',
    'p=x,,',
    'a=',
    'n=romeo',
    'r=abc',
    ',',
    'm=1',
    '=2C',
    'c=biws',
    'p=AAAA',
    '\0',
    'romeo',
    'juliet',
    '\0pen',
    'é',
    '\ud83e',
  ]
  const message = fc.oneof(
    fc.uint8Array({ maxLength: 200 }),
    fc.array(fc.constantFrom(...pieces), { maxLength: 12 }).map((parts) => bytes(parts.join(''))),
    fc.constant(bytes('n,,n=romeo,r=abc')),
  )

  test.each(['SCRAM-SHA-1', 'SCRAM-SHA-256', 'PLAIN'])('%s neither throws nor lets in without the password', async (name) => {
    const start = fc.option(message, { nil: undefined })
    const responses = fc.array(message, { maxLength: 4 })
    let challenged = 0
    await fc.assert(
      fc.asyncProperty(start, responses, async (initial, rest) => {
        const exchange = begin(name)
        const steps = [await exchange.start(initial)]
        for (const data of rest) steps.push(await exchange.respond(data))
        for (const step of steps) {
          expect(step.kind).not.toBe('success')
          expect(step.kind === 'failure' ? step.condition : step.data).toBeDefined()
          if (step.kind === 'challenge' && step.data.length > 0) challenged += 1
        }
      }),
      { numRuns: 400 },
    )
    if (name !== 'PLAIN') expect(challenged).toBeGreaterThan(20) // the second message was reached as well
  })
})
