import { describe, expect, test } from 'vitest'
import { manualClock } from '#core/clock.ts'
import { harness } from '#test/harness.ts'
import { KnownSessions, OUT_OF_TURN_MAX } from './known-sessions.ts'

const ROMEO = 'romeo@example.org'

describe('a bind that arrives after the end of its session', () => {
  const bind = { edge: 'e1', session: 's1', resource: 'orchard' }
  const closed = { kind: 'signal', account: ROMEO, name: 'session.closed', fields: { session: 's1' } } as const

  test('used to be a session that nobody would ever end', async () => {
    await using server = await harness([])
    await server.account(ROMEO)
    server.lanes.send('router', ROMEO, closed)
    await server.quiet()
    await expect(server.caller.ask('router', ROMEO, 'session.bind', bind)).rejects.toMatchObject({ condition: 'not-allowed' })
    expect(await server.caller.ask('router', ROMEO, 'account.sessions', {})).toEqual([])
  })

  test('nor does the second copy of a question bind what has ended since the first', async () => {
    await using server = await harness([])
    const romeo = await server.connect(`${ROMEO}/orchard`)
    romeo.disconnect()
    await server.quiet()
    const again = { edge: romeo.edge, session: romeo.session, resource: 'orchard' }
    await expect(server.caller.ask('router', ROMEO, 'session.bind', again)).rejects.toMatchObject({ condition: 'not-allowed' })
    expect((await server.connect(`${ROMEO}/orchard`)).jid.resource).toBe('orchard')
  })
})

describe('what is remembered of sessions that are not known', () => {
  const early = (account: string, priority = 0) => ({ account, available: true, priority })

  test('is forgotten when no question about them can be on its way any more', () => {
    const clock = manualClock()
    const sessions = new KnownSessions(clock)
    sessions.noteEnded('s1')
    clock.advance(20_000)
    sessions.noteEnded('s2')
    expect([sessions.hasEnded('s1'), sessions.hasEnded('s2')]).toEqual([true, true])
    clock.advance(20_000)
    sessions.noteEnded('s3')
    expect([sessions.hasEnded('s1'), sessions.hasEnded('s2')]).toEqual([false, true])
  })

  test('is bounded: the oldest goes', () => {
    const sessions = new KnownSessions(manualClock())
    for (let n = 0; n <= OUT_OF_TURN_MAX; n++) {
      sessions.noteEnded(`ended ${n}`)
      sessions.noteEarly(`early ${n}`, early(ROMEO))
    }
    expect([sessions.hasEnded('ended 0'), sessions.hasEnded('ended 1')]).toEqual([false, true])
    expect([sessions.takeEarly('early 0'), sessions.takeEarly('early 1')]).toEqual([undefined, early(ROMEO)])
  })

  test('is the last that was said, once', () => {
    const sessions = new KnownSessions(manualClock())
    sessions.noteEarly('s1', early(ROMEO, 1))
    sessions.noteEarly('s1', early(ROMEO, 2))
    expect([sessions.takeEarly('s1'), sessions.takeEarly('s1')]).toEqual([early(ROMEO, 2), undefined])
  })

  test('goes with the end of the session, and with its account', () => {
    const sessions = new KnownSessions(manualClock())
    for (const session of ['s1', 's2', 's3']) sessions.noteEarly(session, early(session === 's3' ? 'juliet@example.org' : ROMEO))
    sessions.noteEnded('s1')
    sessions.forget((account) => account === ROMEO)
    expect(['s1', 's2', 's3'].map((session) => sessions.takeEarly(session)?.account)).toEqual([
      undefined,
      undefined,
      'juliet@example.org',
    ])
  })
})
