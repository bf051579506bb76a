// The cluster that the clients of this folder connect to: two processes of each role on NATS and DynamoDB, behind a balancer.
//
// As by `make cluster`, a connection goes to the edge that has the fewest, with a PROXY header; so two people are on two edges. A
// client that is to come back to the edge it was on connects to that edge by name.
import { join } from 'node:path'
import { type Balancer, type Introduction, startBalancer } from '#test/cluster/balancer.ts'
import { type ClusterProcess, startTestCluster, type TestCluster } from '#test/cluster/processes.ts'

/** Where clients connect to: ports of 127.0.0.1. */
export interface Ports {
  readonly c2s: number
  readonly tls: number
  readonly websocket: number
  readonly http: number
}

/** As JSON, for the workers that run the tests. */
export interface ClusterPlace {
  readonly front: Ports
  /** Each edge for itself. */
  readonly edges: readonly Ports[]
  /** Where each process has its log, as `<name>.log`. */
  readonly logs: string
}

export interface ServingCluster {
  readonly place: ClusterPlace
  /** SIGTERM to each; throws Error where one does not end well. */
  stop(): Promise<void>
}

const INTRODUCTIONS: Readonly<Record<keyof Ports, Introduction>> = {
  c2s: 'proxy',
  tls: 'proxy',
  websocket: 'http',
  http: 'plain',
}
const LISTENERS = { c2s: 'c2s', tls: 'c2s (TLS)', websocket: 'websocket' } as const

/** Undefined where NATS or DynamoDB cannot be had: standard error says how to get them. */
export async function startServingCluster(): Promise<ServingCluster | undefined> {
  // What comes through a proxy is not local, and a browser's TLS ends before it: so none is asked for. It is offered, and used.
  const config = { c2s: { requireTls: false, proxyProtocol: true }, trustedProxies: ['127.0.0.1'] }
  const cluster = await startTestCluster({ config })
  if (cluster === undefined) return undefined
  const fronts: Front[] = []
  try {
    const front = await Front.open(fronts)
    await startProcesses(cluster, front.ports)
    const edges = cluster.of('edge')
    front.lead(edges, cluster.of('web'))
    const own: Ports[] = []
    for (const edge of edges) {
      const { lead, ports } = await Front.open(fronts)
      lead([edge], cluster.of('web'))
      own.push(ports)
    }
    return { place: { front: front.ports, edges: own, logs: cluster.folder }, stop: () => stopGently(cluster, fronts) }
  } catch (error) {
    await stopAll(cluster, fronts)
    throw error
  }
}

/** What is in front of edges: a balancer for each port. */
class Front {
  readonly ports: Ports
  readonly #balancers: Readonly<Record<keyof Ports, Balancer>>

  static async open(all: Front[]): Promise<Front> {
    const opened: Partial<Record<keyof Ports, Balancer>> = {}
    for (const [name, how] of Object.entries(INTRODUCTIONS)) opened[name as keyof Ports] = await startBalancer(how, 0, [])
    const front = new Front(opened as Record<keyof Ports, Balancer>)
    all.push(front)
    return front
  }

  private constructor(balancers: Readonly<Record<keyof Ports, Balancer>>) {
    this.#balancers = balancers
    const { c2s, tls, websocket, http } = balancers
    this.ports = { c2s: c2s.port, tls: tls.port, websocket: websocket.port, http: http.port }
  }

  readonly lead = (edges: readonly ClusterProcess[], web: readonly ClusterProcess[]): void => {
    for (const [name, listener] of Object.entries(LISTENERS))
      this.#balancers[name as keyof Ports].retarget(edges.map((edge) => edge.port(listener)))
    this.#balancers.http.retarget(web.map((process) => process.port('http')))
  }

  async close(): Promise<void> {
    await Promise.all(Object.values(this.#balancers).map((balancer) => balancer.close()))
  }
}

/** The pages are shown by one that has no edge: it says what its configuration says of where browsers connect. */
async function startProcesses(cluster: TestCluster, { c2s, tls, websocket, http }: Ports): Promise<void> {
  // All say where files are uploaded, for it is in what edges announce; and where they are kept, as one folder.
  const modules = { 'http-upload': { url: `http://127.0.0.1:${http}`, folder: join(cluster.folder, 'uploads') } }
  const shown = { c2s: { port: c2s, tlsPort: tls }, websocket: { port: websocket } }
  await cluster.add(['router', 'web'], { config: { ...shown, modules } })
  await cluster.add(['router'], { config: { modules } })
  for (const role of ['presence', 'edge'] as const) for (const _ of [1, 2]) await cluster.add([role], { config: { modules } })
  await cluster.ready()
}

/** As scripts/cluster.sh does: the last started first. */
async function stopGently(cluster: TestCluster, fronts: readonly Front[]): Promise<void> {
  try {
    for (const process of [...cluster.processes].reverse()) await process.stop()
  } finally {
    await stopAll(cluster, fronts)
  }
}

async function stopAll(cluster: TestCluster, fronts: readonly Front[]): Promise<void> {
  await Promise.all(fronts.map((front) => front.close()))
  await cluster.stop()
}
