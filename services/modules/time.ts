// XEP-0202: Entity Time, of the server.
import { defineModule } from '#core/module.ts'
import { el } from '#xmpp/stanza.ts'
import { formatDateTime, formatOffset } from '#xmpp/time.ts'

const NS = 'urn:xmpp:time'

export default defineModule({
  name: 'time',
  home: 'router',
  xeps: [{ number: '0202', version: '2.0' }],
  features: { host: [NS] },
  namespaces: [NS],

  setup(app) {
    app.iq('get', NS, 'time', 'host', () => {
      // §6: an offset would tell where the machine stands. A server lives in UTC.
      return el('time', NS, {}, el('tzo', NS, {}, formatOffset(0)), el('utc', NS, {}, formatDateTime(app.clock.now())))
    })
  },
})
