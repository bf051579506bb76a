// A password: asked for on a terminal, twice and unseen; or the first line of standard input where that is no terminal.
import { createInterface, type Interface } from 'node:readline/promises'
import { Writable } from 'node:stream'
import type { ReadStream } from 'node:tty'

/** More than any password has; what is longer is cut, and refused for its length. */
const LINE_BYTES_MAX = 8 * 1024

export interface PasswordSource {
  readonly input: NodeJS.ReadableStream
  /** For the questions; standard output stays for results. */
  readonly output: NodeJS.WritableStream
}

/** Throws Error where there is none, or where the two that were typed differ. */
export async function askPassword(
  question: string,
  source: PasswordSource = { input: process.stdin, output: process.stderr },
): Promise<string> {
  const password = (source.input as ReadStream).isTTY ? await typed(question, source) : await firstLine(source.input)
  if (password === '') throw new Error('there is no password: type one, write one line to standard input, or use --password')
  return password
}

async function typed(question: string, { input, output }: PasswordSource): Promise<string> {
  // It draws what is typed to its output: that one shows nothing. Editing, and ^C, work as everywhere.
  const unseen = new Writable({ write: (_chunk, _encoding, done) => done() })
  const terminal = createInterface({ input, output: unseen, terminal: true, historySize: 0 })
  try {
    const password = await answered(terminal, output, `${question}: `)
    if (password !== '' && (await answered(terminal, output, `${question}, again: `)) !== password) {
      throw new Error('the two passwords differ; nothing was changed')
    }
    return password
  } finally {
    terminal.close()
  }
}

function answered(terminal: Interface, output: NodeJS.WritableStream, question: string): Promise<string> {
  output.write(question)
  return new Promise<string>((resolve, reject) => {
    const interrupted = (): void => reject(new Error('interrupted; nothing was changed')) // ^C, ^D
    terminal.once('close', interrupted)
    void terminal.question('').then((line) => {
      terminal.removeListener('close', interrupted)
      resolve(line)
    }, reject)
  }).finally(() => output.write('\n'))
}

/** Up to the first line feed, without a carriage return before it. Does not wait for the end of the input. */
async function firstLine(input: NodeJS.ReadableStream): Promise<string> {
  const parts: Buffer[] = []
  let length = 0
  for await (const chunk of input) {
    const bytes = Buffer.from(chunk)
    const end = bytes.indexOf(10)
    parts.push(end === -1 ? bytes : bytes.subarray(0, end))
    length += bytes.length
    if (end !== -1 || length > LINE_BYTES_MAX) break
  }
  return Buffer.concat(parts).toString('utf8').replace(/\r$/, '')
}
