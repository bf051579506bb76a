import { describe, expect, test } from 'vitest'
import { TableUnavailable } from '#table/table.ts'
import { StanzaError } from '#xmpp/error.ts'
import { parseJid } from '#xmpp/jid.ts'
import { readdress, type Stanza, stanza } from '#xmpp/stanza.ts'
import { DROP, type Guard, Hooks, type Passage } from './hooks.ts'
import { memoryLog } from './observing/log.ts'

const ROMEO = parseJid('romeo@a')
const JULIET = parseJid('juliet@b')
const MESSAGE = stanza('message', ROMEO, { to: JULIET, id: 'm1' })
const PASSAGE: Passage = { account: ROMEO, peer: JULIET, archiveId: 'id', cause: '', age: 0 }

function setUp() {
  const log = memoryLog()
  return { log, hooks: new Hooks(log) }
}

const later = <T>(value: T): Promise<T> => new Promise((resolve) => setImmediate(() => resolve(value)))
const toBare = (to: string) => (stanza: Stanza) => readdress(stanza, { to: parseJid(to) })

describe('pass', () => {
  test('without hooks a stanza passes as it is, and no promise is made', () => {
    expect(setUp().hooks.pass('outbound', MESSAGE, PASSAGE)).toBe(MESSAGE)
  })

  test('guards come before stamps and stamps before copies, whoever was set up first', () => {
    const { hooks } = setUp()
    const ran: string[] = []
    hooks.copy('c', 'inbound', ({ to }) => void ran.push(`copy ${to?.full}`))
    hooks.stamp('s', 'inbound', (stanza) => {
      ran.push('stamp')
      return toBare('nurse@b')(stanza)
    })
    hooks.guard('g', 'inbound', ({ to }) => void ran.push(`guard ${to?.full}`))
    const passed = hooks.pass('inbound', MESSAGE, PASSAGE)
    expect((passed as Stanza).to?.full).toBe('nurse@b')
    expect(ran).toEqual(['guard juliet@b', 'stamp', 'copy nurse@b'])
  })

  test('what runs at one point does not run at the other', () => {
    const { hooks } = setUp()
    hooks.guard('g', 'outbound', () => DROP)
    expect(hooks.pass('inbound', MESSAGE, PASSAGE)).toBe(MESSAGE)
    expect(hooks.pass('outbound', MESSAGE, PASSAGE)).toBe(DROP)
  })

  test.each<[string, Guard]>([
    ['at once', () => DROP],
    ['later', () => later<typeof DROP>(DROP)],
  ])('a guard that drops %s ends it: no later guard, stamp or copy', async (_when, guard) => {
    const { hooks } = setUp()
    let ran = 0
    hooks.guard('slow', 'inbound', () => later(undefined))
    hooks.guard('drop', 'inbound', guard)
    hooks.guard('g', 'inbound', () => void ran++)
    hooks.stamp('s', 'inbound', (stanza) => {
      ran++
      return stanza
    })
    hooks.copy('c', 'inbound', () => void ran++)
    expect(await hooks.pass('inbound', MESSAGE, PASSAGE)).toBe(DROP)
    expect(ran).toBe(0)
  })

  test('hooks that wait run in the same order, and see the same', async () => {
    const { hooks } = setUp()
    const ran: string[] = []
    hooks.guard('g1', 'inbound', () => later(undefined).then(() => void ran.push('g1')))
    hooks.guard('g2', 'inbound', () => void ran.push('g2'))
    hooks.stamp('s1', 'inbound', (stanza) => later(toBare('one@b')(stanza)))
    hooks.stamp('s2', 'inbound', (stanza) => {
      ran.push(`s2 ${stanza.to?.full}`)
      return stanza
    })
    hooks.copy('c1', 'inbound', () => later(undefined).then(() => void ran.push('c1')))
    const passed = (await hooks.pass('inbound', MESSAGE, PASSAGE)) as Stanza
    expect(passed.to?.full).toBe('one@b')
    expect(ran).toEqual(['g1', 'g2', 's2 one@b', 'c1'])
  })
})

describe('what breaks', () => {
  const how: [string, (error: Error) => never | Promise<never>][] = [
    [
      'thrown',
      (error) => {
        throw error
      },
    ],
    ['rejected', (error) => Promise.reject(error)],
  ]

  describe.each(how)('%s', (_name, fail) => {
    const passing = async (hooks: Hooks): Promise<unknown> => hooks.pass('inbound', MESSAGE, PASSAGE)

    test.each(['guard', 'stamp'] as const)('a %s that refuses says so to the sender', async (verb) => {
      const { hooks, log } = setUp()
      hooks[verb]('m', 'inbound', () => fail(new StanzaError('not-acceptable', 'blocked')))
      await expect(passing(hooks)).rejects.toMatchObject({ condition: 'not-acceptable', text: 'blocked' })
      expect(log.lines).toEqual([])
    })

    test.each(['guard', 'stamp'] as const)('a broken %s is no open door', async (verb) => {
      const { hooks, log } = setUp()
      hooks[verb]('m', 'inbound', () => fail(new Error('our own bug')))
      await expect(passing(hooks)).rejects.toMatchObject({ condition: 'internal-server-error' })
      expect(log.lines).toMatchObject([{ level: 'error', event: 'hook.broke', fields: { module: 'm' } }])
    })

    test('a broken copy is logged, and the others run', async () => {
      const { hooks, log } = setUp()
      let ran = false
      hooks.copy('broken', 'inbound', () => fail(new Error('our own bug')))
      hooks.copy('sound', 'inbound', () => {
        ran = true
      })
      expect(await passing(hooks)).toBe(MESSAGE)
      expect(ran).toBe(true)
      expect(log.lines).toMatchObject([{ event: 'hook.broke', fields: { module: 'broken', where: 'inbound' } }])
    })

    test.each(['guard', 'stamp', 'copy'] as const)('a table that is away rises through a %s, to be tried again', async (verb) => {
      const { hooks } = setUp()
      hooks[verb]('m', 'inbound', () => fail(new TableUnavailable('away')))
      await expect(passing(hooks)).rejects.toThrow(TableUnavailable)
    })

    test('a broken listener is logged, and the others are told', async () => {
      const { hooks, log } = setUp()
      let told = false
      hooks.on('broken', 'account.deleted', () => fail(new Error('our own bug')))
      hooks.on('sound', 'account.deleted', () => {
        told = true
      })
      await hooks.emit('account.deleted', { account: ROMEO })
      expect(told).toBe(true)
      expect(log.lines).toMatchObject([{ event: 'hook.broke', fields: { module: 'broken', where: 'account.deleted' } }])
    })

    test('a table that is away rises through a listener', async () => {
      const { hooks } = setUp()
      hooks.on('m', 'account.deleted', () => fail(new TableUnavailable('away')))
      await expect((async () => hooks.emit('account.deleted', { account: ROMEO }))()).rejects.toThrow(TableUnavailable)
    })
  })
})

describe('emit', () => {
  test('tells only those who listen to that event, and waits for those who take their time', async () => {
    const { hooks } = setUp()
    const told: string[] = []
    hooks.on('slow', 'account.deleted', ({ account }) => later(undefined).then(() => void told.push(`slow ${account.bare}`)))
    hooks.on('quick', 'account.deleted', () => void told.push('quick'))
    hooks.on('other', 'session.closed', () => void told.push('other'))
    await hooks.emit('account.deleted', { account: ROMEO })
    expect(told).toEqual(['quick', 'slow romeo@a'])
  })

  test('makes no promise where nobody needs one', () => {
    const { hooks } = setUp()
    hooks.on('quick', 'account.deleted', () => {})
    expect(hooks.emit('account.deleted', { account: ROMEO })).toBeUndefined()
    expect(hooks.emit('session.bound', { jid: ROMEO, session: 's' })).toBeUndefined()
  })

  test('a listener that throws TableUnavailable at once used to leave the promise of another to nobody: its rejection ended the process', async () => {
    const orphans: unknown[] = []
    const onOrphan = (error: unknown): void => void orphans.push(error)
    process.on('unhandledRejection', onOrphan)
    const { hooks } = setUp()
    let ended = false
    const away = async () => {
      await later(undefined)
      ended = true
      throw new TableUnavailable('later')
    }
    const atOnce = () => {
      throw new TableUnavailable('at once')
    }
    hooks.on('first', 'account.deleted', away)
    hooks.on('second', 'account.deleted', atOnce)
    hooks.copy('first', 'inbound', away)
    hooks.copy('second', 'inbound', atOnce)
    await expect((async () => hooks.emit('account.deleted', { account: ROMEO }))()).rejects.toThrow(TableUnavailable)
    expect(ended).toBe(true) // what is tried again does not meet itself still at work
    ended = false
    await expect((async () => hooks.pass('inbound', MESSAGE, PASSAGE))()).rejects.toThrow(TableUnavailable)
    expect(ended).toBe(true)
    await later(undefined)
    process.off('unhandledRejection', onOrphan)
    expect(orphans).toEqual([])
  })
})

describe('hidden', () => {
  test('without a hider nobody is hidden from, and no promise is made', () => {
    expect(setUp().hooks.hidden(ROMEO)).toBeUndefined()
  })

  test('a hider that breaks shows presence to nobody, at once or later; TableUnavailable rises', async () => {
    for (const [error, expected] of [
      [new Error('broken'), new StanzaError('internal-server-error')],
      [new TableUnavailable('away'), new TableUnavailable('away')],
    ] as const) {
      const [atOnce, later] = [setUp().hooks, setUp().hooks]
      atOnce.hide('m', () => {
        throw error
      })
      later.hide('m', () => Promise.reject(error))
      expect(() => atOnce.hidden(ROMEO)).toThrow(expected)
      await expect(later.hidden(ROMEO)).rejects.toThrow(expected)
    }
  })

  test('two modules that hide stop the start, and both are named', () => {
    const { hooks } = setUp()
    hooks.hide('one', () => undefined)
    expect(() => hooks.hide('two', () => undefined)).toThrow('modules one and two both hide presence')
  })
})
