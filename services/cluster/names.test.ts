// The lists of subjects and keys at the top of bus.ts and table.ts, against what a cluster says and stores.
import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { openCaller } from '#core/call.ts'
import { GroupAdministration } from '#core/groups/group-administration.ts'
import { GroupDirectory } from '#core/groups/group-directory.ts'
import { QUIET_MS } from '#core/storage/readings.ts'
import { PASSWORD } from '#edge/edge.fixture.ts'
import mam from '#modules/mam.ts'
import { memoryTable } from '#table/memory.ts'
import type { Table } from '#table/table.ts'
import { Cluster, ClusterClient, type ClusterProcess } from '#test/cluster-harness.ts'
import { parseJid } from '#xmpp/jid.ts'

/** Asked for by an HTTP server, which this test has none of. */
const NOT_SEEN = ['health']

function headerOf(file: string): string[] {
  const text = readFileSync(new URL(file, import.meta.url), 'utf8')
  return text.split('\n').filter((line) => line.startsWith('//   '))
}

/** `lane` of `lane.<role>.<process>`. */
const subjectsIn = (lines: readonly string[]): string[] => lines.map((line) => /[a-z]+/.exec(line)![0])

/** `a` of `a#romeo@example.org`, and all of what begins with `o#`. */
function familiesIn(lines: readonly string[]): string[] {
  const pks = lines.flatMap((line) => [...(/pk = (.*?) +sk = /.exec(line)?.slice(1) ?? [])]).flatMap((pks) => pks.split(', '))
  return [...new Set(pks.map(familyOf))]
}

const familyOf = (pk: string): string => (pk.startsWith('o#') ? pk : pk.split('#')[0]!)

function watched(table: Table, pks: Set<string>): Table {
  const note = (pk: string): string => {
    pks.add(familyOf(pk))
    return pk
  }
  return {
    get: (key) => table.get({ pk: note(key.pk), sk: key.sk }),
    put: (row, condition) => table.put({ ...row, pk: note(row.pk) }, condition),
    delete: (key, condition) => table.delete({ pk: note(key.pk), sk: key.sk }, condition),
    query: (pk, range) => table.query(note(pk), range),
  }
}

test('every subject and every family of keys is listed once, and nothing that is none', async () => {
  const families = new Set<string>()
  const subjects = new Set<string>()
  const cluster = new Cluster({ modules: [mam], table: watched(memoryTable(), families) })
  const { hub } = cluster
  for (const name of ['publish', 'request', 'subscribe'] as const) {
    const call = hub[name].bind(hub) as (subject: string, ...rest: unknown[]) => unknown
    Object.assign(hub, {
      [name]: (subject: string, ...rest: unknown[]) => {
        subjects.add(subject.split('.')[0]!)
        return call(subject, ...rest)
      },
    })
  }
  const [edge, router] = (await cluster.open(['edge'], ['router'], ['router'], ['presence'])) as [ClusterProcess, ClusterProcess]
  const caller = openCaller(edge.bus, edge.ownership, cluster.clock)
  const account = cluster.accountOf(router, 'router', 'romeo')
  await cluster.during(caller.ask('router', account, 'account.create', { password: PASSWORD }))
  const groups = new GroupAdministration(
    new GroupDirectory({ ...edge, table: cluster.table, clock: cluster.clock }),
    async () => true,
  )
  await cluster.during(groups.create(parseJid('staff@example.org')))
  await cluster.pass(QUIET_MS)
  const romeo = await ClusterClient.connect(cluster, edge, `${account}/orchard`)
  romeo.message(romeo.jid, 'hi')
  await romeo.acknowledged(1)
  router.kill()
  await cluster.settled()
  await cluster.during(caller.ask('router', account, 'account.remove', {}))
  await cluster[Symbol.asyncDispose]()
  const listed = subjectsIn(headerOf('../bus/bus.ts'))
  expect([...subjects].sort()).toEqual([...listed].sort())
  const keys = familiesIn(headerOf('../table/table.ts'))
  expect([...families].sort()).toEqual(keys.filter((family) => !NOT_SEEN.includes(family)).sort())
})
