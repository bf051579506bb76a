// RFC 6121 §2.1.6 and XEP-0191 §3.3: Pushes: what only a user's own server tells his clients.
//
// A client is to ignore a push that others have sent it, and not every client has always done so. From others there is
// nothing else such an iq could mean to a client, so it is answered as if the resource were not there.
import { defineModule } from '#core/module.ts'
import { StanzaError } from '#xmpp/error.ts'
import { NS_ROSTER } from '#xmpp/ns.ts'

const NS_BLOCKING = 'urn:xmpp:blocking'
const PUSHES: ReadonlySet<string> = new Set([
  `{${NS_ROSTER}}query`,
  ...['block', 'unblock', 'blocklist'].map((name) => `{${NS_BLOCKING}}${name}`),
])

export default defineModule({
  name: 'pushes',
  home: 'router',
  xeps: [],

  setup(app) {
    if (app.role !== 'router') return
    app.guard('inbound', ({ name, type, to, child }, { account, peer }) => {
      if (name !== 'iq' || type !== 'set' || !PUSHES.has(child)) return
      // What is for the bare JID is answered in its name; one's own resources are trusted.
      if (to === undefined || to.resource === '' || peer.bare === account.bare) return
      throw new StanzaError('service-unavailable') // RFC 6121 §8.5.3.2.3
    })
  },
})
