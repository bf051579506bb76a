// The operator's certificates, by the command that an operator uses.
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { connect } from 'node:tls'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { makeSelfSigned } from '#edge/listeners/self-signed.ts'
import { Place, type Started } from './rookery.fixture.ts'

let place: Place
beforeEach(() => {
  place = new Place()
})
afterEach(() => place.clear())

/** Writes a pair, and gives its paths. */
async function pairOf(name: string, host = 'localhost'): Promise<{ cert: string; key: string }> {
  const files = { cert: join(place.folder, `${name}.pem`), key: join(place.folder, `${name}.key`) }
  const made = await makeSelfSigned([{ type: 'dns', value: host }], new Date(), new Date(Date.now() + 9e9))
  writeFileSync(files.cert, made.cert, { mode: 0o600 })
  writeFileSync(files.key, made.key, { mode: 0o600 })
  return files
}

/** Of what a client is shown. */
async function fingerprint(port: number): Promise<string> {
  const socket = connect({ host: '127.0.0.1', port, servername: 'localhost', rejectUnauthorized: false })
  await once(socket, 'secureConnect')
  const { fingerprint256 } = socket.getPeerX509Certificate()!
  socket.destroy()
  return fingerprint256
}

/** Sends a signal, and waits for this in the log. */
async function hangUp(server: Started, event: string): Promise<void> {
  let text = ''
  const logged = new Promise<void>((tell) => {
    server.process.stdout!.on('data', (piece: string) => {
      text += piece
      if (text.includes(`"${event}"`)) tell()
    })
  })
  server.process.kill('SIGHUP')
  await logged
}

test('check names every pair that is bad', async () => {
  const [good, bad, worse] = [await pairOf('good'), await pairOf('bad'), await pairOf('worse')]
  writeFileSync(worse.cert, 'nothing')
  const tls = { cert: [good.cert, bad.cert, worse.cert], key: [good.key, good.cert, worse.key] }
  const { code, out, err } = await place.rookery(['check', '--config', place.configure({ tls })])
  expect({ code, out }).toEqual({ code: 2, out: '' })
  expect(err).toContain('2 faults')
  expect(err).toContain(`${good.cert}: no private key in PEM`)
  expect(err).toContain(`${worse.cert}: no certificate in PEM`)
})

test('check says what is only doubtful, and calls the file good', async () => {
  const { cert, key } = await pairOf('site', 'example.org')
  const file = place.configure({ domains: ['example.org', 'example.net'], tls: { cert, key } })
  expect(await place.rookery(['check', '--config', file])).toEqual({
    code: 0,
    out: `${file}: good; example.org, example.net on 127.0.0.1 (file)\n`,
    err: `${cert}: the certificate is not for example.net\n`,
  })
})

test('SIGHUP reads the certificates again, and the server goes on', async () => {
  const { cert, key } = await pairOf('site')
  const server = await place.run(place.configure({ c2s: { port: 'off', tlsPort: 0 }, tls: { cert, key } }))
  const port = await server.port('c2s (TLS)')
  const before = await fingerprint(port)
  await pairOf('site')
  await hangUp(server, 'certificates.reloaded')
  expect(await fingerprint(port)).not.toBe(before)
  writeFileSync(cert, 'half a fi')
  await hangUp(server, 'certificates.refused')
  await fingerprint(port)
  expect((await server.stop()).code).toBe(0)
})
