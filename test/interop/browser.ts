// A person's browser: headless Chromium with an empty profile, that can reach this machine and nothing else.
import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type BrowserContext, chromium, type Page } from 'playwright-core'
import { PATIENCE_MS } from '#test/support/mailbox.ts'

const ARTEFACTS = join(import.meta.dirname, '../artefacts')
const FLAGS = [
  '--headless',
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1',
]

export const HOW_TO_GET_CHROMIUM =
  'there is no Chromium here. Get it with `apt-get install chromium`, or name a browser in ROOKERY_CHROMIUM.'

/** The browser to use; undefined if there is none. */
export function chromiumPath(): string | undefined {
  const named = process.env.ROOKERY_CHROMIUM
  return (named ? [named] : ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome']).find(existsSync)
}

export interface Browser {
  readonly page: Page
  /** Requests that would have left this machine: they were refused. */
  readonly strayed: readonly string[]
  /** What the page has to complain about: uncaught errors, and answers of 400 and above. */
  readonly complaints: readonly string[]
  /** The console, oldest first. */
  readonly console: readonly string[]
  /** Writes test/artefacts/NAME.png. */
  picture(name: string): Promise<void>
  close(): Promise<void>
}

export async function openBrowser(executablePath: string): Promise<Browser> {
  const profile = await mkdtemp(join(tmpdir(), 'chromium-'))
  await mkdir(ARTEFACTS, { recursive: true })
  const context: BrowserContext = await chromium.launchPersistentContext(profile, {
    executablePath,
    args: FLAGS,
    headless: true,
    viewport: { width: 1200, height: 800 },
    locale: 'en-GB',
    timeout: 30_000,
  })
  context.setDefaultTimeout(PATIENCE_MS)
  const page = context.pages()[0] ?? (await context.newPage())
  const strayed: string[] = []
  const complaints: string[] = []
  const lines: string[] = []
  await context.route(
    (url) => /^https?:$/.test(url.protocol) && !['127.0.0.1', 'localhost'].includes(url.hostname),
    (route) => {
      strayed.push(route.request().url())
      return route.abort()
    },
  )
  page.on('pageerror', (error) => complaints.push(`uncaught: ${error.message}`))
  page.on('response', (response) => {
    if (response.status() >= 400) complaints.push(`${response.status()} ${response.url()}`)
  })
  page.on('console', (message) => lines.push(`${message.type()}: ${message.text()}`))
  return {
    page,
    strayed,
    complaints,
    console: lines,
    picture: async (name) => {
      await page.screenshot({ path: join(ARTEFACTS, `${name}.png`), animations: 'disabled' })
    },
    close: async () => {
      await context.close()
      await rm(profile, { recursive: true, force: true })
    },
  }
}
