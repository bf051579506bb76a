import { afterEach, expect, test } from 'vitest'
import { connect, PuppetOwners, settled, testProcess } from '../edge.fixture.ts'
import { openEdge } from '../main.ts'
import { IN_FLIGHT_BYTES_MAX } from './intake.ts'

const stops: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const stop of stops.splice(0).reverse()) await stop()
})

async function bound() {
  const process = testProcess({ config: { limits: { bytesPerSecond: 0, stanzasPerSecond: 0 } } })
  const owners = new PuppetOwners(process)
  const { onConnection, close } = openEdge(process)
  owners.knows('romeo@example.org')
  stops.push(() => {
    owners.onEnvelope = ({ done }) => done()
    for (const { done } of owners.handed) done()
    return close()
  })
  const romeo = connect(onConnection)
  await romeo.logIn('romeo@example.org', 'garden')
  return { romeo, owners }
}

const BYTES = 200_000
const FITTING = Math.ceil(IN_FLIGHT_BYTES_MAX / BYTES)

test.each([
  ['payloads', (n: number) => `<message to='juliet@example.org' id='m${n}'><body>${'x'.repeat(BYTES)}</body></message>`],
  ['ids', (n: number) => `<message to='juliet@example.org' id='m${n}${'x'.repeat(BYTES)}'/>`],
])(
  'of large %s no more is on its way than IN_FLIGHT_BYTES_MAX and one stanza; then it is not read until all of that is acked',
  async (_what, make) => {
    const { romeo, owners } = await bound()
    const all = Array.from({ length: 3 * FITTING }, (_, n) => make(n))
    romeo.send(all.slice(0, FITTING + 1).join(''))
    await settled()
    for (const stanza of all.slice(FITTING + 1)) romeo.send(stanza)
    for (let acked = 0; acked < all.length; ) {
      await settled()
      expect(owners.handed.length).toBe(Math.min(all.length, acked + FITTING))
      expect(romeo.paused).toBe(owners.handed.length < all.length)
      const under = owners.handed.slice(acked)
      for (const { done } of under.slice(0, -1)) done()
      await settled()
      expect(owners.handed.length).toBe(acked + under.length) // while one of them is not acked
      under.at(-1)!.done()
      acked += under.length
    }
    await settled()
    const ids = owners.handed.map(({ envelope }) => envelope.kind === 'stanza' && /^m\d+/.exec(envelope.stanza.id)?.[0])
    expect(ids).toEqual(all.map((_, n) => `m${n}`))
  },
)

test('small stanzas that are always on their way are held up by no sum of those that were acked', async () => {
  const { romeo, owners } = await bound()
  owners.onEnvelope = () => {
    if (owners.handed.length > 1) owners.handed.at(-2)!.done() // one is always unacked
  }
  const count = (3 * IN_FLIGHT_BYTES_MAX) / 20_000
  for (let n = 0; n < count; n++)
    romeo.send(`<message to='juliet@example.org' id='m${n}'><body>${'x'.repeat(20_000)}</body></message>`)
  for (let turn = 0; turn < 50 && owners.handed.length < count; turn++) {
    await settled(4)
    owners.handed.at(-1)!.done()
  }
  expect(owners.handed.length).toBe(Math.ceil(count))
})
