// What the web role tells people and machines about the rest of the server.

import type { Uploads } from '#core/files/uploads.ts'
import type { AnyModule, ServerFacts } from '#core/module.ts'
import type { Config } from '#core/settings/config.ts'

/** Handed over by whoever started the edge: ports may have been chosen by the system. */
export interface WebFacts {
  readonly listeners: readonly EdgeListener[]
  readonly certificate: {
    readonly selfSigned: boolean
    /** SHA-256, as `AB:CD:…`. */
    readonly fingerprint: string
  }
}

export interface EdgeListener {
  readonly name: 'c2s' | 'c2s (TLS)' | 'websocket'
  readonly host: string
  readonly port: number
}

/** All that the pages are made of. */
export interface Site {
  readonly server: ServerFacts
  readonly config: Config
  readonly modules: readonly AnyModule[]
  readonly facts: WebFacts
  /** Undefined where files cannot be uploaded. */
  readonly uploads?: Uploads | undefined
}

/** The port of the WebSocket listener, that of the address `local` where there are several; undefined where it is off. */
export function websocketPort({ facts }: Site, local?: string): number | undefined {
  const open = facts.listeners.filter(({ name }) => name === 'websocket')
  return (open.find(({ host }) => host === local) ?? open[0])?.port
}
