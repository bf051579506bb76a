// XEP-0199: XMPP Ping.
import { defineModule } from '#core/module.ts'
import { NS_PING } from '#xmpp/ns.ts'

export default defineModule({
  name: 'ping',
  home: 'router',
  xeps: [{ number: '0199', version: '2.0.1' }],
  features: { host: [NS_PING] },
  namespaces: [NS_PING],

  setup(app) {
    // §4.2: the server, which is also what answers for the bare JID of one's own account. For somebody else's nobody
    // answers, whether there is such an account or not.
    for (const target of ['self', 'host'] as const) app.iq('get', NS_PING, 'ping', target, () => {})
  },
})
