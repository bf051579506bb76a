// XEP-0065: SOCKS5 Bytestreams: a proxy for two clients of whom neither can reach the other.
//
// The router that owns the account of whoever starts the transfer is his proxy: it tells him its own address, both ends connect
// to that, and his activation comes to it again, whatever number of routers there are. So each needs an address of its own that clients
// reach. Whose address changes in between, because the account has got another owner, is told item-not-found, and tries again.
import { createHash } from 'node:crypto'
import { BytestreamProxy } from '#core/files/bytestream-proxy.ts'
import { type App, defineModule, type IqCall, type Session } from '#core/module.ts'
import { StanzaError } from '#xmpp/error.ts'
import { type Jid, JidError, parseJid } from '#xmpp/jid.ts'
import { NS_DISCO_INFO } from '#xmpp/ns.ts'
import { attr, childOf, type Element, el, textOf } from '#xmpp/stanza.ts'

const NS = 'http://jabber.org/protocol/bytestreams'
const SID_UNITS_MAX = 1_000

interface Options {
  port: number
  host: string
  listen: string
  accountStreamsMax: number
  streamBytesMax: number
  connectionsMax: number
  addressConnectionsMax: number
}

export default defineModule<void, Options>({
  name: 'socks5-proxy',
  home: 'router',
  xeps: [{ number: '0065', version: '1.8.2', status: 'partial' }], // without UDP (§8)
  namespaces: [NS],
  options: {
    port: {
      default: 0,
      min: 0,
      max: 65_535,
      doc: 'The port of the proxy for file transfers between clients (XEP-0065), of each router; 0: there is none.',
    },
    host: { default: '', max: 255, doc: 'The name or address by which clients reach that port: of each router its own.' },
    listen: { default: '', max: 64, doc: 'The address that the port is opened on; by default all.' },
    accountStreamsMax: { default: 5, min: 1, max: 1_000, doc: 'Transfers that one account may have at a time.' },
    streamBytesMax: { default: 1024 * 1024 * 1024, min: 1, doc: 'Bytes of one transfer; beyond that it is cut off.' },
    connectionsMax: { default: 1_000, min: 2, max: 100_000, doc: 'Connections in all; a transfer has two.' },
    addressConnectionsMax: { default: 50, min: 2, max: 100_000, doc: 'Connections from one address, of IPv6 from one /64.' },
  },

  /** §4. */
  hostForms({ port }) {
    if (port === 0) return []
    return [
      el('identity', NS_DISCO_INFO, { category: 'proxy', type: 'bytestreams', name: 'SOCKS5 Bytestreams' }),
      el('feature', NS_DISCO_INFO, { var: NS }),
    ]
  },

  setup(app) {
    const { port, host } = app.options
    if (port === 0 || app.role !== 'router') return
    if (host === '') throw new Error('modules.socks5-proxy.host is missing: clients have to be told where the port is')
    const proxy = open(app)
    app.iq('get', NS, 'query', 'host', ({ iq, session }) => {
      demandOwn(session)
      return el('query', NS, {}, el('streamhost', NS, { jid: iq.to!.domain, host, port: String(port) })) // §4
    })
    app.iq('set', NS, 'query', 'host', (call) => activate(app, proxy, call))
  },
})

function open(app: App<Options>): BytestreamProxy {
  const { port, listen, streamBytesMax, connectionsMax, addressConnectionsMax: perAddressMax } = app.options
  const { clock, log, metrics } = app
  const carried = metrics.counter('bytestreams_bytes_total', 'Bytes that went through the SOCKS5 proxy.')
  const proxy = new BytestreamProxy(
    clock,
    { connectionsMax, perAddressMax, streamBytesMax },
    {
      ended(account, bytes) {
        carried.inc(bytes)
        log.info('bytestream.ended', { account, bytes })
      },
    },
  )
  metrics.watch('bytestreams_connections', 'Connections to the SOCKS5 proxy.', () => proxy.connections)
  proxy.listen(port, listen === '' ? undefined : listen).catch((error: unknown) => {
    log.error('bytestreams.not_listening', { error, help: `set modules.socks5-proxy.port: ${port} cannot be opened` })
  })
  app.on('role.stopping', () => proxy.stop())
  return proxy
}

/** §4: MUST be forbidden to whoever may not use it. */
function demandOwn(session: Session | undefined): asserts session is Session {
  if (session === undefined) throw new StanzaError('forbidden', 'the proxy is for the users of this server')
}

/** §6.3.5: the requester says that both are there. */
function activate(app: App<Options>, proxy: BytestreamProxy, { payload, session, account, afterwards }: IqCall): void {
  demandOwn(session)
  const name = nameOf(attr(payload, 'sid'), session.jid, targetOf(payload))
  if (!proxy.isReady(name)) throw new StanzaError('item-not-found', 'both have to be connected first')
  if (proxy.streamsOf(account.bare) >= app.options.accountStreamsMax)
    throw new StanzaError('resource-constraint', `at most ${app.options.accountStreamsMax} transfers at a time`, { type: 'wait' })
  afterwards(() => {
    if (proxy.isReady(name)) proxy.activate(name, account.bare)
  })
}

function targetOf(query: Element): Jid {
  const target = childOf(query, 'activate', NS)
  if (target === undefined) throw new StanzaError('bad-request', 'activate names the other end')
  try {
    return parseJid(textOf(target).trim())
  } catch (error) {
    if (error instanceof JidError) throw new StanzaError('jid-malformed', error.message)
    throw error
  }
}

/** §5.3.2: what both ends ask the proxy for. */
function nameOf(sid: string, requester: Jid, target: Jid): string {
  if (sid === '' || sid.length > SID_UNITS_MAX) throw new StanzaError('bad-request', 'a bytestream has an id')
  return createHash('sha1').update(`${sid}${requester.full}${target.full}`, 'utf8').digest('hex')
}
