// XEP-0115: Entity Capabilities: the server's own, in its stream features. Those of clients: edge/watching/caps.ts.

import { type AnyModule, defineModule, type ServerFacts } from '#core/module.ts'
import { factsOf } from '#core/settings/hosts.ts'
import { capsHash, NS_CAPS } from '#xmpp/caps.ts'
import { NS_OURS } from '#xmpp/ns.ts'
import { el } from '#xmpp/stanza.ts'
import disco, { hostInfo } from './disco.ts'

/** §4: names the software, not where it runs. */
const SOFTWARE_NODE = NS_OURS

function ownHash(server: ServerFacts, modules: readonly AnyModule[]): string {
  return capsHash(hostInfo(server, modules))!
}

export default defineModule({
  name: 'caps',
  home: 'presence',
  xeps: [{ number: '0115', version: '1.6.0' }],
  features: { host: [NS_CAPS] },
  streamFeatures: (server, modules) => [el('c', NS_CAPS, { hash: 'sha-1', node: SOFTWARE_NODE, ver: ownHash(server, modules) })], // §6.3

  setup(app) {
    const { nodes } = app.need(disco)
    for (const facts of new Set(app.server.domains.map((domain) => factsOf(app.server, domain)))) {
      const info = hostInfo(facts, app.modules)
      nodes.add(`${SOFTWARE_NODE}#${capsHash(info)}`, () => info) // §6.2
    }
  },
})
