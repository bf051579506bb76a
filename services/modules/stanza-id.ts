// XEP-0359: Unique and Stable Stanza IDs: an id that says it is of an account here is one that this server has given.
//
// Given they are by the archive (mam.ts), which may be switched off; a client may believe what it finds all the same, so
// what others write in the account's name is removed whether or not there is an archive.
import type { Passage } from '#core/hooks.ts'
import { type App, defineModule } from '#core/module.ts'
import { Children, withoutChildren } from '#xmpp/children.ts'
import { type Jid, parseJid } from '#xmpp/jid.ts'
import { NS_SID } from '#xmpp/ns.ts'
import { type Stanza, stanzaOfBytes } from '#xmpp/stanza.ts'
import { asBuffer, escapeAttribute } from '#xmpp/xml.ts'

/** Its API says that it is there. */
export default defineModule<true>({
  name: 'stanza-id',
  home: 'router',
  xeps: [{ number: '0359', version: '0.7.0', status: 'partial' }], // mam.ts gives them

  setup(app) {
    if (app.role === 'router') removeForgedIds(app)
    return true
  },
})

/** §3, rule 2: an id that says it is of this account is only ever its own. */
export function removeForgedIds(app: App): void {
  for (const point of ['outbound', 'inbound'] as const)
    app.stamp(point, (stanza, { account }) => (stanza.name === 'message' ? withoutForgedId(stanza, account) : stanza))
}

function withoutForgedId(message: Stanza, { bare }: Jid): Stanza {
  if (asBuffer(message.payload).indexOf(STANZA_ID) < 0) return message
  return withoutChildren(message, (child, bytes) => isStanzaIdBy(child, bytes, bare))
}

/** Whether a message, behind the hooks, has an id of this account. */
export function hasIdOf({ payload }: Stanza, { bare }: Jid): boolean {
  const bytes = asBuffer(payload)
  if (bytes.indexOf(STANZA_ID) < 0) return false
  CHILDREN.begin()
  while (CHILDREN.next(bytes)) if (isStanzaIdBy(CHILDREN, bytes, bare)) return true
  return false
}

/** XEP-0359 §2.1, behind the message's own bytes. */
export function withStanzaId(message: Stanza, { account, archiveId }: Pick<Passage, 'account' | 'archiveId'>): Stanza {
  const { name, from, to, id, type, lang, child, payload, trace } = message
  const stanzaId = `<stanza-id xmlns='${NS_SID}' by='${escapeAttribute(account.bare)}' id='${archiveId}'/>`
  const bytes = Buffer.allocUnsafe(payload.length + Buffer.byteLength(stanzaId))
  bytes.set(payload)
  bytes.write(stanzaId, payload.length)
  return stanzaOfBytes(name, from, to, id, type, lang, child || STANZA_ID_NAME, bytes, trace)
}

/** The name of the element, which cannot be spelled in another way; its namespace is also that of the frequent origin-id. */
const STANZA_ID = Buffer.from('stanza-id')
const STANZA_ID_NAME = `{${NS_SID}}stanza-id`
const CHILDREN = new Children()

function isStanzaIdBy(child: Children, bytes: Buffer, bare: string): boolean {
  if (child.name !== STANZA_ID_NAME) return false
  const by = child.attribute(bytes, 'by')
  if (by === bare) return true
  try {
    return parseJid(by).full === bare // however it is spelled
  } catch {
    return false
  }
}
