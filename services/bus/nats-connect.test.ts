// The first connection: what is said where there is none, TLS, and every way to say who we are.
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { type AddressInfo, createServer, type Server } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { nkeys } from '@nats-io/transport-node'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { makeSelfSigned } from '#edge/listeners/self-signed.ts'
import { HOW_TO_GET_NATS, hasNats, type NatsOptions, startNats, type TestNats } from '#test/servers/nats.ts'
import { freePorts } from '#test/support/ports.ts'
import type { Bus } from './bus.ts'
import { type NatsBusOptions, openNatsBus } from './nats.ts'

const there = await hasNats()
if (!there) console.warn(`SKIPPED: most tests of services/bus/nats-connect.test.ts: ${HOW_TO_GET_NATS}`)

const opened: { stop(): Promise<void> }[] = []
let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'rookery-nats-connect-'))
})
afterEach(async () => {
  for (const one of opened.splice(0).reverse()) await one.stop()
})
afterAll(() => rm(folder, { recursive: true }))

async function open(options: NatsBusOptions): Promise<Bus> {
  const bus = await openNatsBus(options)
  opened.push({ stop: () => bus.drain() })
  return bus
}

async function start(options: NatsOptions): Promise<TestNats> {
  const server = await startNats(options)
  opened.push(server)
  return server
}

/** Somebody who is no NATS server. */
async function somebody(greeting: string): Promise<string> {
  const server: Server = createServer((socket) => socket.on('error', () => {}).end(greeting)).listen(0, '127.0.0.1')
  await new Promise((resolve) => server.once('listening', resolve))
  opened.push({ stop: () => new Promise((resolve) => server.close(() => resolve())) })
  return `nats://127.0.0.1:${(server.address() as AddressInfo).port}`
}

async function file(name: string, text: string): Promise<string> {
  await writeFile(join(folder, name), text)
  return join(folder, name)
}

/** It works: the server answers. */
async function expectToWork(options: NatsBusOptions): Promise<void> {
  const bus = await open(options)
  bus.subscribe('a', (question, reply) => reply(question))
  expect(await bus.request('a', Buffer.from('caw'), 5000)).toEqual(Buffer.from('caw'))
}

describe('where no server can be used', () => {
  test('the error names each server and why it failed, and how to start one, in one line', async () => {
    const [absent] = await freePorts(1)
    const [http, nobody] = [await somebody('HTTP/1.1 400 Bad Request\r\n\r\n'), await somebody('')]
    const refused = `nats://127.0.0.1:${absent}`
    const error: Error = await openNatsBus({ servers: [refused, http, nobody] }).then(
      () => expect.fail('it opened'),
      (error) => error,
    )
    expect(error.message).toContain(`${refused}: connection refused`)
    expect(error.message).toContain(`${http}: what answers there is not NATS`)
    expect(error.message).toContain(`${nobody}: it closed the connection`)
    expect(error.message).toMatch(/Start one with `nats-server -a 127\.0\.0\.1`.*, or correct bus\.servers\.$/)
    expect(error.message).not.toContain('\n')
  })

  test('a name that nobody knows is said to be one', async () => {
    await expect(openNatsBus({ servers: ['nats://nats.invalid:4222'] })).rejects.toThrow(
      /nats:\/\/nats\.invalid:4222: .*nats\.invalid/,
    )
  })

  test('no server at all is an error of its own', async () => {
    await expect(openNatsBus({ servers: [] })).rejects.toThrow('set bus.servers')
  })

  test.each([
    ['neither a JWT nor a seed', 'hello'],
    ['a JWT without its seed', '-----BEGIN NATS USER JWT-----\nabc\n------END NATS USER JWT------\n'],
    ['a public key', 'UAEJWCK6GKUYGBSKFIWKTRYFYR2VMCNFDEXNBDQGHCQXZQKKQKFJW5Q6'],
  ])('a credentials file that holds %s is refused by name', async (what, text) => {
    const credentials = await file('wrong', text)
    const opening = openNatsBus({ servers: ['nats://127.0.0.1:1'], credentials })
    await expect(opening, what).rejects.toThrow(
      `bus.credentials is ${JSON.stringify(credentials)}, which cannot be used: it holds neither`,
    )
  })

  test('so is one that is not there', async () => {
    const opening = openNatsBus({ servers: ['nats://127.0.0.1:1'], credentials: '/nowhere/nats.creds' })
    await expect(opening).rejects.toThrow('bus.credentials is "/nowhere/nats.creds", which cannot be used: ENOENT')
  })
})

describe.skipIf(!there)('where there is one', () => {
  test('the others may be away', async () => {
    const server = await start({})
    const [absent] = await freePorts(1)
    await expectToWork({ servers: [`nats://127.0.0.1:${absent}`, server.url] })
  })

  test('a max_payload that the longest body does not fit in is refused, with what to set', async () => {
    const { url } = await start({ config: 'max_payload: 65536' })
    const opening = openNatsBus({ servers: [url] })
    await expect(opening).rejects.toThrow(`${url}: its max_payload is 65536 bytes; it must be at least 1048576`)
    await expect(opening).rejects.toThrow("Set max_payload: 1MB in the server's configuration.")
  })

  test('name and password, and only the right ones', async () => {
    const { url } = await start({ config: 'authorization { user: rookery, password: "nest 7" }' })
    await expectToWork({ servers: [url], user: 'rookery', password: 'nest 7' })
    for (const wrong of [
      { user: 'rookery', password: 'nest 8' },
      { user: 'crow', password: 'nest 7' },
      {},
      { token: 'nest 7' },
    ]) {
      const opening = openNatsBus({ servers: [url], ...wrong })
      await expect(opening).rejects.toThrow(`${url}: it refuses who we say we are (Authorization Violation)`)
      await expect(opening).rejects.toThrow('Set bus.credentials, bus.user and bus.password, or bus.token')
    }
  })

  test('a token', async () => {
    const { url } = await start({ config: 'authorization { token: s3cret }' })
    await expectToWork({ servers: [url], token: 's3cret' })
    await expect(openNatsBus({ servers: [url], token: 'guess' })).rejects.toThrow('Authorization Violation')
  })

  test('the seed of an nkey, in a file', async () => {
    const [ours, other] = [nkeys.createUser(), nkeys.createUser()]
    const { url } = await start({ config: `authorization { users: [ { nkey: ${ours.getPublicKey()} } ] }` })
    await expectToWork({ servers: [url], credentials: await file('ours.nk', `${text(ours.getSeed())}\n`) })
    const opening = openNatsBus({ servers: [url], credentials: await file('other.nk', text(other.getSeed())) })
    await expect(opening).rejects.toThrow('Authorization Violation')
  })

  test('a credentials file as nsc writes it', async () => {
    const [operator, account, user] = [nkeys.createOperator(), nkeys.createAccount(), nkeys.createUser()]
    const operatorJwt = jwt(operator, operator.getPublicKey(), { type: 'operator', version: 2 })
    const limits = { subs: -1, data: -1, payload: -1, imports: -1, exports: -1, conn: -1, leaf: -1, wildcards: true }
    const accountJwt = jwt(operator, account.getPublicKey(), { type: 'account', version: 2, limits })
    const userJwt = jwt(account, user.getPublicKey(), { type: 'user', version: 2, subs: -1, data: -1, payload: -1 })
    const { url } = await start({
      config: `operator: ${operatorJwt}\nresolver: MEMORY\nresolver_preload: { ${account.getPublicKey()}: ${accountJwt} }`,
    })
    const blocks = [
      `-----BEGIN NATS USER JWT-----\n${userJwt}\n------END NATS USER JWT------\n`,
      `-----BEGIN USER NKEY SEED-----\n${text(user.getSeed())}\n------END USER NKEY SEED------\n`,
    ]
    await expectToWork({ servers: [url], credentials: await file('rookery.creds', blocks.join('\n')) })
  })
})

describe.skipIf(!there)('TLS', () => {
  const certificateFor = (type: 'ip' | 'dns', value: string) =>
    makeSelfSigned([{ type, value }], new Date(Date.now() - 60_000), new Date(Date.now() + 3_600_000))
  const WITH_TLS = 'tls { cert_file: "{folder}/cert.pem", key_file: "{folder}/key.pem" }'

  test('with a certificate for the address that was dialled, of an authority that we know', async () => {
    const { cert, key } = await certificateFor('ip', '127.0.0.1')
    const server = await start({ config: WITH_TLS, files: { 'cert.pem': cert, 'key.pem': key } })
    const ca = await file('ca.pem', cert)
    await expectToWork({ servers: [`tls://127.0.0.1:${server.port}`], tls: { ca } })
    await expectToWork({ servers: [server.url], tls: { ca } })
    await expect(openNatsBus({ servers: [`tls://127.0.0.1:${server.port}`] })).rejects.toThrow(/self-signed certificate/)
    // The address that "localhost" has is right, and the name is not.
    await expect(openNatsBus({ servers: [`tls://localhost:${server.port}`], tls: { ca } })).rejects.toThrow(/localhost/)
  })

  test('with a certificate for the name that was dialled; an address is not that name', async () => {
    const { cert, key } = await certificateFor('dns', 'localhost')
    const server = await start({ config: WITH_TLS, files: { 'cert.pem': cert, 'key.pem': key } })
    const ca = await file('ca.pem', cert)
    await expectToWork({ servers: [`tls://localhost:${server.port}`], tls: { ca } })
    await expect(openNatsBus({ servers: [`tls://127.0.0.1:${server.port}`], tls: { ca } })).rejects.toThrow(/IP: 127\.0\.0\.1/)
  })

  test('with a certificate of our own where the server wants one', async () => {
    const [theirs, ours] = [await certificateFor('ip', '127.0.0.1'), await certificateFor('dns', 'rookery')]
    const server = await start({
      config: 'tls { cert_file: "{folder}/cert.pem", key_file: "{folder}/key.pem", ca_file: "{folder}/ours.pem", verify: true }',
      files: { 'cert.pem': theirs.cert, 'key.pem': theirs.key, 'ours.pem': ours.cert },
    })
    const ca = await file('ca.pem', theirs.cert)
    const [cert, key] = [await file('cert.pem', ours.cert), await file('key.pem', ours.key)]
    await expectToWork({ servers: [`tls://127.0.0.1:${server.port}`], tls: { ca, cert, key } })
    await expect(openNatsBus({ servers: [`tls://127.0.0.1:${server.port}`], tls: { ca } })).rejects.toThrow(
      'no answer within 3 s (it may want a certificate of ours: bus.tls.cert)',
    )
  })

  test('a server without it is refused where tls:// is asked for', async () => {
    const server = await start({})
    await expect(openNatsBus({ servers: [`tls://127.0.0.1:${server.port}`] })).rejects.toThrow("server does not support 'tls'")
  })

  test('a file that is not there is named', async () => {
    const { cert, key } = await certificateFor('ip', '127.0.0.1')
    const server = await start({ config: WITH_TLS, files: { 'cert.pem': cert, 'key.pem': key } })
    await expect(openNatsBus({ servers: [server.url], tls: { ca: '/nowhere/ca.pem' } })).rejects.toThrow('/nowhere/ca.pem')
  })
})

const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString('utf8')

/** A JWT of NATS, version 2. */
function jwt(issuer: ReturnType<typeof nkeys.createUser>, subject: string, nats: object): string {
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')
  const claims = {
    jti: subject,
    iat: Math.floor(Date.now() / 1000),
    iss: issuer.getPublicKey(),
    name: 'test',
    sub: subject,
    nats,
  }
  const signed = `${part({ typ: 'JWT', alg: 'ed25519-nkey' })}.${part(claims)}`
  return `${signed}.${Buffer.from(issuer.sign(Buffer.from(signed))).toString('base64url')}`
}
