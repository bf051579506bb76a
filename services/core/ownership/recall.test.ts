import { describe, expect, test } from 'vitest'
import mam from '#modules/mam.ts'
import offline from '#modules/offline.ts'
import { memoryTable } from '#table/memory.ts'
import { type Table, TableUnavailable } from '#table/table.ts'
import { harness, type TestServer } from '#test/harness.ts'
import { parseJid } from '#xmpp/jid.ts'
import { NS_CLIENT } from '#xmpp/ns.ts'
import { attr, el, find, type Stanza, stanza } from '#xmpp/stanza.ts'
import { manualClock } from '../clock.ts'
import { writeEnvelope } from '../envelope.ts'
import { writeLaneHead } from '../lanes/lane-frame.ts'
import { ArchiveIds, archiveIdAt } from '../storage/archive-id.ts'
import { journalKey } from '../storage/journal.ts'
import { Writer } from '../wire.ts'
import { CLOCKS_APART_MS, Recalls } from './recall.ts'

const ROMEO = parseJid('romeo@example.org/x')
const JULIET = parseJid('juliet@example.org')

describe('recall', () => {
  const clock = manualClock()
  const ids = new ArchiveIds(clock, () => {})
  const recalls = (table: Table) => new Recalls(table, ['mam', 'offline'], clock, () => undefined)
  /** Of what was said a moment ago, unless it says when. */
  const asked = async (table: Table, cause: string, saidMs = clock.now()) => recalls(table).find('juliet@b', cause, saidMs)

  async function stored(table: Table, journal: string, version: string, id = ids.next()): Promise<string> {
    await table.put({ pk: journalKey(journal, 'juliet@b'), sk: id, version, value: Buffer.from('entry') })
    return id
  }

  test('finds the entry of a cause, in whichever journal it is, however its version is ordered', async () => {
    const table = memoryTable({ now: () => clock.now() })
    const archived = await stored(table, 'mam', 's1:7')
    const kept = await stored(table, 'offline', '~00000001000000020003 s1:8')
    await stored(table, 'mam', 's1:9')
    expect([await asked(table, 's1:7'), await asked(table, 's1:8')]).toEqual([archived, kept])
  })

  test('is not deceived by a cause that ends like it, by other accounts, or by what is no archive id', async () => {
    const table = memoryTable({ now: () => clock.now() })
    await stored(table, 'mam', 'as1:7')
    await stored(table, 'mam', 's1:70')
    await stored(table, 'mam', 's1:7', '00mh')
    await table.put({ pk: journalKey('mam', 'romeo@a'), sk: ids.next(), version: 's1:7', value: Buffer.from('') })
    expect(await asked(table, 's1:7')).toBeUndefined()
  })

  test('looks no further back than what can still be sent again', async () => {
    const table = memoryTable({ now: () => clock.now() })
    await stored(table, 'mam', 's1:7', `${archiveIdAt(clock.now() - CLOCKS_APART_MS - 1)}0000-q7Zk3mXw9aE`)
    expect(await asked(table, 's1:7')).toBeUndefined()
    const last = await stored(table, 'mam', 's1:8', `${archiveIdAt(clock.now() - CLOCKS_APART_MS)}0000-q7Zk3mXw9aE`)
    expect(await asked(table, 's1:8')).toBe(last)
  })

  /** A table, and how many rows were read of it. */
  function counted() {
    const table = memoryTable({ now: () => clock.now() })
    const read = { rows: 0 }
    const query: Table['query'] = async function* (...asked) {
      for await (const row of table.query(...asked)) {
        read.rows++
        yield row
      }
    }
    return { table, read, counting: { ...table, query } as Table }
  }

  test('used to look back for 20 minutes, whatever was said hours ago and never acked: it looks as far back as that', async () => {
    const table = memoryTable({ now: () => clock.now() })
    clock.advance(86_400_000)
    const saidMs = clock.now() - 4 * 3_600_000
    const early = await stored(table, 'mam', 's1:6', `${archiveIdAt(saidMs - CLOCKS_APART_MS - 1)}0000-q7Zk3mXw9aE`)
    const first = await stored(table, 'mam', 's1:7', `${archiveIdAt(saidMs)}0000-q7Zk3mXw9aE`)
    for (let n = 0; n < 3_000; n++) await stored(table, 'mam', `s2:${n}`)
    expect([await asked(table, 's1:7', saidMs), await asked(table, 's1:7')]).toEqual([first, undefined])
    const known = recalls(table)
    expect(await known.find('juliet@b', 's1:7', clock.now())).toBeUndefined()
    expect(await known.find('juliet@b', 's1:7', saidMs)).toBe(first) // read again, further back
    expect(known.find('juliet@b', 's1:6', saidMs)).toBeUndefined()
    expect(await known.find('juliet@b', 's1:6', saidMs - 1)).toBe(early)
  })

  test('used to ask the table for each of many that come again: for the first, and what is added since is noted', async () => {
    const { table, read, counting } = counted()
    const known = recalls(counting)
    for (let n = 0; n < 500; n++) await stored(table, 'mam', `s1:${n}`)
    expect(await known.find('juliet@b', 's1:0', clock.now())).toBe(await asked(table, 's1:0'))
    const { rows } = read
    for (let n = 0; n < 30; n++) {
      const id = await stored(table, 'mam', `s2:${n}`)
      known.note('juliet@b', id, `s2:${n}`)
      expect([known.find('juliet@b', `s2:${n}`, clock.now()), known.find('juliet@b', `s3:${n}`, clock.now())]).toEqual([
        id,
        undefined,
      ])
    }
    expect([rows, read.rows]).toEqual([500, 500])
  })

  test('what is added while it reads is known, too; what could not be read is read again', async () => {
    const { table, counting } = counted()
    const { query } = counting
    let isAway = true
    counting.query = async function* (...asked) {
      if (isAway) throw new TableUnavailable('it is away')
      yield* query(...asked)
    }
    const known = recalls(counting)
    const before = await stored(table, 'mam', 's1:1')
    await expect(known.find('juliet@b', 's1:1', clock.now())).rejects.toThrow('it is away')
    isAway = false
    const reading = known.find('juliet@b', 's1:1', clock.now())
    const during = ids.next()
    known.note('juliet@b', during, 's1:2')
    expect([await reading, known.find('juliet@b', 's1:2', clock.now())]).toEqual([before, during])
  })

  test('waits for what is staged before it reads', async () => {
    const table = memoryTable({ now: () => clock.now() })
    let apply = (): void => {}
    const applied = new Promise<void>((resolve) => {
      apply = resolve
    })
    const found = new Recalls(table, ['mam'], clock, () => applied).find('juliet@b', 's1:7', clock.now())
    const id = await stored(table, 'mam', 's1:7')
    apply()
    expect(await found).toBe(id)
  })

  test('forgets an account that has gone to another owner, who adds to it', async () => {
    const table = memoryTable({ now: () => clock.now() })
    const known = recalls(table)
    const early = ids.next()
    await stored(table, 'mam', 's1:1')
    expect(await known.find('juliet@b', 's1:0', clock.now())).toBeUndefined()
    await stored(table, 'mam', 's1:0', early)
    known.release((account) => account === 'juliet@b')
    expect(await known.find('juliet@b', 's1:0', clock.now())).toBe(early)
  })
})

describe('what comes again to an owner who did not have it the first time', () => {
  let sources = 0

  /** As the lane of a source that was told of another owner before: the first time here, and maybe not the first of all. */
  async function send(server: TestServer, n: number, age: 0 | 1, message: Stanza): Promise<void> {
    const { bus, id } = server.process
    const out = new Writer()
    writeLaneHead(out, `source${++sources}`, 0, 1)
    out.u32(1)
    out.u8(age)
    const at = out.reserve32()
    const origin = { edge: server.edge, session: 'session', n }
    writeEnvelope(out, { kind: 'stanza', point: 'outbound', account: ROMEO.bare, origin, stanza: message })
    out.patch32(at, out.length - at - 4)
    bus.publish(`lane.router.${id}`, out.take())
    await server.quiet()
  }

  const saying = (text: string) =>
    stanza('message', ROMEO, { to: JULIET, type: 'chat', id: 'm' }, el('body', NS_CLIENT, {}, text))

  async function entriesOf(server: TestServer, journal: string, account: string): Promise<string[]> {
    const ids: string[] = []
    for await (const { sk } of server.process.table.query(journalKey(journal, account), { to: '~' })) ids.push(sk)
    return ids
  }

  test('is archived once on either side, and shown with the stanza-id it had', async () => {
    await using server = await harness([mam])
    await server.account(ROMEO.bare)
    const juliet = await server.online('juliet@example.org/y')
    await send(server, 7, 0, saying('hi'))
    await send(server, 7, 1, saying('hi'))
    for (const account of [ROMEO.bare, JULIET.bare]) expect(await entriesOf(server, 'mam', account)).toHaveLength(1)
    const shown = juliet.received.filter(({ name }) => name === 'message')
    const ids = shown.map((message) => attr(find(message, 'stanza-id', 'urn:xmpp:sid:0')!, 'id'))
    expect(ids).toEqual([ids[0], ids[0]])
    expect(await entriesOf(server, 'mam', JULIET.bare)).toEqual([ids[0]])
  })

  test('and was not stored the first time is stored now', async () => {
    await using server = await harness([mam])
    await server.account(ROMEO.bare)
    const juliet = await server.online('juliet@example.org/y')
    await send(server, 7, 0, saying('one'))
    await send(server, 8, 1, saying('two'))
    await send(server, 9, 0, saying('three'))
    expect(await entriesOf(server, 'mam', JULIET.bare)).toHaveLength(3)
    expect(juliet.bodies()).toEqual(['one', 'two', 'three'])
  })

  test('is kept once for who is offline', async () => {
    await using server = await harness([offline])
    for (const account of [ROMEO.bare, JULIET.bare]) await server.account(account)
    await send(server, 7, 0, saying('hi'))
    await send(server, 7, 1, saying('hi'))
    await send(server, 8, 1, saying('ho'))
    expect(await entriesOf(server, 'offline', JULIET.bare)).toHaveLength(2)
    const juliet = await server.online('juliet@example.org/y')
    expect(juliet.bodies()).toEqual(['hi', 'ho'])
  })
})
