// XEP-0092: Software Version, of the server.
import { release, type } from 'node:os'
import { defineModule } from '#core/module.ts'
import { el } from '#xmpp/stanza.ts'
import { SOFTWARE_NAME } from './disco.ts'

const NS = 'jabber:iq:version'

export default defineModule<void, { showOs: boolean }>({
  name: 'version',
  home: 'router',
  xeps: [{ number: '0092', version: '1.1' }],
  features: { host: [NS] },
  namespaces: [NS],
  options: {
    // §5: an application must let an administrator keep the operating system to himself.
    showOs: { default: false, doc: 'Whether clients are also told the operating system the server runs on.' },
  },

  setup(app) {
    app.iq('get', NS, 'query', 'host', () => {
      const answer = [el('name', NS, {}, SOFTWARE_NAME), el('version', NS, {}, app.server.version)]
      if (app.options.showOs) answer.push(el('os', NS, {}, `${type()} ${release()}`))
      return el('query', NS, {}, ...answer) // §2
    })
  },
})
