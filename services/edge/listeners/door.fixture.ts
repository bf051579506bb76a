// A door for tests: what a listener is given, around connections that the test may keep.
import { networkInterfaces } from 'node:os'
import type { TestProcess } from '../edge.fixture.ts'
import { admissionOf, type Door, type OpenEdge, type TlsSource } from '../main.ts'
import { type CertificatePair, ensureCertificate } from './certificate.ts'
import { makeTls, type Tls } from './certificates.ts'
import type { Connection, OnConnection } from './connection.ts'

export const hasIpv6 = Object.values(networkInterfaces()).some((addresses) => addresses?.some(({ address }) => address === '::1'))
if (!hasIpv6) console.warn('SKIPPED: this machine has no IPv6, so nothing of it is tested')

/** A connection for which nobody does anything. */
export const NOBODY: OnConnection = () => ({ state: 'open', data() {}, closed() {} })

/** Certificates that the test may change. */
export class TestTls implements TlsSource {
  tls: Tls
  readonly #listeners: ((tls: Tls) => void)[] = []

  constructor(pairs: readonly CertificatePair[], clientCa?: string) {
    this.tls = makeTls(pairs, clientCa)
  }

  onChange(listener: (tls: Tls) => void): void {
    this.#listeners.push(listener)
  }

  change(pairs: readonly CertificatePair[]): void {
    this.tls = makeTls(pairs)
    for (const listener of this.#listeners) listener(this.tls)
  }
}

export interface TestDoor extends Door {
  /** Those that have come, oldest first. */
  readonly connections: readonly Connection[]
}

export function testDoor(process: TestProcess, certificates: TlsSource, open?: OpenEdge): TestDoor {
  const connections: Connection[] = []
  const onConnection = open?.onConnection ?? NOBODY
  return {
    config: process.config,
    certificates,
    admission: admissionOf(process, open?.edge ?? { streams: new Set() }),
    onConnection(connection) {
      connections.push(connection)
      return onConnection(connection)
    },
    log: process.log,
    connections,
  }
}

/** Our own, in a folder that the test removes. */
export function testCertificate(folder: string, domains: readonly string[] = ['example.org']): Promise<CertificatePair> {
  return ensureCertificate(folder, domains)
}
