// The WebSocket door on uWebSockets.js itself, where the C library is new enough for it: inside Debian 13.
//
// Elsewhere the same tests run on the `ws` package that stands in. Here their files run once more with
// EXPECT_UWS, and uWebSockets.js is loaded first by itself, so that a fallback cannot pass for it.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { inDebian13 } from './debian13.ts'

const ROOT = join(import.meta.dirname, '../..')
/** The tests that are run on uWebSockets.js. */
const FILES = ['services/edge/listeners/websocket.test.ts', 'services/edge/listeners/websocket-limits.test.ts']
/** Making the system takes a minute, once; a slow mirror takes more. */
const MAKING_MS = 300_000
const RUNNING_MS = 120_000

/** Answers one request, so that it is known to work and not only to load. */
const PROBE = `
  import uws from 'uWebSockets.js'
  uws.App().get('/', (response) => response.end('served')).listen('127.0.0.1', 0, async (socket) => {
    const answer = await fetch('http://127.0.0.1:' + uws.us_socket_local_port(socket))
    console.log('uWebSockets.js', await answer.text(), 'glibc', process.report.getReport().header.glibcVersionRuntime)
    process.exit(0)
  })`

function skipLoudly(skip: (note: string) => void): (text: string) => void {
  return (text) => {
    console.warn(`SKIPPED: uWebSockets.js inside Debian 13:\n${text}`)
    skip('this machine can run no Debian 13')
  }
}

describe('inside Debian 13', () => {
  test('uWebSockets.js loads and serves', { timeout: MAKING_MS }, async ({ skip }) => {
    const ran = await inDebian13(['node', '--input-type=module', '--eval', PROBE], {}, skipLoudly(skip))
    expect(ran?.output).toMatch(/uWebSockets\.js served glibc 2\.4\d/)
    expect(ran?.exitCode).toBe(0)
  })

  test.for(FILES)('%s passes on uWebSockets.js', { timeout: MAKING_MS + RUNNING_MS }, async (file, { skip }) => {
    // The file itself fails under EXPECT_UWS when it meets the stand-in; one that does not know of it proves nothing.
    expect(readFileSync(join(ROOT, file), 'utf8')).toContain('process.env.EXPECT_UWS')
    const ran = await inDebian13(
      ['vitest', 'run', '--reporter=verbose', file],
      { EXPECT_UWS: '1', NO_COLOR: '1' },
      skipLoudly(skip),
    )
    expect(ran?.output).toMatch(/Tests +\d+ passed/)
    expect(ran?.output).toContain('uWebSockets.js')
    expect(ran?.exitCode, ran?.output).toBe(0)
  })
})
