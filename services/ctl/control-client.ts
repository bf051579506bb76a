// The command's end of the control socket (embedded/control.ts draws its lines).
import { connect, type Socket } from 'node:net'
import type { AccountRequest, Entry, Perform } from '#embedded/account-calls.ts'
import { type ControlLine, controlPath, demandOwnSocket } from '#embedded/control.ts'
import { linesOf } from '#embedded/lines.ts'
import { StanzaError } from '#xmpp/error.ts'

/** The longest is the list of an account's sessions. */
const ANSWER_BYTES_MAX = 1024 * 1024
/** While it is waited for: whoever reads it takes what time he likes. */
export const ANSWER_TIMEOUT_MS = 60_000

export interface ControlClient {
  /** One at a time. Throws the StanzaError of a refusal, and Error where the server goes away. */
  readonly perform: Perform
  close(): void
}

/** Connects to the server that runs on the data folder; undefined where none does. Throws Error where it may not be talked to. */
export async function connectControl(dataFolder: string): Promise<ControlClient | undefined> {
  const path = controlPath(dataFolder)
  demandOwnSocket(path, dataFolder)
  const socket = await connected(path)
  if (socket === undefined) return undefined
  const lines = linesOf(socket, ANSWER_BYTES_MAX)
  return {
    perform: (request) => perform(socket, lines, request),
    close: () => void socket.destroy(),
  }
}

function connected(path: string): Promise<Socket | undefined> {
  return new Promise((resolve, reject) => {
    const socket = connect(path)
    socket.once('connect', () => {
      socket.removeAllListeners('error').on('error', () => {}) // whoever reads is told
      socket.on('timeout', () => socket.destroy(new Error(`the server has not answered for ${ANSWER_TIMEOUT_MS / 1000} s`)))
      resolve(socket)
    })
    socket.once('error', (error: NodeJS.ErrnoException) => {
      const { code, message } = error
      if (code === 'ENOENT' || code === 'ECONNREFUSED') resolve(undefined)
      else if (code === 'EACCES') reject(new Error(`only the user that the server runs as may manage its accounts (${message})`))
      else reject(new Error(`the server cannot be reached: ${message}`, { cause: error }))
    })
  })
}

async function* perform(
  socket: Socket,
  lines: AsyncGenerator<string, void>,
  request: AccountRequest,
): AsyncGenerator<Entry, unknown> {
  socket.write(`${JSON.stringify(request)}\n`)
  for (;;) {
    socket.setTimeout(ANSWER_TIMEOUT_MS)
    const line = await nextLine(lines)
    socket.setTimeout(0)
    if (line === undefined) throw new Error('the server stopped before it answered; look whether it was done, once it runs again')
    const answer = JSON.parse(line) as ControlLine
    if ('condition' in answer) throw new StanzaError(answer.condition, answer.text)
    if ('told' in answer) return answer.told
    yield answer.entry
  }
}

/** Undefined where the server has closed, whether or not it said goodbye. */
async function nextLine(lines: AsyncGenerator<string, void>): Promise<string | undefined> {
  try {
    const { value, done } = await lines.next()
    return done ? undefined : (value as string)
  } catch (error) {
    if (['ECONNRESET', 'EPIPE', 'ERR_STREAM_PREMATURE_CLOSE'].includes((error as NodeJS.ErrnoException).code ?? ''))
      return undefined
    throw error
  }
}
