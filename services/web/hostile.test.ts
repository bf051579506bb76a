// What HTTP clients may try, over sockets: paths out of the folders, requests that do not end, heads that are too large.
import { readFileSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, afterEach, describe, expect, test } from 'vitest'
import { CONVERSE_PATH } from './chat.ts'
import { type RunningWeb, startWeb } from './main.ts'
import { ask, FACTS, testProcess } from './web.fixture.ts'

const { process, role } = await start()
const { port } = role.listeners[0]!
const opened: { destroy(): unknown }[] = []
afterEach(() => {
  for (const socket of opened.splice(0)) socket.destroy()
})
afterAll(() => role.stop())

async function start(): Promise<{ process: ReturnType<typeof testProcess>; role: RunningWeb }> {
  const process = testProcess()
  return { process, role: await startWeb(process, FACTS) }
}

/** Everything the server says to these bytes until it closes, or until `done` holds. */
function say(bytes: string | Buffer, done: (text: string) => boolean = () => false): Promise<{ text: string; closed: boolean }> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1')
    opened.push(socket)
    let text = ''
    socket.setEncoding('latin1').on('data', (piece: string) => {
      text += piece
      if (done(text)) resolve({ text, closed: false })
    })
    socket.on('error', () => {})
    socket.on('close', () => resolve({ text, closed: true }))
    socket.write(bytes)
  })
}

const errors = () => process.log.lines.filter(({ level }) => level === 'error')

describe('a path', () => {
  const step = fc.constantFrom(
    '..',
    '.',
    '',
    '%2e%2e',
    '%2E.',
    '.%2e',
    '..%2f..',
    '..%5c..',
    '..\\..',
    '%252e%252e',
    '%c0%ae%c0%ae',
    '%00',
    '....',
    '..;',
    'etc',
    'passwd',
    'main.ts',
    'web',
    'package.json',
    'rookery.sqlite',
    'dist',
    'assets',
    '.git',
    '%2fetc%2fpasswd',
    'C:',
    'site.css',
    'converse.min.css',
  )
  const start = fc.constantFrom(
    '/',
    '/assets/',
    CONVERSE_PATH,
    '/chat/',
    '//',
    '/assets//',
    '/.well-known/',
    '/assets/%2f',
    '/./',
  )
  const path = fc
    .tuple(start, fc.array(step, { maxLength: 8 }), fc.constantFrom('', '?x', '/', '%', '?../..', '#'))
    .map(([begin, steps, end]) => begin + steps.join('/') + end)

  test('leads to what is ours to show, or nowhere', async () => {
    const source = readFileSync(join(import.meta.dirname, 'main.ts'), 'utf8').slice(0, 40)
    await fc.assert(
      fc.asyncProperty(path, async (path) => {
        const { status, body } = await ask(port, path.replace('#', '%23'))
        expect([200, 301, 302, 308, 400, 404, 421]).toContain(status)
        for (const secret of [source, 'root:x:', '"name": "rookery"', '[core]']) expect(body).not.toContain(secret)
      }),
      { numRuns: 400 },
    )
    expect(errors()).toEqual([])
  })

  test('of any other bytes is answered, and breaks nothing', async () => {
    const character = fc.integer({ min: 0x21, max: 0x7e }).map((code) => String.fromCharCode(code))
    await fc.assert(
      fc.asyncProperty(fc.array(character, { maxLength: 60 }), async (characters) => {
        const { status } = await ask(port, `/${characters.join('')}`)
        expect([200, 308, 400, 404, 414, 421]).toContain(status)
      }),
      { numRuns: 200 },
    )
    expect(errors()).toEqual([])
  })
})

describe('a request', () => {
  test.each([
    ['a head over its bound', `GET / HTTP/1.1\r\nHost: localhost\r\nX: ${'x'.repeat(20_000)}\r\n\r\n`, 431],
    ['an address over its bound', `GET /${'x'.repeat(20_000)} HTTP/1.1\r\nHost: localhost\r\n\r\n`, 431],
    ['no HTTP', 'SSH-2.0-OpenSSH_9.6\r\n\r\n', 400],
    ['a stream of ours', "<?xml version='1.0'?><stream:stream to='localhost'>\r\n\r\n", 400],
    ['no Host', 'GET / HTTP/1.1\r\n\r\n', 400],
    ['two lengths', 'GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nContent-Length: 1\r\n\r\nx', 400],
    [
      'a length and chunks',
      'GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
      400,
    ],
    ['a header that is folded', 'GET / HTTP/1.1\r\nHost: localhost\r\nX: a\r\n b\r\n\r\n', 400],
    ['a header with a space before its colon', 'GET / HTTP/1.1\r\nHost : localhost\r\n\r\n', 400],
    ['bare line feeds', 'GET / HTTP/1.1\nHost: localhost\n\n', 400],
  ])('%s is refused, and the connection ends', async (_, bytes, status) => {
    const { text, closed } = await say(bytes)
    expect([text.slice(0, 12), closed]).toEqual([`HTTP/1.1 ${status}`, true])
  })

  test('with a body is answered without it, and what follows the body is no request', async () => {
    const smuggled = 'GET /chat/ HTTP/1.1\r\nHost: localhost\r\n\r\n'
    const { text } = await say(`GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${smuggled.length}\r\n\r\n${smuggled}`)
    expect(text.match(/HTTP\/1\.1 /g)).toHaveLength(1)
  })

  test('of any bytes ends in an answer or in nothing, and breaks nothing', async () => {
    const line = fc.constantFrom(
      'GET / HTTP/1.1',
      'Host: localhost',
      'Content-Length: 5',
      'Transfer-Encoding: chunked',
      'Connection: Upgrade',
      'Upgrade: h2c',
      'Expect: 100-continue',
      'Range: bytes=0-,1-,2-',
      'X-Forwarded-For: 1.2.3.4',
      ':',
      '',
      '\0',
      'GET',
      'OPTIONS * HTTP/1.1',
      'CONNECT a:1 HTTP/1.1',
      'GET http://evil.test/ HTTP/1.1',
      'PRI * HTTP/2.0',
    )
    await fc.assert(
      fc.asyncProperty(fc.array(line, { maxLength: 8 }), async (lines) => {
        const { text } = await say(`${lines.join('\r\n')}\r\n\r\n!\r\n\r\n`, (text) => text.includes('\r\n\r\n'))
        expect(text).toMatch(/^(?:HTTP\/1\.1 [1-4]\d\d )?/)
        expect(text).not.toMatch(/HTTP\/1\.1 5/)
      }),
      { numRuns: 150 },
    )
    expect(errors()).toEqual([])
    expect((await ask(port, '/')).status).toBe(200)
  })

  test('too many on one connection: no more are answered there, and another one may be opened', async () => {
    const request = 'GET /.well-known/host-meta HTTP/1.1\r\nHost: localhost\r\n\r\n'
    const { text } = await say(request.repeat(1_100), (text) => text.includes('HTTP/1.1 503 '))
    expect(text.match(/HTTP\/1\.1 200 /g)).toHaveLength(1_000)
    expect((await ask(port, '/')).status).toBe(200)
  })
})

test('every answer tells browsers what its page may not do', async () => {
  for (const path of ['/', '/chat/', '/nothing', '/assets/site.css']) {
    const { headers } = await ask(port, path)
    expect(headers, path).toMatchObject({
      'x-frame-options': 'DENY',
      'cross-origin-opener-policy': 'same-origin',
      'cross-origin-resource-policy': 'same-origin',
    })
    expect(headers['permissions-policy'], path).toContain('geolocation=()')
  }
})
