// What the accounts of a simulation keep: a module that does to a message what an archive does, and lets itself be checked.
//
// Each message is an entry in the journal of its sender and of its recipient, and with each entry the account counts one more, in
// a record, and turns another record on or off, so that rows are deleted and come back. A page of the journal, and the count,
// is the answer to an iq. What is delivered says by its id where it comes from:
//
//   <process> <number: rises with each> <archive id> <cause> [again]
import { defineModule } from '#core/module.ts'
import { el, type Stanza, stanzaOfBytes } from '#xmpp/stanza.ts'

export const JOURNAL = 'sim'
export const COUNT = 'count'
/** A row that is deleted at each third entry, and then written again. */
export const BLINKING = 'blinking'
export const NS_PAGE = 'urn:rookery:simulation'
const PAGE_ENTRIES = 6

/** What is deleted is as if it had never been: a record that is 0 is no row. */
export function blinkOf(count: number): number {
  return count % 3 === 0 ? 0 : count
}

export default defineModule({
  name: 'sim',
  home: 'router',
  xeps: [],
  namespaces: [NS_PAGE],
  journals: [JOURNAL],

  setup(app) {
    if (app.role !== 'router') return
    const entries = app.journal(JOURNAL, 'unique')
    const counts = app.record(COUNT, 0)
    const blinking = app.record(BLINKING, 0)
    let delivered = 0

    app.stamp('inbound', (message, { archiveId, cause, age }) => {
      if (message.name !== 'message') return message
      return renamed(message, `${app.server.version} ${++delivered} ${archiveId} ${cause}${age === 0 ? '' : ' again'}`)
    })

    for (const point of ['outbound', 'inbound'] as const)
      app.copy(point, async (message, { account, archiveId, cause, age }) => {
        if (message.name !== 'message') return
        const known = age === 0 ? undefined : await entries.get(account, archiveId)
        await counts.read(account, () => {}) // from here on nothing waits: all of it is staged together
        entries.append(account, archiveId, Buffer.from(cause), undefined, undefined, cause)
        if (known !== undefined) return
        counts.update(account, (count) => count + 1)
        const count = counts.peek(account)!
        blinking.update(account, () => blinkOf(count))
      })

    // All is in the journal: nobody need be told that he was not there.
    app.on('message.offline', (message) => {
      message.kept = true
    })

    app.iq('get', NS_PAGE, 'page', 'self', async ({ account, payload }) => {
      const { after = '' } = payload.attrs
      const ids: string[] = []
      for await (const { id } of entries.range(account, { ...(after !== '' && { after }), limit: PAGE_ENTRIES })) ids.push(id)
      const count = await counts.read(account, (count) => count)
      return el('page', NS_PAGE, { after, count: String(count) }, ids.join(' '))
    })
  },
})

function renamed({ name, from, to, type, lang, child, payload, trace }: Stanza, id: string): Stanza {
  return stanzaOfBytes(name, from, to, id, type, lang, child, payload, trace)
}
