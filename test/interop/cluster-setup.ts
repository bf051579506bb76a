// One cluster for all files of the project `cluster`, which run in threads of their own: it is started when the first of them
// asks, here in vitest's own process, and stopped behind the last.
//
//   POST <door>    200 and where it is (ClusterPlace); 503 and why there is none; 500 and what went wrong
import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { TestProject } from 'vitest/node'
import { type ServingCluster, startServingCluster } from './cluster.ts'

declare module 'vitest' {
  interface ProvidedContext {
    /** Where the cluster is to be asked for. */
    clusterDoor: string
  }
}

export default async function openDoor(project: TestProject): Promise<() => Promise<void>> {
  let starting: Promise<ServingCluster | undefined> | undefined
  const server = createServer((request, response) => {
    starting ??= startServingCluster()
    void answer(starting, request, response)
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  project.provide('clusterDoor', `http://127.0.0.1:${(server.address() as AddressInfo).port}/`)
  return async () => {
    server.closeAllConnections()
    await new Promise((closed) => server.close(closed))
    const cluster = await starting?.catch(() => undefined) // the tests were told
    await cluster?.stop()
  }
}

async function answer(
  starting: Promise<ServingCluster | undefined>,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  request.resume()
  try {
    const cluster = await starting
    if (cluster === undefined) response.writeHead(503).end('no NATS or no DynamoDB; standard error says how to get them')
    else response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(cluster.place))
  } catch (error) {
    response.writeHead(500).end((error as Error).stack)
  }
}
