// XEP-0203: Delayed Delivery: what others say that this server has held back.
//
// Notes of ours are put in behind the hooks, by whoever has kept a message (offline.ts, edge/sessions/stream-management.ts); so one that
// a message has already when it comes for an account is not ours.
import { defineModule } from '#core/module.ts'
import { withoutDelayBy } from '#xmpp/delay.ts'

export default defineModule({
  name: 'delay',
  home: 'router',
  xeps: [{ number: '0203', version: '2.0' }],

  setup(app) {
    if (app.role !== 'router') return
    // §5: the recipient's server discards a notation whose `from` is itself.
    app.stamp('inbound', (stanza, { account }) => (stanza.name === 'message' ? withoutDelayBy(account.domain, stanza) : stanza))
  },
})
