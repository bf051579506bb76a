import { describe, expect, test } from 'vitest'
import type { AnyModule } from '#core/module.ts'
import { el } from '#xmpp/stanza.ts'
import { connect, testProcess } from '../edge.fixture.ts'
import { openEdge } from '../main.ts'
import { featuresAfterLogin, featuresBeforeLogin } from './features.ts'

/** A module with a feature that counts how often it was made. */
function counting() {
  const made = { before: 0, after: 0 }
  const module = {
    name: 'counting',
    streamFeaturesBeforeLogin: () => [el('x', 'urn:x', { n: String(++made.before) })],
    streamFeatures: () => [el('y', 'urn:y', { n: String(++made.after) })],
  } as unknown as AnyModule
  return { made, module }
}

describe('what a stream is offered', () => {
  test('is made once for each kind of stream, before the login and after it', async () => {
    const { made, module } = counting()
    const { edge, onConnection, close } = openEdge(testProcess({ modules: [module] }))
    const streams = () => [
      connect(onConnection),
      connect(onConnection, { framing: 'frame' }),
      connect(onConnection, { encrypted: false }),
    ]
    for (const connection of [...streams(), ...streams()]) {
      const [before, after] = [featuresBeforeLogin, featuresAfterLogin].map((of) => of(edge, connection, 'example.org'))
      expect(featuresBeforeLogin(edge, connection, 'example.net')).toBe(before)
      expect(featuresAfterLogin(edge, connection, 'example.net')).toBe(after)
    }
    expect(made).toEqual({ before: 1, after: 2 }) // after the login frames differ, which are not told when they are idle
    await close()
  })

  test('a channel binding is named without being made', async () => {
    const { edge, onConnection, close } = openEdge(testProcess())
    const connection = Object.assign(connect(onConnection), {
      channelBindings: ['tls-exporter'],
      channelBinding: () => expect.fail('made'),
    } as const)
    expect(featuresBeforeLogin(edge, connection, 'example.org')).toContain('<sasl-channel-binding ')
    await close()
  })
})
