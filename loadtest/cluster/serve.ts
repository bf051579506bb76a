// A cluster of one edge, one router, one presence service and one nats-server, for loadtest/bench (peers/rookery-cluster.sh):
// it runs in the foreground and names its processes in PIDFILE, those that count in the second line, what they store in in the third.
import { writeFileSync } from 'node:fs'
import { Site } from './site.ts'

const { PORT, WS_PORT, DATA, MAM = 'off', PIDFILE } = process.env

const stop = new Promise((resolve) => {
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, resolve)
})
const site = await Site.open({ data: DATA, config: { modules: { mam: { enabled: MAM === 'on' } } } })
try {
  await site.add('router', 'router')
  await site.add('presence', 'presence')
  await Promise.race([site.ready(), stop])
  const edge = { c2s: { port: Number(PORT ?? 0), tlsPort: 'off' }, websocket: { port: Number(WS_PORT ?? 0) } }
  await site.add('edge', 'edge', edge)
  const named = [...site.processes.map(({ name, pid }) => `${name}=${pid}`), `nats=${site.natsPid}`].join(',')
  if (PIDFILE) writeFileSync(PIDFILE, `${process.pid}\n${named}\ndynamodb=${site.dynamoPid}\n`)
  await Promise.race([site.ready(), stop])
  console.log(`rookery-cluster: ${named}, port ${PORT}, WebSocket port ${WS_PORT}, MAM ${MAM}`)
  await stop
} finally {
  await site.close()
}
process.exit()
