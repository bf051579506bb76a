// The frame that every page of ours has, and the page for what is not there.
import { html, type Markup } from './html.ts'

export const HTML_TYPE = 'text/html; charset=utf-8'

/** Nothing but our own style sheet and pictures; no script at all. */
export const PAGE_POLICY =
  "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

export function page(title: string, version: string, body: Markup): string {
  return html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>${title}</title>
<link rel="icon" href="/assets/icon.svg" type="image/svg+xml">
<link rel="stylesheet" href="/assets/site.css">
</head>
<body>
${body}
<footer>
<p>Rookery ${version}, an XMPP server. <a href="/.well-known/host-meta">host-meta</a></p>
</footer>
</body>
</html>
`.text
}

export function notFoundPage(version: string): string {
  return page(
    'Nothing here',
    version,
    html`<header class="hero">
<img src="/assets/icon.svg" alt="" width="64" height="64">
<h1>Nothing here</h1>
<p>There is no page at this address.</p>
<p><a class="button" href="/">To the front page</a></p>
</header>`,
  )
}
