// RFC 6120 §4.6.4: whether a client that says nothing is still there.
import { afterEach, describe, expect, test } from 'vitest'
import { manualClock } from '#core/clock.ts'
import { connect, type FakeConnection, type ProcessOptions, PuppetOwners, settled, testProcess } from '../edge.fixture.ts'
import { openEdge } from '../main.ts'

const stops: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const stop of stops.splice(0).reverse()) await stop()
})

async function start(options: ProcessOptions = {}, framing: 'stream' | 'frame' = 'stream') {
  const clock = manualClock()
  const process = testProcess({ clock, ...options })
  const owners = new PuppetOwners(process)
  owners.onEnvelope = ({ done }) => done()
  owners.knows('romeo@example.org')
  const open = openEdge(process)
  stops.push(() => open.close())
  const romeo = connect(open.onConnection, { framing })
  await romeo.logIn('romeo@example.org', 'garden')
  return { clock, process, owners, edge: open.edge, romeo }
}

const PING = `<iq from='example.org' to='romeo@example.org/garden' id='are-you-there' type='get'><ping xmlns='urn:xmpp:ping'/></iq>`
const pong = (type: string, more = '') => `<iq type='${type}' id='are-you-there' ${more}/>`

/** Moves on by steps, as a clock does. */
function pass(clock: ReturnType<typeof manualClock>, seconds: number, romeo?: FakeConnection): void {
  for (let s = 0; s < seconds; s++) {
    clock.advance(1_000)
    romeo?.send(' ')
  }
}

describe('a client that has been silent for limits.idleSeconds', () => {
  test('is asked by a ping (XEP-0199 §4.3), and cut off when it says nothing for a minute more', async () => {
    const { clock, process, owners, edge, romeo } = await start()
    pass(clock, 298)
    expect(romeo.take()).toBe('')
    pass(clock, 3)
    expect(romeo.take()).toBe(PING)
    pass(clock, 58)
    expect(romeo.destroyed).toBe(false)
    pass(clock, 4)
    expect([romeo.destroyed, romeo.take(), edge.sessions.size, edge.streams.size]).toEqual([true, '', 0, 0])
    expect(process.log.lines.map(({ event }) => event)).toContain('stream.silent')
    await settled()
    expect(owners.summary()).toEqual(['router signal session.closed'])
  })

  test.each(['result', 'error'])('goes on when it answers with a %s, which goes no further', async (type) => {
    const { clock, owners, romeo } = await start()
    for (let n = 0; n < 4; n++) {
      pass(clock, 302)
      expect(romeo.take()).toBe(PING)
      romeo.send(pong(type, n % 2 === 0 ? "to='example.org'" : ''))
    }
    await settled()
    expect([romeo.ended, romeo.destroyed, owners.summary()]).toEqual([false, false, []])
  })

  test('goes on when it says anything at all, whitespace too (§4.6.1)', async () => {
    const { clock, romeo } = await start()
    pass(clock, 302)
    romeo.take()
    pass(clock, 1_000, romeo)
    expect([romeo.take(), romeo.destroyed]).toEqual(['', false])
    pass(clock, 302)
    expect(romeo.take()).toBe(PING)
  })

  test.each([30, 60])('of %s: one that answered used to be cut off all the same', async (idleSeconds) => {
    const { clock, romeo } = await start({ config: { limits: { idleSeconds } } })
    for (let n = 0; n < 4; n++) {
      pass(clock, idleSeconds + 2)
      expect(romeo.take()).toBe(PING)
      romeo.send(pong('result'))
    }
    expect(romeo.destroyed).toBe(false)
    pass(clock, idleSeconds + 2)
    expect([romeo.take(), romeo.destroyed]).toEqual([PING, false])
    pass(clock, 62)
    expect(romeo.destroyed).toBe(true)
  })

  test('is asked by <r/> where it manages its stream (XEP-0198 §4), and waits for its client when it is cut off', async () => {
    const { clock, owners, edge, romeo } = await start()
    romeo.send("<enable xmlns='urn:xmpp:sm:3' resume='true'/>")
    romeo.take()
    pass(clock, 302)
    expect(romeo.take()).toBe("<r xmlns='urn:xmpp:sm:3'/>")
    romeo.send("<a xmlns='urn:xmpp:sm:3' h='0'/>")
    pass(clock, 200)
    expect(romeo.take()).toBe('')
    pass(clock, 102)
    expect(romeo.take()).toBe("<r xmlns='urn:xmpp:sm:3'/>")
    pass(clock, 62)
    expect([romeo.destroyed, edge.detached.size, edge.streams.size]).toEqual([true, 1, 0])
    expect(owners.summary()).toEqual([])
  })

  test('is not asked while it is not read from', async () => {
    const { clock, owners, romeo } = await start({ config: { limits: { inFlightPerSession: 1 } } })
    owners.onEnvelope = () => {}
    romeo.send("<message to='juliet@example.org'/>")
    await settled()
    pass(clock, 1_000)
    expect([romeo.take(), romeo.destroyed]).toEqual(['', false])
    owners.handed[0]!.done()
    await settled()
    pass(clock, 302)
    expect(romeo.take()).toBe(PING)
  })

  test('is not asked over a WebSocket, whose driver does so', async () => {
    const { clock, romeo } = await start({}, 'frame')
    romeo.take()
    pass(clock, 1_000)
    expect([romeo.take(), romeo.destroyed]).toEqual(['', false])
  })

  test('is not asked where that is switched off', async () => {
    const { clock, romeo } = await start({ config: { limits: { idleSeconds: 0 } } })
    pass(clock, 1_000)
    expect([romeo.take(), romeo.destroyed]).toEqual(['', false])
  })
})

test('an answer to somebody else who happens to use the same id is his', async () => {
  const { owners, romeo } = await start()
  romeo.send(pong('result', "to='juliet@example.org/balcony'"))
  await settled()
  expect(owners.summary()).toEqual(['router iq are-you-there'])
})
