import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { ConfigError, type LoadOptions, loadConfig, variableOf } from './config.ts'
import { configReference } from './reference.ts'

const folder = mkdtempSync(join(tmpdir(), 'rookery-config-'))
afterAll(() => rmSync(folder, { recursive: true }))

const moduleOptions = { mam: { pageMax: { default: 50, min: 1, max: 250, doc: 'Results in one page.' } } }

const load = (text: string | undefined, env: Record<string, string> = {}, options: LoadOptions = {}) =>
  loadConfig({ text, env, moduleOptions, ...(text === undefined ? {} : { file: 'rookery.yaml' }), ...options })

function faultsOf(text: string | undefined, env: Record<string, string> = {}): readonly string[] {
  try {
    load(text, env)
  } catch (error) {
    if (error instanceof ConfigError) return error.faults
    throw error
  }
  return []
}

describe('with a file', () => {
  test('an empty one gives the safe defaults', () => {
    const { config, source, file } = load('')
    expect({ source, file }).toEqual({ source: 'file', file: 'rookery.yaml' })
    expect(config).toMatchObject({
      domains: ['localhost'],
      listen: ['127.0.0.1'],
      data: './data',
      tls: {},
      c2s: { port: 5222, tlsPort: 5223, requireTls: true, allowPlainOnLoopback: false, proxyProtocol: false },
      websocket: { port: 5290, path: '/xmpp-websocket', tls: false },
      http: { port: 5280 },
      metrics: { port: 9090, listen: ['127.0.0.1'] },
      trustedProxies: [],
      registration: 'closed',
      bus: { driver: 'memory' },
      table: { driver: 'sqlite' },
      scram: { iterations: 10_000 },
      log: { level: 'info' },
      modules: { mam: { enabled: true, pageMax: 50 } },
    })
    expect(config.limits).toMatchObject({
      stanzaBytes: 262_144,
      stanzaBytesBeforeLogin: 10_000,
      depth: 100,
      inFlightPerSession: 64,
    })
    expect(config.log.pretty).toBeUndefined()
  })

  test('what it says is taken, one text for a list of one, and an empty section for none', () => {
    const { config } = load(`
domains: [Example.ORG, example.net]
listen: '::'
tls:
c2s: { port: 15222, tlsPort: off, requireTls: false }
websocket: { port: }
http: { port: 0 }
metrics: { port: 0 }
trustedProxies: [10.0.0.0/8, 'fd00::/8', 192.0.2.1]
modules: { mam: { pageMax: 250, enabled: false } }
log: { level: debug, pretty: true }
`)
    expect(config.domains).toEqual(['example.org', 'example.net'])
    expect([config.listen, config.metrics.listen]).toEqual([['::'], ['::']])
    expect(config.tls).toEqual({ cert: [], key: [] })
    expect([config.c2s.port, config.c2s.tlsPort, config.websocket.port, config.http.port]).toEqual([15222, 'off', 'off', 0])
    expect(config.trustedProxies).toEqual(['10.0.0.0/8', 'fd00::/8', '192.0.2.1'])
    expect(config.modules.mam).toEqual({ enabled: false, pageMax: 250 })
    expect(config.log).toEqual({ level: 'debug', pretty: true })
  })

  test('it is read from the disk, and one that is not there is a fault', () => {
    const file = join(folder, 'rookery.yaml')
    writeFileSync(file, 'domains: [example.org]\n')
    expect(loadConfig({ file, env: {} }).config.domains).toEqual(['example.org'])
    const missing = join(folder, 'missing.yaml')
    expect(() => loadConfig({ file: missing, env: {} })).toThrow(`${missing} cannot be read: ENOENT`)
  })

  test('a certificate is taken when both files can be read', () => {
    const cert = join(folder, 'cert.pem')
    writeFileSync(cert, 'x')
    expect(load(`tls: { cert: ${cert}, key: ${cert}, clientCa: ${cert} }`).config.tls).toEqual({
      cert: [cert],
      key: [cert],
      clientCa: cert,
    })
  })

  test('an alias is not shared: what the environment changes in one place stays there', () => {
    const { config } = load('c2s: &s { port: 1111 }\nhttp: *s\n', { ROOKERY_HTTP_PORT: '2222' })
    expect([config.c2s.port, config.http.port]).toEqual([1111, 2222])
  })
})

describe('refused, with the place, the path and what would be right', () => {
  test.each([
    ['c2s:\n  port: 70000', 'rookery.yaml:2:3: c2s.port is 70000; it must be a port from 0 to 65535 (0: any free one) or off'],
    ['c2s: { port: "5222" }', 'rookery.yaml:1:8: c2s.port is "5222"; it must be a port from 0 to 65535 (0: any free one) or off'],
    ['c2s: { prot: 5 }', 'rookery.yaml:1:8: c2s.prot is not a key; did you mean c2s.port?'],
    ['limit: {}', 'rookery.yaml:1:1: limit is not a key; did you mean limits?'],
    ['tlsPort: 5', 'rookery.yaml:1:1: tlsPort is not a key; did you mean c2s.tlsPort?'],
    ['c2s: 5', 'rookery.yaml:1:1: c2s is 5; it must be a section, with keys of its own'],
    ['c2s: [5]', 'rookery.yaml:1:1: c2s is a list; it must be a section, with keys of its own'],
    ['domains: []', 'rookery.yaml:1:1: domains is an empty list; it must be at least 1 entry'],
    [
      'listen: localhost',
      'rookery.yaml:1:1: listen is "localhost"; it must be an IP address, such as 127.0.0.1 or :: (names are not looked up)',
    ],
    [
      'listen:\n  - ::1\n  - "::1"',
      'rookery.yaml:3:5: listen[1] is "::1"; it must be an IP address, such as 127.0.0.1 or :: (the same is there already)',
    ],
    [
      'trustedProxies: [10.0.0.0/33]',
      'rookery.yaml:1:18: trustedProxies[0] is "10.0.0.0/33"; it must be an IP address or a network, such as 10.0.0.1 or 10.0.0.0/8 (no such network)',
    ],
    ['limits: { stanzaBytes: 9999 }', 'rookery.yaml:1:11: limits.stanzaBytes is 9999; it must be at least 10000'],
    [
      'limits: { stanzaBytes: 10000, stanzaBytesBeforeLogin: 20000 }',
      'rookery.yaml:1:31: limits.stanzaBytesBeforeLogin is 20000; it must be at most limits.stanzaBytes, which is 10000',
    ],
    ['registration: maybe', 'rookery.yaml:1:1: registration is "maybe"; it must be open, invite or closed'],
    ['registration: invite', 'rookery.yaml:1:1: registration: invite is not available in this version; use open or closed'],
    [
      'bus: { driver: nats }',
      'rookery.yaml:1:8: bus.driver is nats, and bus.servers names none; give at least one, such as nats://127.0.0.1:4222',
    ],
    ['bus: { servers: [nats://a] }', 'rookery.yaml:1:8: bus.servers is for bus.driver: nats, and that is memory'],
    ['bus: { tls: { ca: /nowhere } }', 'rookery.yaml:1:15: bus.tls.ca is for bus.driver: nats, and that is memory'],
    [
      'bus: { driver: nats, servers: [nats://a, b:4222] }',
      'rookery.yaml:1:42: bus.servers[1] is "b:4222"; it must be an address, such as nats://127.0.0.1:4222 (it begins with nats:// or tls://)',
    ],
    ['bus: { driver: nats, server: nats://a }', 'rookery.yaml:1:22: bus.server is not a key; did you mean bus.servers?'],
    [
      'bus: { driver: nats, servers: [nats://a, tls://b] }',
      'rookery.yaml:1:22: bus.servers are partly tls:// and partly nats://; use TLS with all of them, or with none',
    ],
    [
      'bus: { driver: nats, servers: nats://a, prefix: a b }',
      'rookery.yaml:1:41: bus.prefix is "a b"; it must be letters, digits, - and _, with dots between them',
    ],
    [
      'bus: { driver: nats, servers: nats://a, user: a }',
      'rookery.yaml:1:41: bus.user has no bus.password; give both, or neither',
    ],
    [
      'bus: { driver: nats, servers: nats://a, user: a, password: b, token: c }',
      'rookery.yaml:1:41: bus.user and bus.token are both given; one says who we are',
    ],
    [
      'bus: { driver: nats, servers: nats://a, credentials: /nowhere }',
      'rookery.yaml:1:41: bus.credentials is "/nowhere", which cannot be read: there is no such file',
    ],
    [
      'bus: { driver: nats, servers: nats://a, tls: { cert: package.json } }',
      'rookery.yaml:1:48: bus.tls.cert has no bus.tls.key; give both, or neither',
    ],
    [
      'table: { driver: dynamodb, endpoint: localhost:8000 }',
      'rookery.yaml:1:28: table.endpoint is "localhost:8000"; it must be an address, such as http://127.0.0.1:8000',
    ],
    [
      'table: { driver: dynamodb, prefix: our rows }',
      'rookery.yaml:1:28: table.prefix is "our rows"; it must be at most 200 of a-z, A-Z, 0-9, _, - and .',
    ],
    [
      'table: { driver: dynamodb, secretAccessKey: a }',
      'rookery.yaml:1:28: table.secretAccessKey has no table.accessKeyId; give both, or neither',
    ],
    [
      'table: { driver: dynamodb, accessKeyId: a, secretAccessKey: b }',
      'rookery.yaml:1:28: table.accessKeyId is for DynamoDB Local, and there is no table.endpoint; for AWS leave it out, and give this process a role or AWS_ACCESS_KEY_ID',
    ],
    [
      'bus: { driver: nats, servers: nats://a }',
      'rookery.yaml:1:8: bus.driver is nats, and table.driver is sqlite, a file that several processes cannot share; set table.driver to dynamodb, or bus.driver to memory',
    ],
    [
      'table: { driver: dynamodb }',
      'rookery.yaml:1:10: table.driver is dynamodb, and bus.driver is memory; what several processes can write they must also talk about: set bus.driver to nats, or table.driver to sqlite',
    ],
    ['c2s: { port: 5280 }', 'rookery.yaml:1:1: http.port is 5280, as is c2s.port; each must have its own, or be off'],
    [
      'tls: { cert: /nowhere/cert.pem, key: /nowhere }',
      'rookery.yaml:1:8: tls.cert is "/nowhere/cert.pem", which cannot be read: there is no such file',
    ],
    [
      'tls: { cert: [/nowhere/a.pem, /nowhere/b.pem], key: /nowhere }',
      'rookery.yaml:1:48: tls.key lists 1, and tls.cert 2; each certificate has its key, in the same order',
    ],
    [
      'tls: { clientCa: /nowhere/ca.pem }',
      'rookery.yaml:1:8: tls.clientCa is "/nowhere/ca.pem", which cannot be read: there is no such file',
    ],
    ['tls: { key: / }', 'rookery.yaml:1:8: tls.key has no tls.cert; give both, or neither for a self-signed certificate'],
    ['listen: 5', 'rookery.yaml:1:1: listen is 5; it must be a list, each entry an IP address, such as 127.0.0.1 or ::'],
    ['websocket: { path: xmpp }', 'rookery.yaml:1:14: websocket.path is "xmpp"; it must be a path, such as /xmpp-websocket'],
    ['modules: { mam: { pageMax: 0 } }', 'rookery.yaml:1:19: modules.mam.pageMax is 0; it must be at least 1'],
    ['modules: { man: {} }', 'rookery.yaml:1:12: modules.man is not a key; did you mean modules.mam?'],
    ['__proto__: { port: 1 }', 'rookery.yaml:1:1: __proto__ is not a key; the keys here are domains, '],
    ['log: { pretty: }', 'rookery.yaml:1:8: log.pretty is empty; it must be true or false'],
  ])('%j', (text, fault) => {
    expect(faultsOf(text)[0]).toContain(fault)
  })

  test('a domain that cannot be one', () => {
    expect(faultsOf('domains: ["a@b", ""]')).toEqual([
      expect.stringMatching(/^rookery\.yaml:1:11: domains\[0\] is "a@b"; it must be a domain name, such as example\.org \(.+\)$/),
      expect.stringMatching(/^rookery\.yaml:1:18: domains\[1\] is ""; it must be/),
    ])
  })

  test('the same domain twice, once it is prepared', () => {
    expect(faultsOf('domains: [example.org, EXAMPLE.org]')[0]).toContain('the same is there already')
  })

  test.each([
    ['c2s: {}\nc2s: {}', 'rookery.yaml:2:1: Map keys must be unique'],
    ['c2s:\n  port: [1', 'rookery.yaml:2:'],
    ['a: *nothing', 'rookery.yaml:1:4: there is no &nothing before *nothing'],
    ['a: !!js/function x', 'rookery.yaml:1:4: Unresolved tag'],
    ['- a\n- b', 'rookery.yaml:1:1: the file must hold keys and their values'],
    ['hello', 'rookery.yaml:1:1: the file must hold keys and their values'],
    ['a: 1\n---\nb: 2', 'rookery.yaml:2:'],
  ])('what is no YAML for us, with line and column: %j', (text, fault) => {
    expect(faultsOf(text)[0]).toContain(fault)
  })

  test('a file that grows when it is read', () => {
    const bomb = `a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [${Array(9).fill('*a')}]\nc: &c [${Array(9).fill('*b')}]\nd: [${Array(9).fill('*c')}]`
    expect(faultsOf(bomb)).toEqual([expect.stringContaining('Excessive alias count')])
    // Each alias was looked for in the whole of the file: 30 kB took a dozen seconds.
    const many = `data: &d ./data\ndomains: [${'*d, '.repeat(20_000)}*e]\n`
    expect(faultsOf(many)).toEqual([expect.stringContaining('there is no &e before *e')])
  })

  test('every fault at once, also those between keys of which neither is wrong by itself', () => {
    const faults = faultsOf('c2s: { port: 70000, tlsPort: 5290 }\nregistration: invite\nnonsense: 1\n', {
      ROOKERY_HTTP_PORT: 'x',
      ROOKERY_NO: '1',
    })
    expect(faults).toHaveLength(6)
    const message = new ConfigError('rookery.yaml', faults).message
    expect(message.split('\n')[0]).toBe('rookery.yaml: 6 faults')
    for (const part of ['c2s.port is', 'websocket.port is 5290', 'invite', 'nonsense', 'http.port is "x"', 'ROOKERY_NO'])
      expect(message).toContain(part)
  })

  test('what is wrong by itself is not also held against others', () => {
    expect(faultsOf('c2s: { port: x }\nhttp: { port: 5222 }')).toHaveLength(1)
    expect(faultsOf('c2s: 5\nhttp: { port: 5222 }')).toHaveLength(1)
  })

  test('ports that are off or left to the system are never the same', () => {
    expect(faultsOf('c2s: { port: 0, tlsPort: 0 }\nhttp: { port: off }\nmetrics: { port: off }')).toEqual([])
  })
})

describe('the environment', () => {
  test('wins over the file, in every kind of key', () => {
    const { config } = load('c2s: { port: 1, requireTls: true }\ndomains: [a]\nmodules: { mam: { pageMax: 3 } }\n', {
      ROOKERY_C2S_PORT: '0',
      ROOKERY_C2S_TLS_PORT: 'off',
      ROOKERY_C2S_REQUIRE_TLS: 'FALSE',
      ROOKERY_DOMAINS: 'b.example, c.example',
      ROOKERY_LIMITS_STANZA_BYTES: '20000',
      ROOKERY_DATA: '/srv/rookery',
      ROOKERY_MODULES_MAM_PAGE_MAX: '7',
      ROOKERY_MODULES_MAM_ENABLED: 'no',
      ROOKERY_LISTEN: '',
      PATH: '/bin',
    })
    expect(config).toMatchObject({
      c2s: { port: 0, tlsPort: 'off', requireTls: false },
      domains: ['b.example', 'c.example'],
      limits: { stanzaBytes: 20_000 },
      data: '/srv/rookery',
      modules: { mam: { pageMax: 7, enabled: false } },
      listen: ['127.0.0.1'],
    })
  })

  test.each([
    ['ROOKERY_C2S_PROT', '1', 'ROOKERY_C2S_PROT is not a variable of ours; did you mean ROOKERY_C2S_PORT'],
    ['ROOKERY_C2S_TLSPORT', '1', 'did you mean ROOKERY_C2S_TLS_PORT'],
    ['ROOKERY_C2S_PORT', '52x', 'ROOKERY_C2S_PORT: c2s.port is "52x"; it must be a port'],
    ['ROOKERY_C2S_REQUIRE_TLS', 'maybe', 'ROOKERY_C2S_REQUIRE_TLS: c2s.requireTls is "maybe"; it must be true or false'],
    ['ROOKERY_LIMITS_DEPTH', '1e3', 'ROOKERY_LIMITS_DEPTH: limits.depth is "1e3"; it must be a whole number from 10 to 1000'],
    ['ROOKERY_LISTEN', '::1,host', 'ROOKERY_LISTEN: listen[1] is "host"; it must be an IP address'],
    ['ROOKERY_REGISTRATION', 'invite', 'ROOKERY_REGISTRATION: registration: invite is not available'],
  ])('%s=%s is refused: %s', (name, value, fault) => {
    expect(faultsOf('', { [name]: value })[0]).toContain(fault)
  })

  test('what Kubernetes says of services called rookery is passed over', () => {
    const env = {
      ROOKERY_SERVICE_HOST: '10.0.0.1',
      ROOKERY_EDGE_SERVICE_PORT_C2S: '5222',
      ROOKERY_PORT: 'tcp://10.0.0.1:5222',
      ROOKERY_HTTP_PORT: 'tcp://10.0.0.1:5280',
      ROOKERY_PORT_5222_TCP_ADDR: '10.0.0.1',
      ROOKERY_PORT_5222_TCP: 'tcp://10.0.0.1:5222',
    }
    expect(load('', env).config.http.port).toBe(5280)
  })

  test('two keys of one variable stop the start', () => {
    const spec = { default: 1, doc: 'x' }
    expect(() => load('', {}, { moduleOptions: { a: { bC: spec }, aB: { c: spec } } })).toThrow('are both ROOKERY_MODULES_A_B_C')
  })

  test('the name of a variable is that of its key, in words', () => {
    expect(variableOf(['c2s', 'tlsPort'])).toBe('ROOKERY_C2S_TLS_PORT')
    expect(variableOf(['modules', 'chat-states', 'onlyLast'])).toBe('ROOKERY_MODULES_CHAT_STATES_ONLY_LAST')
  })
})

describe('without a file', () => {
  test('the server can be tried at once, from this machine only', () => {
    const { config, source, file } = load(undefined)
    expect({ source, file }).toEqual({ source: 'laptop', file: undefined })
    expect(config).toMatchObject({
      listen: ['127.0.0.1'],
      registration: 'open',
      c2s: { allowPlainOnLoopback: true, requireTls: true },
    })
    expect(config.limits.registrationsPerHourPerAddress).toBe(0)
  })

  test('the environment still wins', () => {
    const { config, source } = load(undefined, {
      ROOKERY_REGISTRATION: 'closed',
      ROOKERY_LISTEN: '127.0.0.1,::1',
      ROOKERY_C2S_PORT: '0',
    })
    expect(source).toBe('laptop')
    expect(config.registration).toBe('closed')
    expect(config.listen).toEqual(['127.0.0.1', '::1'])
  })

  test.each([
    [{ ROOKERY_LISTEN: '0.0.0.0' }],
    [{ ROOKERY_LISTEN: '127.0.0.1,192.0.2.1' }],
    [{ ROOKERY_LISTEN: '::' }],
    [{ ROOKERY_TRUSTED_PROXIES: '127.0.0.1' }],
    [{ ROOKERY_C2S_PROXY_PROTOCOL: 'true' }],
  ])('%j lets others connect: the safe defaults hold', (env) => {
    const { config, source } = load(undefined, env as Record<string, string>)
    expect(source).toBe('environment')
    expect(config).toMatchObject({ registration: 'closed', c2s: { allowPlainOnLoopback: false } })
  })

  test('a fault is one of the environment', () => {
    expect(() => load(undefined, { ROOKERY_C2S_PORT: 'x' })).toThrow(/^the environment: a fault\n {2}ROOKERY_C2S_PORT: c2s\.port/)
  })
})

describe('the reference', () => {
  const page = configReference(moduleOptions)

  test('has each key with its variable, default, bounds and meaning, and the options of modules', () => {
    expect(page).toContain('| `c2s.tlsPort` | `ROOKERY_C2S_TLS_PORT` | `5223` | 0 to 65535, `off` | Where clients connect')
    expect(page).toContain('| `modules.mam.pageMax` | `ROOKERY_MODULES_MAM_PAGE_MAX` | `50` | 1 to 250 | Results in one page. |')
    expect(page).toContain('| `modules.mam.enabled` | `ROOKERY_MODULES_MAM_ENABLED` | `true` |')
    expect(page).toContain('| `tls.clientCa` | `ROOKERY_TLS_CLIENT_CA` | none |')
  })

  test('every row has five cells and a sentence that says what the key means', () => {
    const rows = page.split('\n').filter((line) => line.includes('`ROOKERY_') && line.startsWith('|'))
    expect(rows.length).toBeGreaterThanOrEqual(40)
    for (const row of rows) expect(row).toMatch(/^\| `[^`]+` \| `ROOKERY_[A-Z0-9_]+` \| .+ \| .* \| .{10,}[.:)] \|$/)
  })
})

test('every address of both families: `::` takes IPv4 too, so 0.0.0.0 beside it is not opened again', () => {
  const { config } = loadConfig({ text: "listen: ['0.0.0.0', '::', '127.0.0.1']", env: {} })
  expect(config.listen).toEqual(['::'])
})
