import { afterEach, describe, expect, test, vi } from 'vitest'
import { manualClock } from '#core/clock.ts'
import { memoryTable } from '#table/memory.ts'
import { type HarnessOptions, harness, type TestServer } from '#test/harness.ts'
import { NS_CLIENT, NS_DATA } from '#xmpp/ns.ts'
import { type Element, el, find, textOf } from '#xmpp/stanza.ts'
import mam from '../mam.ts'

const NS = 'urn:xmpp:mam:2'
const ROMEO = 'romeo@example.org'
const JULIET = 'juliet@example.org'
const BYTES_MAX = 200_000
const LARGE = 20_000
const DAY_MS = 86_400_000

afterEach(() => {
  vi.restoreAllMocks()
})

const serve = (options: HarnessOptions = {}) => harness([mam], { modules: { mam: { accountBytesMax: BYTES_MAX } }, ...options })

/** Romeo writes to Juliet: messages that begin with their numbers. */
async function write(server: TestServer, from: number, to: number, length = LARGE): Promise<void> {
  const romeo = await server.online(`${ROMEO}/orchard`)
  if (!(await server.exists(JULIET))) await server.account(JULIET)
  for (let n = from; n < to; n++) {
    romeo.message(JULIET, `${n} ${'z'.repeat(length)}`)
    await server.quiet()
  }
  romeo.disconnect()
  await server.quiet()
}

/** The numbers of the messages in an account's archive. */
async function archived(server: TestServer, account: string, by?: string): Promise<number[]> {
  const client = await server.online(`${account}/reader`)
  const fields = Object.entries({ FORM_TYPE: NS, ...(by !== undefined && { with: by }) })
  const form = el('x', NS_DATA, { type: 'submit' }, ...fields.map(([name, value]) => fieldOf(name, value)))
  const numbers: number[] = []
  for (let after = ''; ; ) {
    const before = client.received.length
    const set = el('set', 'http://jabber.org/protocol/rsm', {}, el('after', 'http://jabber.org/protocol/rsm', {}, after))
    const fin = (await client.iq('set', el('query', NS, {}, form, set))) as Element
    for (const message of client.received.slice(before, -1)) {
      const result = find(message, 'result', NS)!
      numbers.push(Number.parseInt(textOf(bodyIn(result)!), 10))
      after = result.attrs.id!
    }
    if (fin.attrs.complete === 'true') break
  }
  client.disconnect()
  return numbers
}

const fieldOf = (name: string, value: string) => el('field', NS_DATA, { var: name }, el('value', NS_DATA, {}, value))

function bodyIn(element: Element): Element | undefined {
  for (const child of element.children) {
    if (typeof child === 'string') continue
    const found = child.name === 'body' && child.ns === NS_CLIENT ? child : bodyIn(child)
    if (found !== undefined) return found
  }
  return undefined
}

async function rowsOf(server: TestServer, pk: string): Promise<{ sk: string; bytes: number }[]> {
  const rows = []
  for await (const { sk, value } of server.process.table.query(pk)) rows.push({ sk, bytes: value.length })
  return rows
}

async function counted(server: TestServer, account: string): Promise<number> {
  const row = await server.process.table.get({ pk: `a#${account}`, sk: 'archive-size' })
  if (row === undefined) return 0
  const sizes = JSON.parse(Buffer.from(row.value).toString()) as Record<string, number>
  return Object.values(sizes).reduce((sum, bytes) => sum + bytes, 0)
}

const numbers = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i)

describe('an archive that takes more than an account may have', () => {
  test('loses the oldest messages, of whoever, and nothing else', async () => {
    await using server = await serve()
    await write(server, 0, 30)
    for (const account of [ROMEO, JULIET]) {
      const left = await archived(server, account)
      expect(left).toEqual(numbers(left[0]!, 30))
      expect(await archived(server, account, account === ROMEO ? JULIET : ROMEO)).toEqual(left)
      const bytes = (await rowsOf(server, `j#mam#${account}`)).reduce((sum, row) => sum + row.bytes, 0)
      expect(bytes).toBeLessThan(BYTES_MAX * 1.1) // one message is a tenth
      expect(bytes).toBeGreaterThan(BYTES_MAX * 0.8)
    }
    expect(server.log.lines.filter(({ event }) => event === 'archive.trimmed').length).toBeGreaterThan(0)
  })

  test('loses with them what its threads say of that time', async () => {
    const clock = manualClock(Date.UTC(2026, 0, 1))
    await using server = await serve({ clock, table: memoryTable({ now: () => clock.now() }) })
    for (let n = 0; n < 30; n++) {
      await write(server, n, n + 1)
      clock.advance(DAY_MS)
    }
    const rows = await rowsOf(server, `j#mam#${JULIET}`)
    const entries = rows.filter(({ sk }) => !sk.startsWith('~'))
    expect(rows.length).toBe(2 * entries.length) // a day each
    expect(entries.length).toBeLessThan(11)
    expect(await archived(server, JULIET, ROMEO)).toHaveLength(entries.length)
  })

  test('what has expired is not counted against what has not', async () => {
    const clock = manualClock(Date.UTC(2026, 0, 1))
    await using server = await serve({
      clock,
      table: memoryTable({ now: () => clock.now() }),
      modules: { mam: { accountBytesMax: BYTES_MAX, expiryDays: 30 } },
    })
    await write(server, 0, 7)
    clock.advance(60 * DAY_MS)
    await write(server, 7, 14)
    expect(await archived(server, JULIET)).toEqual(numbers(7, 14))
    expect(await counted(server, JULIET)).toBeLessThan(BYTES_MAX)
  })

  test('the same after a restart, which forgets nothing of what was counted', async () => {
    const table = memoryTable()
    const first = await serve({ table })
    await write(first, 0, 9)
    await first.stop()
    await using second = await serve({ table })
    await write(second, 9, 15)
    const left = await archived(second, JULIET)
    expect(left).toEqual(numbers(left[0]!, 15))
    expect(left.length).toBeLessThan(12)
  })
})

describe('counting', () => {
  test('is right over many messages, and writes nothing for most', async () => {
    let k = 0
    vi.spyOn(Math, 'random').mockImplementation(() => (k++ * 0.618034) % 1)
    await using server = await serve({ modules: {} })
    await write(server, 0, 1_500, 500)
    const bytes = (await rowsOf(server, `j#mam#${JULIET}`)).reduce((sum, row) => sum + row.bytes + 100, 0)
    expect(Math.abs((await counted(server, JULIET)) - bytes)).toBeLessThan(2 * 65_536)
    expect(bytes).toBeGreaterThan(10 * 65_536)
  })

  test('is left out where there is no bound', async () => {
    await using server = await serve({ modules: { mam: { accountBytesMax: 0 } } })
    await write(server, 0, 5, 200_000)
    expect([await counted(server, JULIET), (await archived(server, JULIET)).length]).toEqual([0, 5])
  })
})
