// The part of @xmpp/client that the tests use: the package has no types of its own.
declare module '@xmpp/client' {
  import type { EventEmitter } from 'node:events'

  export class Element {
    name: string
    attrs: Record<string, string>
    children: (Element | string)[]
    is(name: string, xmlns?: string): boolean
    getNS(): string | undefined
    getChild(name: string, xmlns?: string): Element | undefined
    getChildren(name: string, xmlns?: string): Element[]
    getChildElements(): Element[]
    getChildText(name: string, xmlns?: string): string | null
    text(): string
    toString(): string
  }

  type Child = Element | string | number | undefined

  export function xml(name: string, attrs?: Record<string, string | undefined> | null, ...children: (Child | Child[])[]): Element

  export interface JID {
    toString(): string
    bare(): JID
    local: string
    domain: string
    resource: string
  }

  export interface Client extends EventEmitter {
    jid: JID | null
    timeout: number
    isSecure(): boolean
    start(): Promise<JID>
    stop(): Promise<unknown>
    send(element: Element): Promise<void>
    readonly status: string
    readonly socket: object | null
    reconnect: { start(): void; stop(): void; reconnect(): Promise<void> }
    streamManagement: EventEmitter & { readonly enabled: boolean; inbound: number }
    iqCaller: {
      request(stanza: Element, timeoutMs?: number): Promise<Element>
      readonly handlers: Map<string, { readonly promise: Promise<Element> }>
    }
    iqCallee: {
      get(xmlns: string, name: string, handler: (context: { stanza: Element }) => Element | boolean | object): void
      set(xmlns: string, name: string, handler: (context: { stanza: Element }) => Element | boolean | object): void
    }
  }

  export function client(options: {
    service: string
    domain?: string
    username?: string
    password?: string
    resource?: string
    lang?: string
    timeout?: number
  }): Client
}
