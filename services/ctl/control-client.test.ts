import { mkdtempSync, rmSync } from 'node:fs'
import { createServer, Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, expect, test, vi } from 'vitest'
import { controlPath } from '#embedded/control.ts'
import { ANSWER_TIMEOUT_MS, connectControl } from './control-client.ts'

const cleanups: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
  vi.restoreAllMocks()
})

/** A server that answers any request with these lines, at once. */
async function answering(...lines: readonly object[]): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), 'rookery-client-'))
  const server = createServer((socket) => {
    socket.on('error', () => {}) // the client went away
    socket.on('data', () => socket.write(lines.map((line) => `${JSON.stringify(line)}\n`).join('')))
  })
  await new Promise<void>((listening) => server.listen(controlPath(folder), listening))
  cleanups.push(
    () => rmSync(folder, { recursive: true }),
    () => server.close(),
  )
  return folder
}

test('an export whose reader had stood still for a minute used to end with "the server has not answered"', async () => {
  const folder = await answering({ entry: 'one' }, { entry: 'two' }, { told: 2 })
  const timed = vi.spyOn(Socket.prototype, 'setTimeout')
  const client = (await connectControl(folder))!
  cleanups.push(() => client.close())
  const performing = client.perform({ call: 'account.export' })
  const first = performing.next()
  const [socket] = timed.mock.contexts as [Socket]
  expect(socket.timeout).toBe(ANSWER_TIMEOUT_MS)
  // Whoever has an entry takes what time he likes; and so behind the last.
  for (const expected of [{ value: 'one' }, { value: 'two' }, { value: 2, done: true }]) {
    expect(expected.value === 'one' ? await first : await performing.next()).toMatchObject(expected)
    expect(socket.timeout).toBe(0)
  }
})

test('a server that does not answer is given up', async () => {
  const folder = await answering()
  const timed = vi.spyOn(Socket.prototype, 'setTimeout')
  const client = (await connectControl(folder))!
  cleanups.push(() => client.close())
  const first = client.perform({ call: 'account.export' }).next()
  const [socket] = timed.mock.contexts as [Socket]
  socket.emit('timeout')
  await expect(first).rejects.toThrow(`the server has not answered for ${ANSWER_TIMEOUT_MS / 1000} s`)
})
