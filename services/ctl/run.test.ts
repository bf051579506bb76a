import { existsSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { type Config, loadConfig } from '#core/settings/config.ts'
import { controlPath } from '#embedded/control.ts'
import type { Running } from '#embedded/serve.ts'
import { freePorts } from '#test/support/ports.ts'
import { logIn, Place } from './rookery.fixture.ts'
import { welcome } from './run.ts'

const STOPPED_WITHIN_MS = 5_000

let place: Place
beforeEach(() => {
  place = new Place()
})
afterEach(() => place.clear())

describe('a stop', () => {
  test.each(['SIGTERM', 'SIGINT'] as const)('%s ends it well within seconds, and leaves no socket', async (signal) => {
    const server = await place.run(place.configure())
    const port = await server.port('c2s')
    expect(existsSync(controlPath(place.data))).toBe(true)
    const stream = await openStream(port)
    const startedAt = performance.now()
    const { code, out, err } = await server.stop(signal)
    expect(performance.now() - startedAt).toBeLessThan(STOPPED_WITHIN_MS)
    expect({ code, err }).toEqual({ code: 0, err: '' })
    expect(out).toContain('"server.stopped"')
    expect(existsSync(controlPath(place.data))).toBe(false)
    await stream.closed
  })

  test('the same folder and ports can be used again at once', async () => {
    const [port] = (await freePorts(1)) as [number]
    const file = place.configure({ c2s: { port, tlsPort: 'off' } })
    expect((await (await place.run(file)).stop()).code).toBe(0)
    expect((await (await place.run(file)).stop()).code).toBe(0)
  })
})

describe('a start that cannot be', () => {
  test('a taken port: one line names the port and the key, exit code 1, and the folder is free again', async () => {
    const blocker = createServer()
    await new Promise<void>((listening) => blocker.listen(0, '127.0.0.1', listening))
    const { port } = blocker.address() as { port: number }
    const file = place.configure({ c2s: { port, tlsPort: 'off' } })
    const { code, err } = await place.rookery(['run', '--config', file])
    expect(code).toBe(1)
    expect(err).toMatch(/^rookery: .*\n$/)
    expect(err).toContain(`port ${port} on 127.0.0.1 is taken by another program`)
    expect(err).toContain('c2s.port')
    expect(existsSync(controlPath(place.data))).toBe(false)
    await new Promise((closed) => blocker.close(closed))
    await place.run(file)
  })

  test('a second server on the same data folder: it says so, and the first goes on', async () => {
    const file = place.configure()
    const first = await place.run(file)
    const second = await place.rookery(['run', '--config', file])
    expect({ code: second.code, err: second.err }).toEqual({
      code: 1,
      err: `rookery: another server runs on the data folder ${place.data}; stop it, or set data to another folder\n`,
    })
    await (await openStream(await first.port('c2s'))).close()
    expect((await first.stop()).code).toBe(0)
  })

  test('a data folder that cannot be made', async () => {
    const { code, err } = await place.rookery(['run', '--config', place.configure({ data: '/dev/null/data' })])
    expect(code).toBe(1)
    expect(err).toContain('the data folder /dev/null/data cannot be made')
  })
})

test('without a file it says how to begin, and its ports are as the environment says', async () => {
  const env = {
    ROOKERY_C2S_PORT: '0',
    ROOKERY_C2S_TLS_PORT: 'off',
    ROOKERY_WEBSOCKET_PORT: 'off',
    ROOKERY_METRICS_PORT: 'off',
    ROOKERY_HTTP_PORT: 'off',
  }
  const server = await place.run(undefined, env)
  const port = await server.port('c2s')
  const { out } = await server.stop()
  expect(out).toContain('Register in any client: server localhost')
  expect(out).toContain('No configuration file was given: this machine only')
  expect(out).toMatch(new RegExp(`c2s +127.0.0.1 port ${port}\\n`))
})

test('the log says which port each listener got: of HTTP and of the metrics, it used not to', async () => {
  const server = await place.run(place.configure({ http: { port: 0 }, metrics: { port: 0 } }))
  const [http, metrics] = [await server.port('http'), await server.port('metrics')]
  expect((await fetch(`http://127.0.0.1:${http}/`)).status).toBe(200)
  expect((await fetch(`http://127.0.0.1:${metrics}/live`)).status).toBe(200)
})

describe('what it says to a newcomer', () => {
  const { config } = loadConfig({ text: 'domains: [example.org, example.net]', env: {} })
  const certificate = { selfSigned: false } as Running['certificate']
  const edge = { listeners: [] } as unknown as Running['edge']
  const said = (host: string, given: Config = config, file = 'rookery.yaml') =>
    welcome({ config: given, source: 'file', file }, { certificate, edge, http: [{ name: 'http', host, port: 5280 }] })

  test.each([
    ['::', 'example.org'],
    ['0.0.0.0', 'example.org'],
    ['127.0.0.1', '127.0.0.1'],
    ['::1', '[::1]'],
  ])('the page to open, when it listens on %s, used to be one that no browser opens: it is at %s', (host, place) => {
    expect(said(host)).toContain(`Open     http://${place}:5280/ `)
  })

  test('which is localhost where that is the domain', () => {
    expect(said('::', { ...config, domains: ['localhost'] })).toContain('http://localhost:5280/ ')
  })

  test('how to make an account used to be a command that knew nothing of the file: what is said makes one', async () => {
    const file = place.configure({ domains: ['example.org'], registration: 'closed' })
    const server = await place.run(file)
    const [, command] = /bin\/rookery (\S.*?\S) {2,}/.exec(said('::', loadConfig({ file, env: {} }).config, file))!
    const words = command!.replace('NAME@', 'juliet@').split(' ')
    const added = await place.rookery([...words, '--password', 'a secret of nobody'])
    expect({ code: added.code, err: added.err }).toEqual({ code: 0, err: '' })
    expect(await logIn(await server.port('c2s'), 'juliet', 'a secret of nobody', 'example.org')).toBe('success')
  })

  test('the path of the file is written as a shell takes it, and nothing where there is no file', () => {
    expect(said('::', config, "/srv/it's mine.yaml")).toContain(" NAME@example.org --config '/srv/it'\\''s mine.yaml'  ")
    const http = [{ name: 'http', host: '::', port: 5280 }] as const
    const laptop = { config: { ...config, registration: 'closed' } as Config, source: 'environment', file: undefined } as const
    expect(welcome(laptop, { certificate, edge, http })).toMatch(/ NAME@example.org {2,}\(registration is closed\)/)
  })
})

/** A client's stream that has got its header. */
async function openStream(port: number): Promise<{ closed: Promise<unknown>; close: () => Promise<unknown> }> {
  const socket = connect(port, '127.0.0.1')
  const closed = new Promise((resolve) => socket.once('close', resolve))
  socket.on('error', () => {})
  socket.write(
    `<stream:stream to='localhost' version='1.0' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>`,
  )
  await new Promise((received, failed) =>
    socket.once('data', received).once('close', () => failed(new Error('no stream header'))),
  )
  socket.resume()
  return {
    closed,
    close() {
      socket.end('</stream:stream>')
      return closed
    },
  }
}
