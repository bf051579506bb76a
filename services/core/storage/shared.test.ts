import { describe, expect, test } from 'vitest'
import { harness } from '#test/harness.ts'
import { parseJid } from '#xmpp/jid.ts'
import { el } from '#xmpp/stanza.ts'
import { type AnyModule, defineModule } from '../module.ts'
import type { RoleName } from '../ownership/ownership.ts'
import type { SharedRecord } from './shared.ts'

const ROMEO = parseJid('romeo@example.org')

/** A module that keeps a number, told `news` when it rises. Its record is seen from both roles. */
function counting(home: RoleName) {
  const seen: string[] = []
  const records = new Map<RoleName, SharedRecord<number, string>>()
  const module: AnyModule = defineModule({
    name: 'counting',
    home,
    xeps: [],
    namespaces: ['urn:count'],
    setup(app) {
      const count = app.sharedRecord<number, string>('count', 0, async (account, news) => {
        await count.read(account, (value) => void seen.push(`${app.role} ${account.bare} ${value} ${news}`))
      })
      records.set(app.role, count)
      app.iq('set', 'urn:count', 'up', 'self', async ({ account, iq }) => {
        await count.update(account, (before) => before + 1)
        await count.confirm(account, iq.id)
        seen.push(`answered ${iq.id === '' ? '' : 'an iq'}`)
      })
    },
  })
  return { module, seen, records }
}

describe.each<[RoleName, RoleName]>([
  ['router', 'presence'],
  ['presence', 'router'],
])('a record whose home is %s', (home, other) => {
  test(`is read anew in ${other}, which is told the news, before the change is confirmed`, async () => {
    const { module, seen, records } = counting(home)
    await using server = await harness([module])
    const romeo = await server.connect('romeo@example.org/x')
    expect(await records.get(other)!.read(ROMEO, (count) => count)).toBe(0) // cached
    await romeo.iq('set', el('up', 'urn:count'))
    expect(seen).toEqual([expect.stringMatching(`^${other} romeo@example.org 1 .`), 'answered an iq'])
    expect(records.get(other)!.peek(ROMEO)).toBe(1)
    await romeo.iq('set', el('up', 'urn:count'))
    expect([records.get(home)!.peek(ROMEO), records.get(other)!.peek(ROMEO)]).toEqual([2, 2])
  })

  test(`is not written in ${other}`, async () => {
    const { module, records } = counting(home)
    await using server = await harness([module])
    await server.account(ROMEO.bare)
    const count = records.get(other)!
    await expect((async () => count.update(ROMEO, () => 1))()).rejects.toThrow(`record count is written in ${home} only`)
    await expect(count.confirm(ROMEO, 'news')).rejects.toThrow('only')
    expect(await count.read(ROMEO, (value) => value)).toBe(0)
  })
})
