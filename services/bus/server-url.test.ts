import { expect, test } from 'vitest'
import { checkServerUrl } from './server-url.ts'

test.each(['nats://127.0.0.1:4222', 'tls://nats.example.org', 'nats://[::1]:4222', 'nats://nats_1:4222'])('%s is one', (url) => {
  expect(checkServerUrl(url)).toBe(url)
})

test.each([
  ['127.0.0.1:4222', 'it begins with nats:// or tls://'],
  ['ws://nats:8080', 'it begins with nats:// or tls://'],
  ['nats://', 'it begins with nats:// or tls://'],
  ['nats://a b', 'a host follows, and a port'],
  ['nats://nats:70000', 'a host follows, and a port'],
  ['nats://a,nats://b', 'a host follows, and a port'],
  ['nats://romeo:secret@nats', 'names and passwords go into bus.user and bus.password'],
  ['nats://nats:4222/', 'nothing follows the port'],
  ['nats://nats:4222/a', 'nothing follows the port'],
])('%s is none', (url, why) => {
  expect(() => checkServerUrl(url)).toThrow(why)
})
