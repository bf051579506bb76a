import { createHash, createHmac, pbkdf2Sync, randomBytes } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { type Credentials, deriveCredentials, deriveKeys, fakeCredentials, type ScramHash } from '#core/scram-keys.ts'
import { beginExchange, type SaslServer, type SaslStep } from './mechanism.ts'
import { scram } from './scram.ts'

const SECRET = Buffer.alloc(32, 1)
const HASHES: readonly ScramHash[] = ['SHA-1', 'SHA-256']
const romeo = await deriveCredentials('pencil', 10)

function serverOf(accounts: Record<string, Credentials> = { romeo }): SaslServer {
  return {
    domain: 'example.org',
    credentials: async (localpart) => accounts[localpart],
    fake: (localpart) => fakeCredentials(SECRET, localpart, 10),
  }
}

const bytes = (text: string) => Buffer.from(text)
const dataOf = (step: SaslStep) => (step.kind === 'failure' ? undefined : step.data)
const text = (step: SaslStep) => Buffer.from(dataOf(step) ?? []).toString()

/** A client written from RFC 5802 §3 alone; `password` is prepared by whoever calls. */
class Client {
  readonly #hash: string
  readonly #bytes: number
  readonly #password: string
  readonly #nonce = randomBytes(12).toString('base64')
  readonly #bare: string
  readonly #header: string
  expected = ''

  constructor(hash: ScramHash, username: string, password: string, header = 'n,,') {
    this.#hash = hash === 'SHA-1' ? 'sha1' : 'sha256'
    this.#bytes = hash === 'SHA-1' ? 20 : 32
    this.#password = password
    this.#header = header
    this.#bare = `n=${username.replaceAll('=', '=3D').replaceAll(',', '=2C')},r=${this.#nonce}`
  }

  first(): Buffer {
    return bytes(this.#header + this.#bare)
  }

  final(serverFirst: string, change: { c?: string; nonce?: string; extension?: string; proof?: string } = {}): Buffer {
    const [, nonce, salt, iterations] = /^r=([^,]+),s=([^,]+),i=(\d+)$/.exec(serverFirst)!
    expect(nonce!.startsWith(this.#nonce) && nonce!.length > this.#nonce.length).toBe(true)
    const salted = pbkdf2Sync(this.#password, Buffer.from(salt!, 'base64'), Number(iterations), this.#bytes, this.#hash)
    const hmac = (key: Buffer, data: string) => createHmac(this.#hash, key).update(data).digest()
    const clientKey = hmac(salted, 'Client Key')
    const c = change.c ?? bytes(this.#header).toString('base64')
    const withoutProof = `c=${c},r=${change.nonce ?? nonce}${change.extension ?? ''}`
    const authMessage = `${this.#bare},${serverFirst},${withoutProof}`
    const signature = hmac(createHash(this.#hash).update(clientKey).digest(), authMessage)
    for (const [index, byte] of signature.entries()) clientKey[index]! ^= byte
    this.expected = `v=${hmac(hmac(salted, 'Server Key'), authMessage).toString('base64')}`
    return bytes(`${withoutProof},p=${change.proof ?? clientKey.toString('base64')}`)
  }
}

function exchangeOf(hash: ScramHash, server = serverOf()) {
  return beginExchange(`SCRAM-${hash}`, server, { encrypted: true, plainAllowed: false })!
}

async function login(hash: ScramHash, client: Client, server = serverOf(), change = {}): Promise<SaslStep> {
  const exchange = exchangeOf(hash, server)
  const challenge = await exchange.start(client.first())
  return challenge.kind === 'challenge' ? exchange.respond(client.final(text(challenge), change)) : challenge
}

describe('RFC 5802 §5 and RFC 7677 §3, the examples', () => {
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
  ])('SCRAM-$hash', async ({ hash, salt, clientFirst, nonce, serverFirst, clientFinal, serverFinal }) => {
    const keys = await deriveKeys(hash, 'pencil', Buffer.from(salt, 'base64'), 4096)
    const mechanism = scram(hash, serverOf({ user: { scram: { [hash]: keys } } }), false, () => nonce)
    const challenge = await mechanism.next(bytes(clientFirst))
    expect(challenge.kind).toBe('challenge')
    expect(text(challenge)).toBe(serverFirst)
    const success = await mechanism.next(bytes(clientFinal))
    expect(success).toMatchObject({ kind: 'success', username: 'user' })
    expect(text(success)).toBe(serverFinal)
  })
})

describe.each(HASHES)('SCRAM-%s with a client of its own', (hash) => {
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
    const [saltOfRomeo, saltOfJuliet, saltAgain] = [...challenges, again].map((step) => /s=([^,]+),i=10$/.exec(text(step))![1]!)
    expect(saltOfJuliet).toBe(saltAgain)
    expect(saltOfJuliet).toHaveLength(saltOfRomeo!.length)
    expect(await login(hash, nobody)).toEqual(await login(hash, wrong))
    expect(await login(hash, nobody)).toEqual({ kind: 'failure', condition: 'not-authorized' })
  })

  test('made-up keys let nobody in, even if they fit', async () => {
    const server = { ...serverOf({}), fake: () => romeo }
    expect(await login(hash, new Client(hash, 'romeo', 'pencil'), server)).toEqual({
      kind: 'failure',
      condition: 'not-authorized',
    })
  })

  test('an account that has no keys for the hash is as one that does not exist', async () => {
    const other = HASHES.find((candidate) => candidate !== hash)!
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
    const proof = Buffer.alloc(hash === 'SHA-1' ? 20 : 32).toString('base64')
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

  test('"y" is refused where -PLUS was offered: somebody took the offer out (§6)', async () => {
    await expect(scram('SHA-256', serverOf(), true).next(bytes('y,,n=romeo,r=abc'))).rejects.toMatchObject({
      name: 'SaslError',
      condition: 'not-authorized',
    })
    expect(await scram('SHA-256', serverOf(), true).next(bytes('n,,n=romeo,r=abc'))).toMatchObject({ kind: 'challenge' })
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
