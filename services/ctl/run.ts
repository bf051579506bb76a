// `rookery run`: starts the server, or one process of a cluster, in the foreground, says how to use it, and stops it on SIGTERM
// or SIGINT. On SIGHUP it reads the certificates again; where a terminal is what it runs in, that is the end of the terminal,
// and of the server.
import { isatty } from 'node:tty'
import { createLog } from '#core/observing/log.ts'
import { VERSION } from '#core/version.ts'
import type { Running } from '#embedded/serve.ts'
import { parseOptions, UsageError } from './command.ts'
import { type Configured, readConfiguration } from './configured.ts'
import { formOf } from './forms.ts'
import { parseRoles } from './roles.ts'

/** A stop that takes longer than this ends in an exit all the same. */
const STOP_TIMEOUT_MS = 20_000

export async function run(args: readonly string[]): Promise<number> {
  const { options, lists, words } = parseOptions(args, ['config'], ['role'])
  if (words.length > 0) throw new UsageError(`run takes no ${words[0]}`)
  const roles = parseRoles(lists.role)
  const configured = await readConfiguration(options.config)
  const { config, modules } = configured
  const form = formOf(config, roles)
  const log = createLog({ level: config.log.level, ...(config.log.pretty !== undefined && { pretty: config.log.pretty }) })
  process.on('uncaughtException', (error) => {
    log.error('process.broke', { error })
    log.flush()
    process.exit(1)
  })

  const stopped = untilTold()
  const told = new AbortController()
  void stopped.then(() => told.abort())
  const startedAt = performance.now()
  let reload: (() => Promise<void>) | undefined
  if (!isatty(0)) process.on('SIGHUP', () => void reload?.())
  const running = await startUnless(told.signal, () => form.start({ config, modules, log, roles, told: told.signal }))
  if (running === undefined) {
    log.info('server.stopped')
    log.flush()
    return 0
  }
  reload = () => running.reload()
  for (const { name, host, port, driver } of running.edge.listeners)
    log.info('listener.opened', { name, host, port, ...(driver !== undefined && { driver }) })
  for (const { name, host, port } of [...running.http, ...running.metrics]) log.info('listener.opened', { name, host, port })
  log.info('server.started', {
    version: VERSION,
    domains: config.domains,
    roles,
    source: configured.source,
    tookMs: Math.round(performance.now() - startedAt),
  })
  log.flush()
  if (configured.source === 'laptop' || process.stdout.isTTY) process.stdout.write(welcome(configured, running))

  const signal = await stopped
  log.info('server.stopping', { signal })
  const impatience = setTimeout(() => {
    log.error('server.stop_timed_out', { afterMs: STOP_TIMEOUT_MS })
    log.flush()
    process.exit(1)
  }, STOP_TIMEOUT_MS)
  await running.stop()
  clearTimeout(impatience)
  log.info('server.stopped')
  log.flush()
  return 0
}

/** Undefined where it did not start because it was told to stop first. */
async function startUnless(told: AbortSignal, start: () => Promise<Running>): Promise<Running | undefined> {
  try {
    return await start()
  } catch (error) {
    if (told.aborted) return undefined
    throw error
  }
}

function untilTold(): Promise<NodeJS.Signals> {
  return new Promise((resolve) => {
    const ends: NodeJS.Signals[] = ['SIGTERM', 'SIGINT']
    if (isatty(0)) ends.push('SIGHUP')
    for (const signal of ends) process.once(signal, () => resolve(signal))
  })
}

/** What a newcomer needs: where to click, how to register, how to connect the client he has. */
export function welcome(
  { config, source, file }: Pick<Configured, 'config' | 'source' | 'file'>,
  running: Pick<Running, 'certificate' | 'edge' | 'http'>,
): string {
  const domain = config.domains[0]!
  const registration = config.hosts[domain]?.registration ?? config.registration
  const lines = ['', `  Rookery ${VERSION} serves ${config.domains.join(', ')}`, '']
  const [http] = running.http
  if (http !== undefined) {
    lines.push(`  Open     http://${placeOf(http.host, domain)}:${http.port}/        how to connect, and a chat page to click on`)
  }
  lines.push(
    registration === 'open'
      ? `  Register in any client: server ${domain}, a name and a password of yours`
      : `  Register bin/rookery user add NAME@${domain}${fileOption(file)}      (registration is ${registration})`,
  )
  for (const { name, host, port } of running.edge.listeners) lines.push(`  ${name.padEnd(12)} ${host} port ${port}`)
  if (running.certificate?.selfSigned)
    lines.push(`  The certificate is self-signed: clients ask once. SHA-256 ${running.certificate.fingerprint}`)
  if (source === 'laptop') {
    lines.push('', '  No configuration file was given: this machine only, registration open, no TLS needed on loopback.')
    lines.push('  For others to connect, write a file (docs/configuration.md) and: make run CONFIG=rookery.yaml')
  }
  return `${lines.join('\n')}\n\n`
}

/** A command that is not told of the file goes by ./data and localhost (ctl/configured.ts), which is another server. */
function fileOption(file: string | undefined): string {
  if (file === undefined) return ''
  return ` --config ${/^[\w./:@%+=-]+$/.test(file) ? file : `'${file.replaceAll("'", "'\\''")}'`}` // as a shell takes it
}

/** How a browser reaches a listener: an address that means all of this machine's is no place to go to. */
function placeOf(host: string, domain: string): string {
  if (host === '0.0.0.0' || host === '::') return domain
  return host.includes(':') ? `[${host}]` : host
}
