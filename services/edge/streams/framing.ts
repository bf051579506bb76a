// The two ways a stream is framed: as one document (RFC 6120 §4.2) and as a document a message (RFC 7395 §3).
import type { StreamError } from '#xmpp/error.ts'
import { NS_CLIENT, NS_FRAMING, NS_STREAM, NS_STREAMS } from '#xmpp/ns.ts'
import { escapeAttribute, escapeText, serialise } from '#xmpp/xml.ts'

export interface StreamHead {
  readonly id: string
  readonly from: string
  /** The bare JID the client gave as `from` (RFC 6120 §4.7.2), or, once he has logged in, his; '' leaves it out. */
  readonly to: string
}

export interface Framing {
  open(head: StreamHead): string
  features(children: string): string
  error(error: StreamError): string
  close(): string
  /** The namespace to declare on each stanza's root; '' where the stream has declared it. */
  readonly xmlns: string
}

export const STREAM_FRAMING: Framing = {
  open: ({ id, from, to }) =>
    `<?xml version='1.0'?><stream:stream xmlns='${NS_CLIENT}' xmlns:stream='${NS_STREAM}' ${headAttributes(id, from, to)}>`,
  features: (children) => `<stream:features>${children}</stream:features>`,
  error: (error) => `<stream:error>${errorChildren(error)}</stream:error>`,
  close: () => '</stream:stream>',
  xmlns: '',
}

export const FRAME_FRAMING: Framing = {
  open: ({ id, from, to }) => `<open xmlns='${NS_FRAMING}' ${headAttributes(id, from, to)}/>`,
  features: (children) => `<stream:features xmlns:stream='${NS_STREAM}' xmlns='${NS_CLIENT}'>${children}</stream:features>`,
  error: (error) => `<stream:error xmlns:stream='${NS_STREAM}'>${errorChildren(error)}</stream:error>`,
  close: () => `<close xmlns='${NS_FRAMING}'/>`,
  xmlns: NS_CLIENT,
}

function headAttributes(id: string, from: string, to: string): string {
  const addressed = to === '' ? '' : ` to='${escapeAttribute(to)}'`
  return `id='${id}' from='${escapeAttribute(from)}'${addressed} version='1.0' xml:lang='en'`
}

/** RFC 6120 §4.9.2. */
function errorChildren({ condition, text, extra }: StreamError): string {
  const said = text === '' ? '' : `<text xmlns='${NS_STREAMS}' xml:lang='en'>${escapeText(text)}</text>`
  return `<${condition} xmlns='${NS_STREAMS}'/>${said}${extra === undefined ? '' : serialise(extra, NS_CLIENT)}`
}
