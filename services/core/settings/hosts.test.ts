import { describe, expect, test } from 'vitest'
import { parseJid } from '#xmpp/jid.ts'
import { ConfigError, loadConfig } from './config.ts'
import { factsOf, isAdmin, serverFacts } from './hosts.ts'
import { configReference } from './reference.ts'

const moduleOptions = {
  contact: {
    abuse: { default: [] as string[], perDomain: true, doc: 'Where to report abuse.' },
    admin: { default: [] as string[], perDomain: true, doc: 'Where the administrators are.' },
    speed: { default: 1, doc: 'The same for all.' },
  },
  ping: {},
}

const load = (lines: readonly string[], env: Record<string, string> = {}) =>
  loadConfig({ text: lines.join('\n'), file: 'rookery.yaml', env, moduleOptions }).config

function faultsOf(...lines: readonly string[]): readonly string[] {
  try {
    load(lines)
  } catch (error) {
    if (error instanceof ConfigError) return error.faults
    throw error
  }
  return []
}

const DOMAINS = 'domains: [a.example, b.example]'

describe('what holds for one domain', () => {
  const config = load([
    DOMAINS,
    'registration: closed',
    'admins: [boss@a.example]',
    'modules: { contact: { abuse: [all], admin: [all], speed: 2 } }',
    'hosts:',
    '  b.example:',
    '    registration: open',
    '    modules:',
    '      contact:',
    '        abuse: here',
  ])
  const server = serverFacts(config, '1', config.modules)

  test('is what its section says, and else what holds for all', () => {
    const { registration, admins, moduleOptions } = factsOf(server, 'b.example')
    expect({ registration, admins }).toEqual({ registration: 'open', admins: ['boss@a.example'] })
    expect(moduleOptions.contact).toEqual({ enabled: true, abuse: ['here'], admin: ['all'], speed: 2 })
  })

  test('without a section it is what holds for all, and always the same object', () => {
    expect(factsOf(server, 'a.example')).toBe(server)
    expect(factsOf(server, 'b.example')).toBe(factsOf(server, 'b.example'))
  })
})

describe('who administers a domain', () => {
  const adminsOf = (hosts: string, domain: string) => {
    const config = load([DOMAINS, 'admins: [boss@a.example, Chief@b.example]', hosts])
    const server = serverFacts(config, '1', {})
    return ['boss@a.example', 'chief@b.example', 'other@b.example'].filter((jid) => isAdmin(server, domain, parseJid(jid)))
  }

  test('whom admins names, on his own domain', () => {
    expect(adminsOf('', 'a.example')).toEqual(['boss@a.example'])
    expect(adminsOf('', 'b.example')).toEqual(['chief@b.example'])
  })

  test('whom its section names, from any domain, and nobody else', () => {
    const hosts = 'hosts: { b.example: { admins: [boss@a.example, other@b.example] } }'
    expect(adminsOf(hosts, 'b.example')).toEqual(['boss@a.example', 'other@b.example'])
    expect(adminsOf(hosts, 'a.example')).toEqual(['boss@a.example'])
    expect(adminsOf('hosts: { b.example: { admins: [] } }', 'b.example')).toEqual([])
  })
})

describe('refused, with the key and its place', () => {
  test.each<[string, readonly string[], string]>([
    [
      'a domain that is not served',
      ['hosts:', '  b.exampel: {}'],
      'rookery.yaml:3:3: hosts.b.exampel is none of the domains; did you mean b.example',
    ],
    [
      'a key that is none',
      ['hosts:', '  b.example:', '    regstration: open'],
      'rookery.yaml:4:5: hosts.b.example.regstration is not a key; did you mean hosts.b.example.registration?',
    ],
    ['a key that all domains share', ['hosts: { b.example: { listen: [::] } }'], 'hosts.b.example.listen is not a key'],
    [
      'an option that all domains share',
      ['hosts: { b.example: { modules: { contact: { speed: 3 } } } }'],
      'hosts.b.example.modules.contact.speed is not a key; did you mean modules.contact.speed?',
    ],
    [
      'a module without options of a domain',
      ['hosts: { b.example: { modules: { ping: {} } } }'],
      'hosts.b.example.modules.ping is not a key; the keys here are contact',
    ],
    [
      'a value out of bounds',
      ['hosts: { b.example: { registration: perhaps } }'],
      'hosts.b.example.registration is "perhaps"; it must be open, invite or closed',
    ],
    [
      'what is not in this version',
      ['hosts: { b.example: { registration: invite } }'],
      'hosts.b.example.registration: invite is not available',
    ],
    ['no section', ['hosts: { b.example: open }'], 'hosts.b.example is "open"; it must be a section'],
    ['no sections', ['hosts: [b.example]'], 'hosts is a list; it must be a section'],
    ['an administrator who is no account', ['admins: [a.example]'], 'admins[0] is "a.example"; it must be an account'],
    [
      'an administrator from elsewhere',
      ['admins: [boss@c.example]'],
      'rookery.yaml:2:1: admins: boss@c.example is on none of the domains',
    ],
    [
      'one of a domain',
      ['hosts: { b.example: { admins: [boss@c.example] } }'],
      'hosts.b.example.admins: boss@c.example is on none of the domains',
    ],
  ])('%s', (_name, lines, fault) => {
    expect(faultsOf(DOMAINS, ...lines)).toEqual([expect.stringContaining(fault)])
  })

  test('two domains whose names differ in a sign used to be one variable: a domain is in the file alone', () => {
    const lines = ['domains: [a-b.example, a.b.example]', 'hosts: { a-b.example: {}, a.b.example: { registration: open } }']
    expect(load(lines).hosts['a.b.example']).toMatchObject({ registration: 'open' })
    expect(() => load(lines, { ROOKERY_HOSTS_A_B_EXAMPLE_REGISTRATION: 'open' })).toThrow(/is not a variable of ours/)
  })
})

test('the reference says what one domain may have otherwise', () => {
  const page = configReference(moduleOptions)
  expect(page).toContain('| `hosts.DOMAIN.registration` |')
  expect(page).toContain('| `hosts.DOMAIN.modules.contact.abuse` |')
  expect(page).not.toContain('hosts.DOMAIN.modules.contact.speed')
})
