// The real command in processes of its own, on a folder of its own, for tests.
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { stringify } from 'yaml'

const MAIN = fileURLToPath(new URL('./main.ts', import.meta.url))
const STARTED_WITHIN_MS = 20_000

export interface Ended {
  readonly code: number | null
  readonly out: string
  readonly err: string
}

export interface Started {
  readonly process: ChildProcess
  /** Of the listener with this name: once its line is there, which may come behind the one that says the server has started. */
  port(name: string): Promise<number>
  /** Sends the signal and waits for the end. */
  stop(signal?: NodeJS.Signals): Promise<Ended>
}

export class Place {
  readonly folder = mkdtempSync(join(tmpdir(), 'rookery-ctl-'))
  readonly data = join(this.folder, 'data')
  readonly #running = new Set<ChildProcess>()

  /** Writes a configuration with every port left to the system, and gives its path. */
  configure(more: object = {}): string {
    const ports = {
      c2s: { port: 0, tlsPort: 'off', allowPlainOnLoopback: true },
      websocket: { port: 'off' },
      http: { port: 'off' },
    }
    return this.write(stringify({ data: this.data, scram: { iterations: 4096 }, ...ports, metrics: { port: 'off' }, ...more }))
  }

  write(text: string): string {
    const file = join(this.folder, 'rookery.yaml')
    writeFileSync(file, text)
    return file
  }

  /** Runs a command to its end. */
  async rookery(
    args: readonly string[],
    { input = '', env = {} }: { input?: string; env?: Record<string, string> } = {},
  ): Promise<Ended> {
    const { child, end } = this.#spawn(args, env)
    child.stdin!.on('error', () => {}) // it need not be read
    child.stdin!.end(input)
    return end
  }

  /** Starts a server, and waits until it says so. Rejects with what it wrote where it ends instead. */
  async run(file: string | undefined, env: Record<string, string> = {}): Promise<Started> {
    const { child, end, output } = this.#spawn(file === undefined ? ['run'] : ['run', '--config', file], env)
    const timeout = setTimeout(() => child.kill('SIGKILL'), STARTED_WITHIN_MS)
    const ended = end.then(({ out, err }) => Promise.reject(new Error(`the server did not start:\n${out}${err}`)))
    const started = new Promise<void>((tell) => {
      child.stdout!.on('data', () => {
        if (output().includes('"server.started"')) tell()
      })
    })
    await Promise.race([started, ended])
    clearTimeout(timeout)
    ended.catch(() => {}) // from here on that is what shall happen
    return {
      process: child,
      async port(name) {
        for (;;) {
          const port = portOf(output(), name)
          if (port !== undefined) return port
          await Promise.race([once(child.stdout!, 'data'), ended])
        }
      },
      stop(signal = 'SIGTERM') {
        child.kill(signal)
        return end
      },
    }
  }

  /** Ends what still runs, and removes the folder. */
  async clear(): Promise<void> {
    for (const child of this.#running) {
      child.kill('SIGKILL')
      await once(child, 'close')
    }
    rmSync(this.folder, { recursive: true, force: true })
  }

  #spawn(
    args: readonly string[],
    more: Record<string, string>,
  ): { child: ChildProcess; end: Promise<Ended>; output: () => string } {
    const clean = Object.entries(process.env).filter(([name]) => !name.startsWith('ROOKERY_'))
    const node = ['--disable-warning=ExperimentalWarning', MAIN, ...args]
    const child = spawn(process.execPath, node, { cwd: this.folder, env: { ...Object.fromEntries(clean), ...more } })
    this.#running.add(child)
    let out = ''
    let err = ''
    child.stdout.setEncoding('utf8').on('data', (text) => {
      out += text
    })
    child.stderr.setEncoding('utf8').on('data', (text) => {
      err += text
    })
    const end = once(child, 'close').then(([code]) => {
      this.#running.delete(child)
      return { code, out, err }
    })
    return { child, end, output: () => out }
  }
}

function portOf(output: string, name: string): number | undefined {
  for (const line of output.split('\n').slice(0, -1)) {
    if (!line.includes('"listener.opened"')) continue
    const opened = JSON.parse(line)
    if (opened.name === name) return opened.port
  }
}

/** Logs in with SASL PLAIN (RFC 6120 §6.4, RFC 4616) and gives the name of what the server answers: `success` or `failure`. */
export function logIn(port: number, name: string, password: string, domain = 'localhost'): Promise<string> {
  return new Promise((tell, failed) => {
    const socket = connect(port, '127.0.0.1')
    let received = ''
    let asked = false
    socket.setEncoding('utf8')
    socket.setTimeout(10_000, () => socket.destroy(new Error(`no answer to a login; received ${received}`)))
    socket.on('error', failed)
    socket.on('close', () => failed(new Error(`closed during the login; received ${received}`)))
    socket.write(
      `<stream:stream to='${domain}' version='1.0' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>`,
    )
    socket.on('data', (text) => {
      received += text
      if (!asked && received.includes('</stream:features>')) {
        asked = true
        const initial = Buffer.from(`\0${name}\0${password}`).toString('base64')
        socket.write(`<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>${initial}</auth>`)
      }
      const answer = /<(success|failure)\b/.exec(received)
      if (answer === null) return
      tell(answer[1]!)
      socket.destroy()
    })
  })
}

export interface OnlineClient {
  /** All that has come. */
  received(): string
  /** Resolves when this has come. */
  until(pattern: RegExp): Promise<RegExpExecArray>
  send(xml: string): void
  close(): void
}

/** Logs in as `logIn`, binds the resource, and shows presence. */
export async function goOnline(port: number, account: string, password: string, resource: string): Promise<OnlineClient> {
  const [name, domain] = account.split('@') as [string, string]
  const socket = connect(port, '127.0.0.1')
  let received = ''
  let told = (): void => {}
  const notify = (): void => told()
  socket.setEncoding('utf8').on('data', (text) => {
    received += text
    notify()
  })
  socket.on('error', notify).on('close', notify)
  const until = async (pattern: RegExp): Promise<RegExpExecArray> => {
    for (;;) {
      const found = pattern.exec(received)
      if (found !== null) return found
      if (socket.destroyed) throw new Error(`closed before ${pattern}; received ${received}`)
      await new Promise<void>((resolve) => {
        told = resolve
      })
    }
  }
  const header = `<stream:stream to='${domain}' version='1.0' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>`
  socket.write(header)
  await until(/<\/stream:features>/)
  const initial = Buffer.from(`\0${name}\0${password}`).toString('base64')
  socket.write(`<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>${initial}</auth>`)
  await until(/<success/)
  socket.write(header)
  await until(/<bind/)
  const bind = `<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>${resource}</resource></bind>`
  socket.write(`<iq type='set' id='bind'>${bind}</iq><presence/>`)
  await until(/<presence/) // its own: the server knows it is available
  return { received: () => received, until, send: (xml) => void socket.write(xml), close: () => void socket.destroy() }
}
