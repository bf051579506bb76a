// The control socket: how the `rookery` command reaches the server that runs on a data folder.
//
// One JSON object per line each way; a connection may ask again once it is answered.
//
//   → {"call":"account.create","account":"romeo@localhost","fields":{"password":"…"}}
//   ← {"told":null}                                          or {"condition":"conflict","text":"the account exists"}
//   → {"call":"account.list","fields":{"domain":"localhost"}}
//   ← {"entry":"romeo@localhost"} … {"told":1}
//   → {"call":"session.list","account":"romeo@localhost"}
//   ← {"entry":{"jid":"romeo@localhost/garden","available":true,…}} … {"told":1}
//
// Who may connect may do all of this: the socket is open to its owner alone. It also tells a second server that the folder
// is taken; what makes that certain is the lock (folder-lock.ts), held for as long as the socket is there.
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { chmodSync, lstatSync, realpathSync, rmSync, type Stats, statSync } from 'node:fs'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import type { Process, RunningRole } from '#core/process.ts'
import { type StanzaCondition, StanzaError } from '#xmpp/error.ts'
import { type AccountRequest, accountCalls, type Entry, type Perform } from './account-calls.ts'
import { type FolderLock, tryLockFolder } from './folder-lock.ts'
import { LineTooLong, linesOf } from './lines.ts'

/** One line of an answer. A list is any number of entries and then what is told. */
export type ControlLine =
  | { readonly entry: Entry }
  | { readonly told: unknown }
  | { readonly condition: StanzaCondition; readonly text: string }

/** sockaddr_un has room for 108 bytes on Linux and 104 elsewhere, the last of them 0. */
const PATH_BYTES_MAX = 100
/** A password has at most 1024 bytes and a bare JID 2047; JSON may write six for one. */
const REQUEST_BYTES_MAX = 32 * 1024
const CONNECTIONS_MAX = 256
/** Between two requests. */
export const IDLE_TIMEOUT_MS = 60_000
/** Entries of a list gather in one write up to this. */
const WRITE_BYTES = 16 * 1024
/** A command that is at work on the data at rest is waited for. */
const LOCK_WAIT_MS = 5_000
const LOCK_PAUSE_MS = 50
/** When the server stops, what is being answered has this long. */
const STOP_GRACE_MS = 2_000

/** Where the socket of a data folder is: in it, or in the folder for temporary files where that path would be too long. */
export function controlPath(dataFolder: string): string {
  const folder = realFolder(dataFolder)
  const path = join(folder, 'control.sock')
  if (Buffer.byteLength(path) <= PATH_BYTES_MAX) return path
  return join(tmpdir(), `rookery-${createHash('sha256').update(folder).digest('hex').slice(0, 32)}.sock`)
}

/**
 * Throws Error where the socket is not of this user or of whom the data belongs to: in the folder for temporary files
 * anybody could have put one, to be told passwords.
 */
export function demandOwnSocket(path: string, dataFolder: string): void {
  const found = statOf(path)
  if (found === undefined) return
  if (!found.isSocket()) throw new Error(`${path} is in the way of the control socket; remove it`)
  if (dirname(path) === realFolder(dataFolder)) return
  if (found.uid !== process.getuid?.() && found.uid !== statSync(dataFolder).uid) {
    throw new Error(`${path} belongs to another user (${found.uid}); remove it, or give data a shorter path`)
  }
}

/** Takes the data folder for this process, then opens the socket. Throws Error where another process has the folder. */
export async function startControl(process: Process): Promise<RunningRole> {
  const folder = process.config.data
  const path = controlPath(folder)
  const lock = await takeFolder(process, path)
  try {
    if (await isAnswered(path)) throw takenError(folder) // the folder is where locks do not hold
    demandOwnSocket(path, folder)
    rmSync(path, { force: true }) // of a server that died: with the lock held, nobody else can be behind it
    const connections = new Connections(process)
    const server = createServer({ allowHalfOpen: true }, (socket) => void connections.serve(socket))
    server.maxConnections = CONNECTIONS_MAX
    await open(server, path)
    server.on('error', (error) => process.log.error('control.failed', { error }))
    return {
      name: 'control',
      async stop() {
        const closed = new Promise((done) => server.close(done)) // and the path is gone
        await connections.end()
        await closed
        lock.release()
      },
    }
  } catch (error) {
    lock.release()
    throw error
  }
}

async function takeFolder({ config, clock }: Process, path: string): Promise<FolderLock> {
  const deadline = clock.monotonic() + LOCK_WAIT_MS
  for (;;) {
    const lock = tryLockFolder(config.data)
    if (lock !== undefined) return lock
    if (await isAnswered(path)) throw takenError(config.data)
    if (clock.monotonic() > deadline) {
      throw new Error(`another rookery process is at work on the data folder ${config.data}; wait until it is done, or stop it`)
    }
    await new Promise<void>((resume) => clock.setTimeout(resume, LOCK_PAUSE_MS))
  }
}

function takenError(folder: string): Error {
  return new Error(`another server runs on the data folder ${folder}; stop it, or set data to another folder`)
}

/** Whether a server is behind the path. */
function isAnswered(path: string): Promise<boolean> {
  return new Promise((tell) => {
    const socket = connect(path)
    socket.once('connect', () => {
      socket.destroy()
      tell(true)
    })
    socket.once('error', ({ code }: NodeJS.ErrnoException) => tell(code === 'EAGAIN')) // too many wait to be let in
  })
}

async function open(server: Server, path: string): Promise<void> {
  try {
    const listening = once(server, 'listening')
    server.listen(path)
    await listening
    chmodSync(path, 0o600)
  } catch (error) {
    server.close()
    throw new Error(`cannot open the control socket ${path}: ${(error as Error).message}; set data to a folder on a local disk`, {
      cause: error,
    })
  }
}

class Connections {
  readonly #process: Process
  readonly #perform: Perform
  readonly #open = new Set<Socket>()
  readonly #answering = new Set<Socket>()
  #ending = false

  constructor(process: Process) {
    this.#process = process
    this.#perform = accountCalls(process)
  }

  async serve(socket: Socket): Promise<void> {
    this.#open.add(socket)
    socket.on('close', () => this.#open.delete(socket))
    socket.on('error', () => {}) // a client that went away is nobody's fault
    socket.on('timeout', () => socket.destroy())
    socket.setTimeout(IDLE_TIMEOUT_MS)
    try {
      for await (const line of linesOf(socket, REQUEST_BYTES_MAX)) {
        this.#answering.add(socket)
        socket.setTimeout(0) // the answer may take its time, and so may whoever reads it: it may be a person with a pager
        await this.#answer(socket, line)
        socket.setTimeout(IDLE_TIMEOUT_MS)
        this.#answering.delete(socket)
        if (this.#ending) break
      }
      socket.end()
    } catch (error) {
      if (error instanceof LineTooLong)
        socket.end(textOf({ condition: 'policy-violation', text: error.message }), () => socket.destroy())
      else socket.destroy()
    } finally {
      this.#answering.delete(socket)
    }
  }

  /** Resolves when what was under way is answered, or has been given up. */
  async end(): Promise<void> {
    this.#ending = true
    for (const socket of this.#open) if (!this.#answering.has(socket)) socket.destroy()
    const { clock } = this.#process
    const impatience = clock.setTimeout(() => {
      for (const socket of this.#open) socket.destroy()
    }, STOP_GRACE_MS)
    await Promise.all([...this.#open].map((socket) => new Promise((gone) => socket.once('close', gone))))
    clock.clearTimeout(impatience)
  }

  /** Rejects only where the socket has failed. */
  async #answer(socket: Socket, line: string): Promise<void> {
    const request = requestOf(line)
    const { call, account } = request
    const performing = this.#perform(request)
    let text = ''
    let condition: StanzaCondition | undefined
    for (let done = false; !done; ) {
      try {
        const next = await performing.next()
        done = next.done === true
        text += textOf(next.done ? { told: next.value ?? null } : { entry: next.value })
      } catch (error) {
        done = true
        const refusal = this.#refusalOf(error, call)
        condition = refusal.condition
        text += textOf(refusal)
      }
      if (!done && text.length < WRITE_BYTES) continue
      await written(socket, text)
      text = ''
    }
    this.#process.log.info('control.answered', { call, account, ...(condition !== undefined && { condition }) })
  }

  #refusalOf(error: unknown, call: string): { condition: StanzaCondition; text: string } {
    if (error instanceof StanzaError) return { condition: error.condition, text: error.text }
    this.#process.log.error('control.broke', { call, error })
    return { condition: 'internal-server-error', text: '' }
  }
}

/** What is no JSON object is a request without a call. */
function requestOf(line: string): AccountRequest {
  let read: unknown
  try {
    read = JSON.parse(line)
  } catch {
    return { call: '' }
  }
  if (typeof read !== 'object' || read === null) return { call: '' }
  const { call, account, fields } = read as Partial<Record<string, unknown>>
  return { call: typeof call === 'string' ? call : '', account, fields }
}

function textOf(line: ControlLine): string {
  return `${JSON.stringify(line)}\n`
}

function written(socket: Socket, text: string): Promise<void> {
  return new Promise((done, failed) => socket.write(text, (error) => (error ? failed(error) : done())))
}

function realFolder(folder: string): string {
  try {
    return realpathSync(folder)
  } catch {
    return resolve(folder) // not there yet, and so without a socket
  }
}

function statOf(path: string): Stats | undefined {
  try {
    return lstatSync(path)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
}
