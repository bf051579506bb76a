import fc from 'fast-check'
import { expect, test } from 'vitest'
import { memoryTable } from '#table/memory.ts'
import { harness, type TestServer } from '#test/harness.ts'
import { NS_DATA } from '#xmpp/ns.ts'
import { attr, type Element, el } from '#xmpp/stanza.ts'
import disco from '../disco.ts'
import pep from '../pep.ts'
import { NS_OWNER, NS_PUBSUB } from './pep-words.ts'

const NODE = 'urn:test'
const JULIET = 'juliet@example.org'
const IDS = ['a', 'b', 'c', 'd', '~', 'ö/x']

type Step =
  | { readonly do: 'publish'; readonly id: string; readonly length: number }
  | { readonly do: 'retract'; readonly id: string }
  | { readonly do: 'configure'; readonly max: string; readonly last: string }
  | { readonly do: 'purge' }
  | { readonly do: 'restart' }

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({ do: fc.constant('publish' as const), id: fc.constantFrom(...IDS), length: fc.constantFrom(1, 3_000) }),
  },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('retract' as const), id: fc.constantFrom(...IDS) }) },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('configure' as const),
      max: fc.constantFrom('1', '2', '3', 'max'),
      last: fc.constantFrom('never', 'on_sub_and_presence'),
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('purge' as const) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('restart' as const) }) },
)

const payload = (length: number, n: number) => el('x', NODE, { n: String(n) }, 'x'.repeat(length))
const owner = (child: Element) => el('pubsub', NS_OWNER, {}, child)

function requestOf(step: Step, n: number): Element {
  if (step.do === 'publish') {
    const item = el('item', NS_PUBSUB, { id: step.id }, payload(step.length, n))
    return el('pubsub', NS_PUBSUB, {}, el('publish', NS_PUBSUB, { node: NODE }, item))
  }
  if (step.do === 'retract')
    return el('pubsub', NS_PUBSUB, {}, el('retract', NS_PUBSUB, { node: NODE }, el('item', NS_PUBSUB, { id: step.id })))
  if (step.do === 'purge') return owner(el('purge', NS_OWNER, { node: NODE }))
  const { max, last } = step as Step & { do: 'configure' }
  const field = (name: string, value: string) => el('field', NS_DATA, { var: name }, el('value', NS_DATA, {}, value))
  const fields = [
    field('FORM_TYPE', `${NS_PUBSUB}#node_config`),
    field('pubsub#max_items', max),
    field('pubsub#send_last_published_item', last),
  ]
  return owner(el('configure', NS_OWNER, { node: NODE }, el('x', NS_DATA, { type: 'submit' }, ...fields)))
}

/** A list of items, the oldest first, as the specification has it. */
class Model {
  items: { id: string; payload: Element }[] = []
  max = 1

  apply(step: Step, n: number): void {
    if (step.do === 'publish')
      this.items = [...this.items.filter(({ id }) => id !== step.id), { id: step.id, payload: payload(step.length, n) }]
    if (step.do === 'retract') this.items = this.items.filter(({ id }) => id !== step.id)
    if (step.do === 'purge') this.items = []
    if (step.do === 'configure') this.max = step.max === 'max' ? 1_000 : Number(step.max)
    this.items = this.items.slice(-this.max)
  }
}

test('whatever is published, retracted, configured and purged, also over restarts, the node has what a list would have, and no row more', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 25 }), async (steps) => {
      const table = memoryTable()
      let server: TestServer = await harness([disco, pep], { table })
      try {
        let juliet = await server.online(`${JULIET}/balcony`)
        const model = new Model()
        await juliet.iq('set', el('pubsub', NS_PUBSUB, {}, el('create', NS_PUBSUB, { node: NODE })))
        for (const [n, step] of steps.entries()) {
          if (step.do === 'restart') {
            await server.stop()
            server = await harness([disco, pep], { table })
            juliet = await server.online(`${JULIET}/balcony`)
          } else await juliet.iq('set', requestOf(step, n))
          model.apply(step, n)
        }
        const answer = await juliet.get(el('pubsub', NS_PUBSUB, {}, el('items', NS_PUBSUB, { node: NODE })))
        const items = (answer.children[0] as Element).children as readonly Element[]
        expect(items.map((item) => ({ id: attr(item, 'id'), payload: item.children[0] }))).toEqual(model.items)
        await server.quiet()
        let rows = 0
        for await (const _row of table.query(`j#pep-items#${JULIET}`)) rows++
        expect(rows).toBe(model.items.length)
      } finally {
        await server.stop()
      }
    }),
    { numRuns: 25 },
  )
})
