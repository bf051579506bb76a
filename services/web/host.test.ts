import { describe, expect, test } from 'vitest'
import { isOurHost, parseHost } from './host.ts'

describe('RFC 3986 §3.2.2 Host', () => {
  test.each([
    ['example.org', 'example.org', ''],
    ['EXAMPLE.org.:8080', 'example.org', ':8080'],
    ['localhost:5280', 'localhost', ':5280'],
    ['127.0.0.1', '127.0.0.1', ''],
    ['[::1]:5280', '[::1]', ':5280'],
    ['xn--bcher-kva.example', 'xn--bcher-kva.example', ''],
  ])('%s is a host', (text, name, port) => {
    expect(parseHost(text)).toEqual({ name, port })
  })

  test.each([
    '',
    ':80',
    'a b',
    'a;script-src *',
    'a"><script>',
    'user@example.org',
    'example.org/path',
    'example.org:',
    'example.org:65536',
    'example.org:123456',
    'a..b',
    '-a',
    '.a',
    '*',
    '::1',
    '[::1',
    '[:::1]',
    '[1.2.3.4]',
    '[fe80::1%25eth0]',
    'bücher.example',
    `${'a'.repeat(255)}.org`,
    'example.org\n',
  ])('%j is none', (text) => {
    expect(parseHost(text)).toBeUndefined()
  })
})

describe('a host of ours', () => {
  const ours = (text: string, local = '192.0.2.1', domains = ['example.org', 'bücher.example']) =>
    isOurHost(parseHost(text)!, domains, local)

  test('is a domain of ours or below one, however it is written', () => {
    for (const host of ['example.org', 'Chat.Example.ORG:443', 'xn--bcher-kva.example']) expect(ours(host), host).toBe(true)
    for (const host of ['example.com', 'notexample.org', 'example.org.evil.test', 'org']) expect(ours(host), host).toBe(false)
  })

  test('is the address that was connected to, and no other', () => {
    expect(ours('192.0.2.1:5280')).toBe(true)
    expect(ours('192.0.2.1', '::ffff:192.0.2.1')).toBe(true)
    expect(ours('192.0.2.2')).toBe(false)
    expect(ours('[2001:db8:0:0::1]', '2001:db8::1')).toBe(true)
    expect(ours('[2001:db8::2]', '2001:db8::1')).toBe(false)
    expect(ours('[::1]', '127.0.0.1')).toBe(false)
  })

  test('is localhost on a loopback address only', () => {
    expect(ours('localhost', '127.0.0.1')).toBe(true)
    expect(ours('localhost', '::1')).toBe(true)
    expect(ours('localhost', '192.0.2.1')).toBe(false)
  })
})
