import { once } from 'node:events'
import { connect, createServer } from 'node:net'
import { SaxesParser } from 'saxes'
import { afterEach, describe, expect, test } from 'vitest'
import { CONVERSE_PATH } from './chat.ts'
import type { WebFacts } from './facts.ts'
import { type RunningWeb, startWeb } from './main.ts'
import { ask, FACTS, FINGERPRINT, testProcess } from './web.fixture.ts'

const running: RunningWeb[] = []
afterEach(async () => {
  await Promise.all(running.splice(0).map((role) => role.stop()))
})

async function start(
  text?: string,
  facts: WebFacts = FACTS,
  change: (process: ReturnType<typeof testProcess>) => void = () => {},
) {
  const process = testProcess(text)
  change(process)
  const role = await startWeb(process, facts)
  running.push(role)
  return { process, port: role.listeners[0]!.port }
}

const WITHOUT_WEBSOCKET: WebFacts = { ...FACTS, listeners: FACTS.listeners.filter(({ name }) => name !== 'websocket') }
/** A proxy on this machine, in front of a server for others. */
const PROXIED = 'domains: [example.org]\ntrustedProxies: [127.0.0.1]'
const FORWARDED = { 'x-forwarded-proto': 'https', 'x-forwarded-host': 'chat.example.org', 'x-forwarded-for': '192.0.2.7' }

async function links(port: number, headers: Record<string, string> = {}): Promise<string[]> {
  const { status, body } = await ask(port, '/.well-known/host-meta.json', { headers })
  expect(status).toBe(200)
  return (JSON.parse(body) as { links: { href: string }[] }).links.map(({ href }) => href)
}

describe('XEP-0156 §2 HTTP Lookup Method', () => {
  test('host-meta is an XRD with a link to the WebSocket', async () => {
    const { port } = await start()
    const { status, headers, body } = await ask(port, '/.well-known/host-meta', { headers: { host: `localhost:${port}` } })
    expect([status, headers['content-type']]).toEqual([200, 'application/xrd+xml; charset=utf-8'])
    expect(body).toMatch(/^<\?xml version="1.0" encoding="utf-8"\?>\n/)
    const elements: unknown[] = []
    const parser = new SaxesParser({ xmlns: false })
    parser.on('opentag', ({ name, attributes }) => elements.push([name, attributes]))
    parser.write(body).close() // throws on what is not well-formed
    expect(elements).toEqual([
      ['XRD', { xmlns: 'http://docs.oasis-open.org/ns/xri/xrd-1.0' }],
      ['Link', { rel: 'urn:xmpp:alt-connections:websocket', href: 'ws://localhost:15290/xmpp-websocket' }],
    ])
  })

  test('host-meta.json is the same as JRD', async () => {
    const { port } = await start()
    const { headers, body } = await ask(port, '/.well-known/host-meta.json')
    expect(headers['content-type']).toBe('application/json; charset=utf-8')
    const href = 'ws://127.0.0.1:15290/xmpp-websocket'
    expect(JSON.parse(body)).toEqual({ links: [{ rel: 'urn:xmpp:alt-connections:websocket', href }] })
  })

  test('pages of any site may read both, and nothing else', async () => {
    const { port } = await start()
    const allowed = async (path: string) => (await ask(port, path)).headers['access-control-allow-origin']
    expect(await allowed('/.well-known/host-meta')).toBe('*')
    expect(await allowed('/.well-known/host-meta.json')).toBe('*')
    for (const path of ['/', '/chat/', '/assets/chat.js', '/nothing']) expect(await allowed(path), path).toBeUndefined()
  })

  test('behind a trusted proxy with TLS the link is wss at the host that the proxy names', async () => {
    const { port } = await start(PROXIED)
    expect(await links(port, FORWARDED)).toEqual(['wss://chat.example.org/xmpp-websocket'])
    expect(await links(port, { ...FORWARDED, 'x-forwarded-host': 'chat.example.org:8443' })).toEqual([
      'wss://chat.example.org:8443/xmpp-websocket',
    ])
  })

  test('X-Forwarded headers of anybody else are not believed', async () => {
    const { port } = await start('domains: [example.org]\ntrustedProxies: [192.0.2.0/24]')
    expect(await links(port, { ...FORWARDED, host: 'example.org' })).toEqual([])
    const { status } = await ask(port, '/.well-known/host-meta', { headers: { ...FORWARDED, host: 'evil.test' } })
    expect(status).toBe(421)
  })

  test('no link leads where a client could not log in: without TLS from another machine, or with no WebSocket', async () => {
    const safe = await start('domains: [example.org]')
    expect(await links(safe.port, { host: 'example.org' })).toEqual([])
    const proxied = await start(`${PROXIED}\nc2s: { allowPlainOnLoopback: true }`)
    expect(await links(proxied.port, { ...FORWARDED, 'x-forwarded-proto': 'http' })).toEqual([])
    const off = await start(undefined, WITHOUT_WEBSOCKET)
    expect(await links(off.port)).toEqual([])
  })

  test('a WebSocket with TLS of its own is linked as wss, at its own port', async () => {
    const { port } = await start('domains: [example.org]\nwebsocket: { tls: true, path: /ws }')
    expect(await links(port, { host: 'example.org' })).toEqual(['wss://example.org:15290/ws'])
  })
})

describe('RFC 9112 §3.2 Host', () => {
  test('what is no host is refused with 400 everywhere, and is not repeated', async () => {
    const { port } = await start()
    for (const path of ['/', '/chat/', '/.well-known/host-meta', '/nothing'])
      for (const host of ['a"><script>alert(1)</script>', "x;script-src 'unsafe-inline'", 'a@b', 'a/b']) {
        const { status, headers, body } = await ask(port, path, { headers: { host } })
        expect(status, `${path} ${host}`).toBe(400)
        expect(JSON.stringify(headers) + body).not.toContain(host)
      }
  })

  test('the same holds for what a trusted proxy hands on', async () => {
    const { port } = await start(PROXIED)
    const { status } = await ask(port, '/chat/', { headers: { ...FORWARDED, 'x-forwarded-host': 'a; script-src *' } })
    expect(status).toBe(400)
  })

  test('§15.5.20 of RFC 9110: host-meta of a host that is not ours is 421', async () => {
    const { port } = await start()
    for (const host of ['evil.test', '127.0.0.1.evil.test', '192.0.2.1']) {
      const { status, body } = await ask(port, '/.well-known/host-meta', { headers: { host } })
      expect([status, body.includes(host)], host).toEqual([421, false])
    }
  })
})

describe('the front page', () => {
  test('says what runs here, how to connect, the ports that are open, and the fingerprint', async () => {
    const { port } = await start()
    const { status, headers, body } = await ask(port, '/')
    expect([status, headers['content-type']]).toEqual([200, 'text/html; charset=utf-8'])
    for (const text of ['1.2.3', 'localhost', '15222', '15223', '15290', '/xmpp-websocket', FINGERPRINT, 'href="/chat/"'])
      expect(body, text).toContain(text)
    expect(body).toContain('Registration is <strong>open</strong>')
  })

  test('loads nothing from elsewhere', async () => {
    const { port } = await start()
    for (const path of ['/', '/nothing', '/chat/']) {
      const { body } = await ask(port, path)
      expect(body).not.toMatch(/(?:src|<link[^>]*href)="(?!\/)/)
    }
    const css = await ask(port, '/assets/site.css')
    expect(css.body).not.toMatch(/url\(|@import/)
  })

  test('leaves out what is not so: a closed registration, a certificate of an authority, no WebSocket', async () => {
    const { port } = await start('domains: [example.org, example.com]', {
      ...WITHOUT_WEBSOCKET,
      certificate: { selfSigned: false, fingerprint: FINGERPRINT },
    })
    const { body } = await ask(port, '/')
    expect(body).toContain('Registration is <strong>closed</strong>')
    expect(body).toMatch(/bin\/rookery user add NAME@[\w.]+ --config FILE</) // without it, it is another server's
    expect(body).toContain('<code>example.org</code> and <code>example.com</code>')
    for (const text of [FINGERPRINT, '/chat/', 'WebSocket']) expect(body, text).not.toContain(text)
  })

  test('a name that is markup is shown, not obeyed', async () => {
    const domain = `<img src=x onerror='a'>&"`
    const { port } = await start(undefined, FACTS, (process) => {
      process.server = { ...process.server, domains: [domain] }
    })
    for (const path of ['/', '/chat/']) {
      const { body } = await ask(port, path)
      expect(body).not.toContain('<img src=x')
      expect(body).toContain('&lt;img src=x onerror=&#39;a&#39;&gt;&amp;&quot;')
    }
  })
})

describe('the chat page', () => {
  const factsOf = (body: string) => JSON.parse(/<script type="application\/json" id="facts">(.*)<\/script>/.exec(body)![1]!)

  test('tells its script where the WebSocket is, which domains there are, and whether one may register', async () => {
    const { port } = await start()
    const { status, body } = await ask(port, '/chat/')
    expect(status).toBe(200)
    expect(factsOf(body)).toEqual({
      websocket: { port: 15290, path: '/xmpp-websocket', tls: false },
      domains: ['localhost'],
      registration: true,
      encryption: false,
      converse: CONVERSE_PATH,
    })
    const closed = await start('registration: closed', WITHOUT_WEBSOCKET)
    expect(factsOf((await ask(closed.port, '/chat/')).body)).toMatchObject({ websocket: null, registration: false })
  })

  test('offers end-to-end encryption once accounts can publish their keys', async () => {
    const features = { account: ['http://jabber.org/protocol/pubsub#publish'] }
    const { port } = await start(undefined, FACTS, (process) => {
      process.modules = [{ name: 'pep', home: 'presence', xeps: [], features, setup() {} }] as never[]
    })
    expect(factsOf((await ask(port, '/chat/')).body)).toMatchObject({ encryption: true })
  })

  test('may talk to this server only, be it reached directly or through a proxy', async () => {
    const { port } = await start()
    const connectable = async (host: string) => {
      const { headers } = await ask(port, '/chat/', { headers: { host } })
      return /connect-src ([^;]*)/.exec(headers['content-security-policy'] as string)![1]
    }
    expect(await connectable(`localhost:${port}`)).toBe(`'self' data: ws://localhost:15290 wss://localhost:${port}`)
    expect(await connectable('chat.example.org')).toBe("'self' data: ws://chat.example.org:15290 wss://chat.example.org")
    expect(await connectable('[::1]:80')).toBe("'self' data: ws://*:15290")
  })

  test('everything it names is there, and Converse may be kept for ever', async () => {
    const { port } = await start()
    const { body } = await ask(port, '/chat/')
    const paths = [...body.matchAll(/(?:src|href)="(\/[^"]+)"/g)].map(([, path]) => path!)
    expect(paths.length).toBeGreaterThan(3)
    for (const path of [...paths, `${CONVERSE_PATH}converse.min.js`, '/chat/curve25519_compiled.wasm'])
      expect((await ask(port, path)).status, path).toBe(200)
    const script = await ask(port, `${CONVERSE_PATH}converse.min.js`)
    expect(script.headers['content-type']).toBe('application/javascript; charset=utf-8')
    expect(script.headers['cache-control']).toBe('public, max-age=31536000, immutable')
    expect((await ask(port, '/chat/curve25519_compiled.wasm')).headers['content-type']).toBe('application/wasm')
  })

  test('/chat leads to /chat/', async () => {
    const { port } = await start()
    expect(await ask(port, '/chat')).toMatchObject({ status: 308, headers: { location: '/chat/' } })
  })
})

describe('every answer', () => {
  test('has the headers that keep a page to itself, and does not say what serves it', async () => {
    const { port } = await start()
    for (const path of ['/', '/chat/', '/nothing', '/assets/site.css', `${CONVERSE_PATH}converse.min.css`]) {
      const { headers } = await ask(port, path)
      expect(headers, path).toMatchObject({ 'x-content-type-options': 'nosniff', 'referrer-policy': 'no-referrer' })
      expect(headers['content-security-policy'], path).toMatch(/^default-src 'none';.*frame-ancestors 'none'$/)
      expect([headers.server, headers['x-powered-by']], path).toEqual([undefined, undefined])
    }
  })

  test('to HEAD is that to GET without its body', async () => {
    const { port } = await start()
    for (const path of ['/', '/chat/', '/.well-known/host-meta', '/assets/site.css']) {
      const [get, head] = await Promise.all([ask(port, path), ask(port, path, { method: 'HEAD' })])
      expect([head.status, head.body, head.headers['content-length']], path).toEqual([200, '', get.headers['content-length']])
    }
  })

  test('to any other method is 405 and the end of the connection, whatever body follows', async () => {
    const { port } = await start()
    for (const method of ['POST', 'PUT', 'DELETE', 'OPTIONS', 'TRACE', 'PROPFIND'])
      for (const path of ['/', '/nothing']) {
        const answer = await ask(port, path, { method })
        expect(answer, `${method} ${path}`).toMatchObject({ status: 405, headers: { allow: 'GET, HEAD', connection: 'close' } })
      }
    const { status, headers } = await ask(port, '/', { body: 'x'.repeat(1000), headers: { 'content-length': 1000 } })
    expect([status, headers.connection]).toEqual([200, 'close'])
  })

  test('is 404 with a page for what is not there, folders and ways out of them included', async () => {
    const { process, port } = await start()
    const outside = ['/assets/../main.ts', '/assets/%2e%2e/main.ts', '/assets/..%2fmain.ts', `${CONVERSE_PATH}../package.json`]
    for (const path of [
      '/nothing',
      '/assets/',
      '/assets/main.ts',
      CONVERSE_PATH,
      `${CONVERSE_PATH}converse.min.js.map`,
      ...outside,
    ]) {
      const { status, headers, body } = await ask(port, path)
      expect([status, headers['content-type']], path).toEqual([404, 'text/html; charset=utf-8'])
      expect(body, path).toContain('Nothing here')
    }
    expect(process.log.lines.filter(({ level }) => level === 'error')).toEqual([])
  })

  test('is 400 for what is no address', async () => {
    const { port } = await start()
    expect((await ask(port, '/%zz')).status).toBe(400)
  })

  test('is counted by its status', async () => {
    const { process, port } = await start()
    await ask(port, '/')
    await ask(port, '/nothing')
    const text = process.metrics.text()
    expect(text).toContain('rookery_http_responses_total{status="200"} 1\n')
    expect(text).toContain('rookery_http_responses_total{status="404"} 1\n')
  })
})

describe('starting and stopping', () => {
  test('a port that is taken stops the start, and the error names it and its key', async () => {
    const other = createServer().listen(0, '127.0.0.1')
    await once(other, 'listening')
    const { port } = other.address() as { port: number }
    const process = testProcess()
    process.config.http.port = port
    await expect(startWeb(process, FACTS)).rejects.toThrow(
      `port ${port} on 127.0.0.1 is taken by another program; stop it, or set http.port`,
    )
    other.close()
  })

  test('off: nothing listens', async () => {
    const process = testProcess()
    process.config.http.port = 'off'
    const role = await startWeb(process, FACTS)
    expect(role.listeners).toEqual([])
    await role.stop()
  })

  test('a client that never ends its request keeps the role from stopping for 2 s at most', async () => {
    const process = testProcess()
    const role = await startWeb(process, FACTS)
    const slow = connect(role.listeners[0]!.port, '127.0.0.1')
    slow.write('GET / HTTP/1.1\r\nHost: localhost\r\n\r\nGET / HTTP/1.1\r\nHost: loc')
    await once(slow, 'data') // so the second request has begun
    let stopped = false
    const stopping = role.stop().then(() => {
      stopped = true
    })
    await process.clock.settle(1_999)
    expect(stopped).toBe(false)
    const closed = once(slow, 'close')
    await process.clock.settle(1)
    await Promise.all([stopping, closed])
  })
})
