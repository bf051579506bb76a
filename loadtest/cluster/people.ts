// Clients of loadtest/bench for the scripts of this folder: u0, u1 … on the ports that are given, by turns.
import { Client } from '../bench/src/client.mjs'
import { inParallel } from '../bench/src/crowd.mjs'
import { run as makeUsers } from '../bench/src/scenarios/users.mjs'

const COMMON = {
  host: '127.0.0.1',
  domain: 'localhost',
  password: 'bench',
  resource: 'bench',
  auth: 'auto',
  transport: 'tcp',
  path: '',
}
const LOGINS_AT_ONCE = 32
const NO_METER = { cpu: () => null }

export const sleep = (seconds: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, seconds * 1_000))

export async function register(count: number, port: number): Promise<void> {
  await makeUsers({ ...COMMON, port, users: count, concurrency: 16 }, NO_METER)
}

/** u<index>, not connected longer than its login takes to fail. */
export async function logIn(index: number, port: number, users: number): Promise<Client> {
  const client = new Client(index, { ...COMMON, port, users, spread: true })
  await client.login()
  return client
}

/** The one with an even number is on the first of two ports, the other on the second; and so on. `arrive` runs behind each login. */
export async function logInAll(count: number, ports: readonly number[], arrive: (client: Client) => unknown): Promise<Client[]> {
  const clients = new Array<Client>(count)
  await inParallel(count, LOGINS_AT_ONCE, async (index: number) => {
    clients[index] = await logIn(index, ports[index % ports.length]!, count)
    await arrive(clients[index])
  })
  return clients
}

export async function logOutAll(clients: readonly Client[]): Promise<void> {
  await Promise.all(clients.map((client) => (client.closed ? undefined : client.logout())))
}

export function sayHello(client: Client): void {
  client.send('<presence/>')
}
