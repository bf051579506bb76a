// Starts Converse.js against the server that this page came from.
//
// Nothing is asked of any other host: Converse's lists of public providers, room search, embedded players and pictures from
// elsewhere are off, and its own header and footer, which show pictures of its sponsors, are replaced (it defines only those
// elements that are not there yet).

const facts = JSON.parse(document.getElementById('facts').textContent)
const { websocket, domains, registration, encryption, converse: folder } = facts

/** Over https a proxy stands in front, and passes the WebSocket on as well. */
function websocketUrl() {
  if (location.protocol === 'https:') return `wss://${location.host}${websocket.path}`
  return `${websocket.tls ? 'wss' : 'ws'}://${location.hostname}:${websocket.port}${websocket.path}`
}

/** The domain this page is at, if accounts live there, else the first. */
function homeDomain() {
  return domains.find((domain) => new URL(`http://${domain}`).hostname === location.hostname) ?? domains[0]
}

function notice(text, link = 'Other ways to connect') {
  const paragraph = document.createElement('p')
  paragraph.className = 'chat-notice'
  paragraph.setAttribute('role', 'alert')
  paragraph.append(text, ' ', anchor('/', link))
  document.body.replaceChildren(paragraph)
}

function anchor(href, text) {
  const link = document.createElement('a')
  link.href = href
  link.textContent = text
  return link
}

function element(name, fill) {
  customElements.define(
    name,
    class extends HTMLElement {
      connectedCallback() {
        if (this.childElementCount === 0) fill(this)
      }
    },
  )
}

function replaceBranding(domain) {
  element('converse-brand-logo', (brand) => {
    brand.className = 'chat-brand'
    const icon = new Image(48, 48)
    icon.src = '/assets/icon.svg'
    icon.alt = ''
    const name = document.createElement('span')
    name.textContent = domain
    brand.append(icon, name)
  })
  element('converse-controlbox-navbar', (bar) => {
    bar.className = 'chat-nav'
    bar.append(anchor('/', 'About this server'))
  })
  element('converse-footer', (footer) => {
    footer.className = 'chat-footer'
    footer.append('The chat window is ', anchor('https://conversejs.org/', 'Converse.js'), '.')
  })
}

/** COMPAT: two faults of Converse 14.0.0. */
function mend() {
  const { api, exports, session } = this._converse
  // When a request is accepted it asks back with contact.subscribe(), which is its models' method for listeners: nothing is
  // sent, and the contact is never seen online.
  const { prototype } = exports.RosterContact
  const { subscribe } = prototype
  prototype.subscribe = function (...args) {
    return typeof args[0] === 'function' ? subscribe.apply(this, args) : this.subscribeToPresence(...args)
  }
  // A chat with somebody who is no contact waits for the block list, for ever if the server keeps none (XEP-0191).
  const Collection = Object.getPrototypeOf(exports.Blocklist)
  api.listen.on('discoInitialized', async () => {
    if (await api.disco.supports('urn:xmpp:blocking', session.get('domain'))) return
    api.trigger('blocklistInitialized', new Collection())
  })
}

async function start() {
  if (websocket === null) return notice('This server has no WebSocket open, so that browsers cannot connect.')
  // Without it a browser has no crypto.subtle, and no password can be proved without showing it.
  if (!window.isSecureContext)
    return notice('Chat works over https, or on the machine of the server itself at http://localhost: this page came without encryption.')

  const domain = homeDomain()
  replaceBranding(domain)
  let converse
  try {
    converse = (await import(`${folder}converse.min.js`)).default
  } catch (error) {
    console.error(error)
    return notice('The chat window could not be loaded. Reload the page to try again.')
  }
  converse.plugins.add('rookery', { dependencies: ['converse-roster', 'converse-blocklist'], initialize: mend })
  converse.initialize({
    whitelisted_plugins: ['rookery'],
    view_mode: 'fullscreen',
    assets_path: folder,
    sounds_path: `${folder}sounds/`,
    notification_icon: `${folder}images/logo/conversejs-filled.svg`,

    websocket_url: websocketUrl(),
    discover_connection_methods: false,
    // Not locked_domain: with it, romeo@elsewhere cannot be made a contact, only an account here of that very name.
    default_domain: domain,
    allow_registration: registration,
    registration_domain: domain,
    // It would make a hundred keys that it cannot publish.
    blacklisted_plugins: encryption ? [] : ['converse-omemo', 'converse-omemo-views'],

    xmpp_providers_url: '',
    autocomplete_providers_url: '',
    muc_search_service: '',
    embed_3rd_party_media_players: false,
    fetch_url_headers: false,
    render_media: [location.hostname],
    allowed_audio_domains: [location.hostname],
    allowed_image_domains: [location.hostname],
    allowed_video_domains: [location.hostname],
  })
}

start()
