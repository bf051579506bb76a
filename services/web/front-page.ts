// The front page: what runs here, and how a person gets in, with a browser, a phone or a desktop client.
//
// It is made once, of the configuration and of the ports that were opened. Nothing of a request is in it.

import { isLoopback } from '#core/network.ts'
import { factsOf } from '#core/settings/hosts.ts'
import type { EdgeListener, Site } from './facts.ts'
import { html, type Markup } from './html.ts'
import { page } from './layout.ts'

export function frontPage(site: Site): string {
  const { domains, version } = site.server
  const [domain] = domains as [string]
  const chat = portsOf(site, 'websocket').length > 0
  return page(
    `${domain}: Rookery`,
    version,
    html`<header class="hero">
<img src="/assets/icon.svg" alt="" width="64" height="64">
<h1>${domain}</h1>
<p>This is Rookery ${version}, a chat server that speaks XMPP: any XMPP app can connect.${domains.length > 1 ? html` Accounts live at ${list(domains)}.` : undefined}</p>
${chat ? html`<p><a class="button" href="/chat/">Chat in this browser</a></p>` : undefined}
</header>
<main>
${account(site, domain, chat)}
<section aria-labelledby="apps">
<h2 id="apps">Connect with an app</h2>
<p>Log in as <code>you@${domain}</code> with your password. Most apps find the rest by themselves.</p>
<div class="cards">
${phone(site, domain)}
${desktop(site)}
</div>
</section>
${ports(site)}
${certificate(site)}
</main>`,
  )
}

function account({ server }: Site, domain: string, chat: boolean): Markup {
  const text =
    factsOf(server, domain).registration === 'open'
      ? html`<p>Registration is <strong>open</strong>: pick a name and a password, and you are in${chat ? ', either' : undefined}</p>
<ul>
${chat ? html`<li>in this browser: <a href="/chat/#converse/register">create an account</a>, or</li>` : undefined}
<li>in an app that can register (Gajim, Dino, Psi, Monal, Conversations): choose to create a new account, on the server <code>${domain}</code>.</li>
</ul>`
      : html`<p>Registration is <strong>closed</strong>: whoever runs this server makes the accounts. Ask for one, or, if that is you:</p>
<pre><code>bin/rookery user add NAME@${domain} --config FILE</code></pre>
<p class="note"><code>FILE</code> is the configuration that this server was started with; leave it out where there is none.</p>`
  return html`<section aria-labelledby="account">
<h2 id="account">Get an account</h2>
${text}
</section>`
}

function phone(site: Site, domain: string): Markup {
  const how = isPrivate(site)
    ? html`<p class="note">Not yet: this server listens on its own machine only, so a phone cannot reach it. Set <code>domains</code> and <code>listen</code> in its configuration to let others in.</p>`
    : html`<ol>
<li>Install <a href="https://conversations.im/">Conversations</a> (Android) or <a href="https://monal-im.org/">Monal</a> (iPhone, iPad).</li>
<li>Choose to use an account that you have, and enter <code>you@${domain}</code>.</li>
<li>If the app asks for a server or host: <code>${domain}</code>, port ${first(site, 'c2s') ?? first(site, 'c2s (TLS)')}.</li>
</ol>`
  return html`<article>
<h3>Phone</h3>
${how}
</article>`
}

function desktop(site: Site): Markup {
  const [domain] = site.server.domains
  const plain = first(site, 'c2s')
  const direct = first(site, 'c2s (TLS)')
  const port = plain ?? direct
  return html`<article>
<h3>Desktop</h3>
<ol>
<li>Install <a href="https://gajim.org/">Gajim</a>, <a href="https://dino.im/">Dino</a> or <a href="https://psi-im.org/">Psi</a>.</li>
<li>Add an account: <code>you@${domain}</code>.</li>
${port === undefined ? undefined : html`<li>If it does not connect by itself, set the host to <code>${domain}</code> and the port to ${port}${plain === undefined ? ' (direct TLS)' : undefined}.</li>`}
</ol>
</article>`
}

function ports(site: Site): Markup {
  const { c2s, websocket, listen } = site.config
  const plain = c2s.requireTls
    ? `STARTTLS required${c2s.allowPlainOnLoopback ? ', except from this machine itself' : ''}`
    : 'STARTTLS offered'
  const frames = websocket.tls
    ? 'TLS'
    : c2s.allowPlainOnLoopback
      ? 'plain, for browsers on this machine'
      : 'plain, for the TLS proxy in front'
  return html`<section aria-labelledby="ports">
<h2 id="ports">Ports</h2>
<div class="wide">
<table>
<thead><tr><th scope="col">For</th><th scope="col">Port</th><th scope="col">How</th></tr></thead>
<tbody>
${row(site, 'c2s', 'Apps', plain)}
${row(site, 'c2s (TLS)', 'Apps', 'TLS from the first byte')}
${row(site, 'websocket', 'Browsers', html`WebSocket at <code>${websocket.path}</code>, ${frames}`)}
</tbody>
</table>
</div>
<p>Open on ${list(listen.map((address) => (address === '0.0.0.0' || address === '::' ? 'every address of this machine' : address)))}.</p>
</section>`
}

function row(site: Site, name: EdgeListener['name'], who: string, how: string | Markup): Markup | undefined {
  const open = portsOf(site, name)
  return open.length === 0 ? undefined : html`<tr><td>${who}</td><td>${open.join(', ')}</td><td>${how}</td></tr>`
}

function certificate({ facts }: Site): Markup | undefined {
  if (!facts.certificate.selfSigned) return undefined
  return html`<section aria-labelledby="certificate">
<h2 id="certificate">Certificate</h2>
<p>This server made its own certificate, so nobody has vouched for it: your app will warn you once, and show a fingerprint. Accept it only if the fingerprint (SHA-256) is this one:</p>
<pre class="fingerprint"><code>${facts.certificate.fingerprint}</code></pre>
<p class="note">If you read this over a network that you do not trust, compare with what the server prints when it starts. A server that others use should have a certificate of a public authority: <code>tls.cert</code> and <code>tls.key</code> in its configuration.</p>
</section>`
}

function portsOf({ facts }: Site, name: EdgeListener['name']): number[] {
  return [...new Set(facts.listeners.filter((listener) => listener.name === name).map(({ port }) => port))]
}

function first(site: Site, name: EdgeListener['name']): number | undefined {
  return portsOf(site, name)[0]
}

function isPrivate({ config }: Site): boolean {
  return config.listen.every(isLoopback)
}

/** `a`, `b` and `c`. */
function list(words: readonly string[]): Markup {
  const last = words.length - 1
  return html`${[...new Set(words)].map((word, i) => html`${i === 0 ? '' : i === last ? ' and ' : ', '}<code>${word}</code>`)}`
}
