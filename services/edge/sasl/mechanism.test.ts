import fc from 'fast-check'
import { describe, expect, test, vi } from 'vitest'
import type { Auth } from '#core/storage/auth.ts'
import { deriveCredentials } from '#core/storage/scram-keys.ts'
import { beginExchange, refusalOf, SASL_BYTES_MAX, type SaslServer } from './mechanism.ts'
import { authOf, begin as beginOn, bytes, contextOf, ITERATIONS, ScramClient, scramLogin, serverOf } from './sasl.fixture.ts'

const romeo = { credentials: await deriveCredentials('pencil', ITERATIONS) }
const auth = authOf({ romeo })
const begin = (name: string, server: SaslServer = serverOf(auth)) =>
  beginOn(name, server, { certifiedAs: ['romeo'], bindings: ['tls-exporter'], binding: () => bytes('channel') })
const OUT_OF_ORDER = { kind: 'failure', condition: 'malformed-request', text: 'out of order' }

describe('RFC 6120 §6.3.3 mechanism offers', () => {
  test('each mechanism offered can be begun', () => {
    const context = contextOf(auth, { certifiedAs: ['romeo'], bindings: ['tls-exporter'] })
    expect(context.offer.mechanisms).toHaveLength(8)
    for (const name of context.offer.mechanisms) expect(beginExchange(name, serverOf(auth), context)).toBeDefined()
  })

  test.each(['', 'plain', 'EXTERNAL', 'SCRAM-SHA-1-PLUS', 'SCRAM-SHA-384', 'constructor', '__proto__', 'toString'])(
    '%j is not offered: invalid-mechanism (§6.5.7)',
    (name) => {
      const context = contextOf(auth)
      expect(beginExchange(name, serverOf(auth), context)).toBeUndefined()
      expect(refusalOf(name, context)).toBe('invalid-mechanism')
    },
  )

  test('PLAIN on a stream without TLS is encryption-required (§6.5.4)', () => {
    const context = contextOf(auth, { encrypted: false, plainAllowed: false })
    expect(beginExchange('PLAIN', serverOf(auth), context)).toBeUndefined()
    expect(refusalOf('PLAIN', context)).toBe('encryption-required')
  })
})

describe('RFC 6120 §6.5.6 whatever the mechanism, one acts as oneself only', () => {
  const channel = bytes('channel')
  const scramOf = (hash: 'SHA-1' | 'SHA-256' | 'SHA-512', plus: boolean) => (authzid: string, name: string) => {
    const header = `${plus ? 'p=tls-exporter' : 'n'},${authzid === '' ? '' : `a=${authzid}`},`
    const client = new ScramClient(hash, name, 'pencil', header, plus ? channel : undefined)
    const options = { bindings: plus ? (['tls-exporter'] as const) : [], binding: () => channel }
    return scramLogin(`SCRAM-${hash}${plus ? '-PLUS' : ''}`, client, serverOf(auth), {}, options)
  }
  const logins: [string, (authzid: string, name: string) => unknown][] = [
    ['SCRAM-SHA-512-PLUS', scramOf('SHA-512', true)],
    ['SCRAM-SHA-256-PLUS', scramOf('SHA-256', true)],
    ['SCRAM-SHA-1-PLUS', scramOf('SHA-1', true)],
    ['SCRAM-SHA-512', scramOf('SHA-512', false)],
    ['SCRAM-SHA-256', scramOf('SHA-256', false)],
    ['SCRAM-SHA-1', scramOf('SHA-1', false)],
    ['PLAIN', (authzid, name) => begin('PLAIN').start(bytes(`${authzid}\0${name}\0pencil`))],
    ['EXTERNAL', (authzid) => begin('EXTERNAL').start(bytes(authzid))],
  ]

  test('every mechanism there is', () => {
    const { offer } = contextOf(auth, { certifiedAs: ['romeo'], bindings: ['tls-exporter'] })
    expect(logins.map(([name]) => name).sort()).toEqual([...offer.mechanisms].sort())
  })

  describe.each(logins)('%s', (_, login) => {
    test.each(['', 'romeo@example.org', 'ROMEO@Example.ORG'])('as %j it is the prepared name', async (authzid) => {
      expect(await login(authzid, 'Romeo')).toMatchObject({ kind: 'success', username: 'romeo' })
    })

    test.each(['juliet@example.org', 'romeo@example.net', 'romeo@example.org/orchard', 'romeo', 'example.org', '@'])(
      '%j is refused, with the right password',
      async (authzid) => {
        expect(await login(authzid, 'romeo')).toMatchObject({ kind: 'failure', condition: 'invalid-authzid' })
      },
    )
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
    const exchange = begin('SCRAM-SHA-1', serverOf(auth, { onFailure }))
    await exchange.start(bytes('nonsense'))
    await exchange.start(bytes('nonsense'))
    expect(onFailure.mock.calls).toEqual([[{ mechanism: 'SCRAM-SHA-1', condition: 'malformed-request', text: 'no gs2 header' }]])
  })

  test.each([
    ['SCRAM-SHA-1', 'n,,n=romeo,r=abc'],
    ['PLAIN', '\0romeo\0pencil'],
    ['EXTERNAL', ''],
  ])('%s: a fault of ours is temporary-auth-failure, and its cause is reported (RFC 6120 §6.5.11)', async (name, message) => {
    const cause = new Error('away')
    const away = () => Promise.reject(cause)
    const broken: Auth = { ...auth, scramKeys: away, verify: away, standing: away }
    const onFailure = vi.fn()
    const step = { kind: 'failure', condition: 'temporary-auth-failure' }
    expect(await begin(name, serverOf(broken, { onFailure })).start(bytes(message))).toEqual(step)
    expect(onFailure.mock.calls).toEqual([[{ mechanism: name, condition: 'temporary-auth-failure', text: '', cause }]])
  })

  test.each([
    ['PLAIN', (server: SaslServer) => begin('PLAIN', server).start(bytes('\0romeo\0pencil'))],
    ['EXTERNAL', (server: SaslServer) => begin('EXTERNAL', server).start(bytes(''))],
    ['SCRAM', (server: SaslServer) => scramLogin('SCRAM-SHA-256', new ScramClient('SHA-256', 'romeo', 'pencil'), server)],
  ])('%s: an account that is disabled is told so, with the reason (RFC 6120 §6.5.2)', async (_, login) => {
    const server = serverOf(authOf({ romeo: { ...romeo, disabled: 'Call 212-555-1212' } }))
    expect(await login(server)).toEqual({ kind: 'failure', condition: 'account-disabled', text: 'Call 212-555-1212' })
    const silent = serverOf(authOf({ romeo: { ...romeo, disabled: '' } }))
    expect(await login(silent)).toEqual({ kind: 'failure', condition: 'account-disabled' })
  })

  test('that an account is disabled is told to nobody without its password', async () => {
    const server = serverOf(authOf({ romeo: { ...romeo, disabled: 'gone' } }))
    expect(await begin('PLAIN', server).start(bytes('\0romeo\0wrong'))).toEqual({ kind: 'failure', condition: 'not-authorized' })
    const client = new ScramClient('SHA-1', 'romeo', 'wrong')
    expect(await scramLogin('SCRAM-SHA-1', client, server)).toEqual({ kind: 'failure', condition: 'not-authorized' })
  })
})

describe('whatever a client sends', () => {
  // Random bytes, and pieces of real messages so that they get further than the first check.
  const pieces = [
    'n,,',
    'y,,',
    'p=x,,',
    'p=tls-exporter,,',
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
    fc.constantFrom(bytes('n,,n=romeo,r=abc'), bytes('p=tls-exporter,,n=romeo,r=abc')),
  )

  test.each(['SCRAM-SHA-1', 'SCRAM-SHA-256', 'SCRAM-SHA-512-PLUS', 'PLAIN'])(
    '%s neither throws nor lets in without the password',
    async (name) => {
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
    },
  )
})
