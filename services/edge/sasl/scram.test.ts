import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  type Credentials,
  deriveCredentials,
  deriveKeys,
  SCRAM_BYTES,
  SCRAM_HASHES,
  type ScramHash,
} from '#core/storage/scram-keys.ts'
import type { SaslServer } from './mechanism.ts'
import {
  authOf,
  begin,
  bytes,
  type Changes,
  ScramClient as Client,
  type ContextOptions,
  contextOf,
  dataOf,
  ITERATIONS,
  scramLogin,
  serverOf as serverOn,
  textOf as text,
} from './sasl.fixture.ts'
import { Scram } from './scram.ts'

const romeo = await deriveCredentials('pencil', ITERATIONS)

function serverOf(accounts: Record<string, Credentials> = { romeo }): SaslServer {
  return serverOn(authOf(Object.fromEntries(Object.entries(accounts).map(([name, credentials]) => [name, { credentials }]))))
}

const exchangeOf = (hash: ScramHash, server = serverOf()) => begin(`SCRAM-${hash}`, server)
const login = (hash: ScramHash, client: Client, server = serverOf(), change: Changes = {}) =>
  scramLogin(`SCRAM-${hash}`, client, server, change)

describe('RFC 5802 §5 and RFC 7677 §3, the examples, and the latter with SHA-512 as Python computes it', () => {
  test.each([
    {
      hash: 'SHA-1' as const,
      salt: 'QSXCR+Q6sek8bf92',
      clientFirst: 'n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL',
      nonce: '3rfcNHYJY1ZVvWVs7j',
      serverFirst: 'r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096',
      clientFinal: 'c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=',
      serverFinal: 'v=rmF9pqV8S7suAoZWja4dJRkFsKQ=',
    },
    {
      hash: 'SHA-256' as const,
      salt: 'W22ZaJ0SNY7soEsUEjb6gQ==',
      clientFirst: 'n,,n=user,r=rOprNGfwEbeRWgbNEkqO',
      nonce: '%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0',
      serverFirst: 'r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096',
      clientFinal: 'c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=',
      serverFinal: 'v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=',
    },
    {
      hash: 'SHA-512' as const,
      salt: 'W22ZaJ0SNY7soEsUEjb6gQ==',
      clientFirst: 'n,,n=user,r=rOprNGfwEbeRWgbNEkqO',
      nonce: '%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0',
      serverFirst: 'r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096',
      clientFinal:
        'c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=gMGXRcevScNtxZ6/8lQYpGtnsNAc3mGcmNomv+xnoOMw+3R2xNJdMNnzMlTN8PPC6wdp6dybEmDYXYTxwnYPJQ==',
      serverFinal: 'v=ZQnYEgWQMFmmsM8aQMF0nDDCy/AgCzkwk8CmMZYcMg0vSVlKDanekLtifDSeVGT4+5ZxXnJq199RVG2rR7N7Zw==',
    },
  ])('SCRAM-$hash', async ({ hash, salt, clientFirst, nonce, serverFirst, clientFinal, serverFinal }) => {
    const keys = await deriveKeys(hash, 'pencil', Buffer.from(salt, 'base64'), 4096)
    const server = serverOf({ user: { scram: { [hash]: keys } } })
    const context = contextOf(server.auth)
    const bare = { ...context, offer: Object.assign(context.offer, { protection: () => '' }) } // it came later (XEP-0474)
    const mechanism = new Scram(hash, false, server, bare, nonce)
    const challenge = await mechanism.next(bytes(clientFirst))
    expect(challenge.kind).toBe('challenge')
    expect(text(challenge)).toBe(serverFirst)
    const success = await mechanism.next(bytes(clientFinal))
    expect(success).toMatchObject({ kind: 'success', username: 'user' })
    expect(text(success)).toBe(serverFinal)
  })
})

describe.each(SCRAM_HASHES)('SCRAM-%s with a client of its own', (hash) => {
  test('any password that may be chosen logs in, and the server proves itself', async () => {
    const ascii = fc.string({ minLength: 1, maxLength: 30 })
    // Latin-1 letters, Greek, CJK and emoji: code points that SASLprep leaves as they are.
    const letters = fc.constantFrom(...'äöüßéñøΩλжя漢字한글😀🫠🦉')
    const unicode = fc.array(letters, { minLength: 1, maxLength: 20 }).map((chars) => chars.join(''))
    await fc.assert(
      fc.asyncProperty(fc.oneof(ascii, unicode), async (password) => {
        const client = new Client(hash, 'romeo', password)
        const step = await login(hash, client, serverOf({ romeo: await deriveCredentials(password, 10) }))
        expect(step).toMatchObject({ kind: 'success', username: 'romeo' })
        expect(text(step)).toBe(client.expected)
        const other = new Client(hash, 'romeo', `${password}x`)
        expect(await login(hash, other, serverOf({ romeo: await deriveCredentials(password, 10) }))).toMatchObject({
          kind: 'failure',
        })
      }),
      { numRuns: 60 },
    )
  })

  test.each([
    ['with "y" while no -PLUS is offered', 'y,,'],
    ['with the own bare JID as authorization identity', 'n,a=romeo@example.org,'],
  ])('logs in %s', async (_, header) => {
    expect(await login(hash, new Client(hash, 'romeo', 'pencil', header))).toMatchObject({ kind: 'success', username: 'romeo' })
  })

  test('a user name is unescaped and prepared', async () => {
    const server = serverOf({ 'a,b=c': romeo })
    expect(await login(hash, new Client(hash, 'A,B=C', 'pencil'), server)).toMatchObject({ kind: 'success', username: 'a,b=c' })
  })

  test('an optional extension is passed over but signed', async () => {
    const extension = ',x=1,y=a=b'
    expect(await login(hash, new Client(hash, 'romeo', 'pencil'), serverOf(), { extension })).toMatchObject({ kind: 'success' })
  })

  test('no initial response gets an empty challenge first', async () => {
    const exchange = exchangeOf(hash)
    const empty = await exchange.start(undefined)
    expect(empty.kind).toBe('challenge')
    expect(dataOf(empty)).toHaveLength(0)
    const client = new Client(hash, 'romeo', 'pencil')
    const challenge = await exchange.respond(client.first())
    expect(await exchange.respond(client.final(text(challenge)))).toMatchObject({ kind: 'success', username: 'romeo' })
  })

  test('a stranger cannot tell a wrong password from an account that does not exist', async () => {
    const [wrong, nobody] = [new Client(hash, 'romeo', 'x'), new Client(hash, 'juliet', 'x')]
    const challenges = [await exchangeOf(hash).start(wrong.first()), await exchangeOf(hash).start(nobody.first())]
    const again = await exchangeOf(hash).start(nobody.first())
    const [saltOfRomeo, saltOfJuliet, saltAgain] = [...challenges, again].map((step) => /s=([^,]+),i=10,h=/.exec(text(step))![1]!)
    expect(saltOfJuliet).toBe(saltAgain)
    expect(saltOfJuliet).toHaveLength(saltOfRomeo!.length)
    expect(await login(hash, nobody)).toEqual(await login(hash, wrong))
    expect(await login(hash, nobody)).toEqual({ kind: 'failure', condition: 'not-authorized' })
  })

  test('made-up keys let nobody in, even if they fit', async () => {
    const server = serverOf()
    const scramKeys = async () => ({ keys: romeo.scram[hash]!, standing: undefined })
    expect(await login(hash, new Client(hash, 'romeo', 'pencil'), { ...server, auth: { ...server.auth, scramKeys } })).toEqual({
      kind: 'failure',
      condition: 'not-authorized',
    })
  })

  test('an account that has no keys for the hash is as one that does not exist', async () => {
    const other = SCRAM_HASHES.find((candidate) => candidate !== hash)!
    const server = serverOf({ romeo: { scram: { [other]: romeo.scram[other] } } })
    expect(await login(hash, new Client(hash, 'romeo', 'pencil'), server)).toEqual({
      kind: 'failure',
      condition: 'not-authorized',
    })
  })

  test.each([
    ['another channel binding', { c: 'eSws' }, 'not-authorized'],
    ['channel binding data that nobody asked for', { c: bytes('n,,data').toString('base64') }, 'not-authorized'],
    ['another nonce', { nonce: 'fyko+d2lbbFgONRv9qkxdawL' }, 'not-authorized'],
    ['a proof of another length', { proof: 'AAAA' }, 'malformed-request'],
    ['a proof that is not base64', { proof: '!' }, 'malformed-request'],
    ['a mandatory extension', { extension: ',m=1' }, 'malformed-request'],
    ['an extension without a value', { extension: ',x=' }, 'malformed-request'],
    ['an extension without a letter', { extension: ',1=x' }, 'malformed-request'],
  ])('%s is refused, though the proof is made for it', async (_, change, condition) => {
    expect(await login(hash, new Client(hash, 'romeo', 'pencil'), serverOf(), change)).toMatchObject({
      kind: 'failure',
      condition,
    })
  })

  test('a proof of zeros is refused', async () => {
    const proof = Buffer.alloc(SCRAM_BYTES[hash]).toString('base64')
    const step = await login(hash, new Client(hash, 'romeo', 'pencil'), serverOf(), { proof })
    expect(step).toEqual({ kind: 'failure', condition: 'not-authorized' })
  })

  test.each(['', 'c=biws', 'c=biws,r=x', 'r=x,c=biws,p=AAAA', 'c=biws,p=AAAA', 'c=biws,r=x,p=AAAA,x=1', ',,'])(
    'a final message %j is malformed-request',
    async (message) => {
      const exchange = exchangeOf(hash)
      await exchange.start(new Client(hash, 'romeo', 'pencil').first())
      expect(await exchange.respond(bytes(message))).toMatchObject({ kind: 'failure', condition: 'malformed-request' })
    },
  )

  test('the proof of one exchange is worth nothing in another', async () => {
    const client = new Client(hash, 'romeo', 'pencil')
    const [one, other] = [exchangeOf(hash), exchangeOf(hash)]
    const final = client.final(text(await one.start(client.first())))
    await other.start(client.first())
    expect(await other.respond(final)).toMatchObject({ kind: 'failure', condition: 'not-authorized' })
    expect(await one.respond(final)).toMatchObject({ kind: 'success' })
  })
})

describe('RFC 5802 §7 the first message', () => {
  test.each([
    ['nothing', '', 'malformed-request'],
    ['no gs2 header', 'n=romeo,r=abc', 'malformed-request'],
    ['an unknown flag', 'z,,n=romeo,r=abc', 'malformed-request'],
    ['channel binding, which is not offered (§6)', 'p=tls-exporter,,n=romeo,r=abc', 'malformed-request'],
    ['a mandatory extension (§5.1)', 'n,,m=x,n=romeo,r=abc', 'malformed-request'],
    ['a mandatory extension behind the nonce', 'n,,n=romeo,r=abc,m=x', 'malformed-request'],
    ['no user name', 'n,,r=abc', 'malformed-request'],
    ['an empty user name', 'n,,n=,r=abc', 'malformed-request'],
    ['"=" in a name without 2C or 3D (§5.1)', 'n,,n=ro=meo,r=abc', 'malformed-request'],
    ['"=2D" in a name', 'n,,n=ro=2Dmeo,r=abc', 'malformed-request'],
    ['NUL in a name', 'n,,n=ro\0meo,r=abc', 'malformed-request'],
    ['no nonce', 'n,,n=romeo', 'malformed-request'],
    ['an empty nonce', 'n,,n=romeo,r=', 'malformed-request'],
    ['a space in the nonce', 'n,,n=romeo,r=a b', 'malformed-request'],
    ['letters outside ASCII in the nonce', 'n,,n=romeo,r=é', 'malformed-request'],
    ['a byte order mark', '\ufeffn,,n=romeo,r=abc', 'malformed-request'],
    ['an empty authorization identity', 'n,a=,n=romeo,r=abc', 'malformed-request'],
    ['an authorization identity without "a="', 'n,romeo@example.org,n=romeo,r=abc', 'malformed-request'],
    ['somebody else as authorization identity', 'n,a=juliet@example.org,n=romeo,r=abc', 'invalid-authzid'],
    ['a user name that is no localpart', 'n,,n=romeo@example.org,r=abc', 'not-authorized'],
    ['a user name of white space', 'n,,n= ,r=abc', 'not-authorized'],
  ])('%s is refused', async (_, message, condition) => {
    expect(await exchangeOf('SHA-256').start(bytes(message))).toMatchObject({ kind: 'failure', condition })
  })

  test('bytes that are not UTF-8 are refused', async () => {
    const message = Buffer.concat([bytes('n,,n=rom'), Buffer.from([0xc3, 0x28]), bytes('eo,r=abc')])
    expect(await exchangeOf('SHA-1').start(message)).toMatchObject({ kind: 'failure', condition: 'malformed-request' })
  })

  test('our nonce is new each time', async () => {
    const challenges = [
      await exchangeOf('SHA-1').start(bytes('n,,n=romeo,r=a')),
      await exchangeOf('SHA-1').start(bytes('n,,n=romeo,r=a')),
    ]
    const nonces = challenges.map((step) => /^r=a([^,]{24}),/.exec(text(step))![1])
    expect(nonces[0]).not.toBe(nonces[1])
  })
})

describe('RFC 5802 §6 channel binding', () => {
  const CHANNEL = { 'tls-exporter': bytes('key of this TLS'), 'tls-server-end-point': bytes('hash of our certificate') }
  const PLUS: ContextOptions = {
    bindings: ['tls-exporter', 'tls-server-end-point'],
    binding: (type) => (type === 'tls-unique' ? undefined : CHANNEL[type]),
  }

  describe.each(SCRAM_HASHES)('SCRAM-%s-PLUS', (hash) => {
    const plus = (client: Client, change: Changes = {}, options = PLUS) =>
      scramLogin(`SCRAM-${hash}-PLUS`, client, serverOf(), change, options)
    const bound = (type: string, data: Uint8Array) => new Client(hash, 'romeo', 'pencil', `p=${type},,`, data)

    test.each(['tls-exporter', 'tls-server-end-point'] as const)('logs in by %s, and the server proves itself', async (type) => {
      const client = bound(type, CHANNEL[type])
      const step = await plus(client)
      expect(step).toMatchObject({ kind: 'success', username: 'romeo' })
      expect(text(step)).toBe(client.expected)
    })

    test.each([
      ['the binding of another connection', bound('tls-exporter', bytes('key of another TLS')), 'not-authorized'],
      ['the data of the other type', bound('tls-exporter', CHANNEL['tls-server-end-point']), 'not-authorized'],
      ['no data', bound('tls-exporter', bytes('')), 'not-authorized'],
      ['a type that is not offered', bound('tls-unique', CHANNEL['tls-exporter']), 'malformed-request'],
      ['"n"', new Client(hash, 'romeo', 'pencil', 'n,,'), 'malformed-request'],
      ['"y"', new Client(hash, 'romeo', 'pencil', 'y,,'), 'malformed-request'],
    ])('%s is refused, though the password is right', async (_, client, condition) => {
      expect(await plus(client)).toMatchObject({ kind: 'failure', condition })
    })

    test('a type that the connection does not have is refused', async () => {
      const client = bound('tls-exporter', CHANNEL['tls-exporter'])
      const options = { ...PLUS, bindings: ['tls-server-end-point'] as const }
      expect(await plus(client, {}, options)).toMatchObject({ kind: 'failure', condition: 'malformed-request' })
    })

    test('COMPAT: tls-unique, which slixmpp takes though it is not offered, where the connection has it', async () => {
      const options: ContextOptions = { ...PLUS, binding: (type) => (type === 'tls-unique' ? bytes('finished') : undefined) }
      expect(await plus(bound('tls-unique', bytes('finished')), {}, options)).toMatchObject({ kind: 'success' })
      expect(await plus(bound('tls-unique', bytes('other')), {}, options)).toMatchObject({ condition: 'not-authorized' })
    })

    test('a client that cannot bind logs in without; one that says we cannot, does not: somebody took the offer out', async () => {
      const plain = (header: string) =>
        scramLogin(`SCRAM-${hash}`, new Client(hash, 'romeo', 'pencil', header), serverOf(), {}, PLUS)
      expect(await plain('n,,')).toMatchObject({ kind: 'success' })
      expect(await plain('y,,')).toMatchObject({ kind: 'failure', condition: 'not-authorized' })
      expect(await plain('p=tls-exporter,,')).toMatchObject({ kind: 'failure', condition: 'malformed-request' })
    })
  })
})

describe('XEP-0474 §6 downgrade protection', () => {
  test('the example of §6.3, to the byte', async () => {
    const keys = await deriveKeys('SHA-1', 'pencil', Buffer.from('QSXCR+Q6sek8bf92', 'base64'), 4096)
    const { auth, ...rest } = serverOf({ user: { scram: { 'SHA-1': keys } } })
    const server = { ...rest, auth: { ...auth, supports: { scram: ['SHA-1'], password: false, certificate: false } } } as const
    const options: ContextOptions = {
      bindings: ['tls-server-end-point', 'tls-exporter'],
      binding: () => bytes('THIS IS FAKE CB DATA'),
    }
    const mechanism = new Scram('SHA-1', true, server, contextOf(server.auth, options), 'a09117a6-ac50-4f2f-93f1-93799c2bddf6')
    const clientNonce = '12C4CD5C-E38E-4A98-8F6D-15C38F51CCC6'
    const challenge = await mechanism.next(bytes(`p=tls-exporter,,n=user,r=${clientNonce}`))
    expect(text(challenge)).toBe(
      `r=${clientNonce}a09117a6-ac50-4f2f-93f1-93799c2bddf6,s=QSXCR+Q6sek8bf92,i=4096,h=G6k/rBLDqgOhRRaCuuatSDFkJ08=`,
    )
    const c = 'cD10bHMtZXhwb3J0ZXIsLFRISVMgSVMgRkFLRSBDQiBEQVRB'
    const x = '19C6532F-1CF4-4A27-A18D-DC9CEA41BBB3'
    const final = `c=${c},r=${clientNonce}a09117a6-ac50-4f2f-93f1-93799c2bddf6,x=${x},p=M/SIDjT+dfcxUh89jZEypRvFxB4=`
    const success = await mechanism.next(bytes(final))
    expect(success).toMatchObject({ kind: 'success', username: 'user' })
    expect(text(success)).toBe('v=MQrMPvv7yv4x4Cq4W4Ih25EqS2c=')
  })

  test('a client that was shown another offer signs another challenge, and fails', async () => {
    const exchange = exchangeOf('SHA-256')
    const client = new Client('SHA-256', 'romeo', 'pencil')
    const challenge = text(await exchange.start(client.first()))
    const forged = challenge.replace(/h=.*$/, 'h=AAAA')
    expect(forged).not.toBe(challenge)
    expect(await exchange.respond(client.final(forged))).toMatchObject({ kind: 'failure', condition: 'not-authorized' })
  })
})
