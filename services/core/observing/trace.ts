// Tracing hooks: where a stanza went, as one OpenTelemetry trace.
//
// Everything here is a no-op until `switchTracing(true)`, which whoever registers a tracer provider calls. A hot path
// asks `isTracing()` first, so that with tracing off a stanza costs one comparison. Contexts are passed by
// hand: no AsyncLocalStorage, which every await would pay for.
//
// A stanza carries its context through a process and in envelopes, as text: '' where it is not sampled, else in base64
//
//   16 bytes trace id   8 bytes span id
//
// The edge begins a trace with what a client sends (`traceFromHere`), whoever handles the stanza adds a span to it
// (`traceOn`), and what answers it belongs to it, too. So a message is one trace from the sender's edge to the recipient's.
import {
  type Context,
  isSpanContextValid,
  ROOT_CONTEXT,
  type Span,
  SpanStatusCode,
  TraceFlags,
  type Tracer,
  trace,
} from '@opentelemetry/api'
import { StanzaError } from '#xmpp/error.ts'
import { type Stanza, withTrace } from '#xmpp/stanza.ts'

export type TraceContext = Context
export type SpanFields = Record<string, string | number | boolean>

/** The context of what belongs to no trace. */
export const NO_TRACE: TraceContext = ROOT_CONTEXT

/** Of a sampled context, before it is base64. */
const TRACE_BYTES = 24

let tracing = false
let tracer: Tracer | undefined

export function isTracing(): boolean {
  return tracing
}

/** Call it after a provider was registered with `trace.setGlobalTracerProvider`. */
export function switchTracing(on: boolean): void {
  tracing = on
  tracer = on ? trace.getTracer('rookery') : undefined
}

/**
 * Runs `call` within a span, and ends the span when it returns, throws or settles. The context it is called with is
 * the parent for whatever it starts or sends. A StanzaError is an answer and no failure: it is noted by its condition.
 */
export function span<T>(name: string, parent: TraceContext, call: (context: TraceContext) => T, fields?: SpanFields): T {
  if (tracer === undefined) return call(parent)
  const started = tracer.startSpan(name, fields && { attributes: fields }, parent)
  let result: T
  try {
    result = call(trace.setSpan(parent, started))
  } catch (error) {
    fail(started, error)
    throw error
  }
  if (!(result instanceof Promise)) {
    started.end()
    return result
  }
  return result.then(
    (value) => {
      started.end()
      return value
    },
    (error) => {
      fail(started, error)
      throw error
    },
  ) as T
}

/** Handles what a client has sent, as the first span of a trace. `call` gets the stanza to go on with. */
export function traceFromHere(name: string, stanza: Stanza, call: (stanza: Stanza) => void): void {
  if (!tracing) return call(stanza)
  span(name, NO_TRACE, (context) => call(withTrace(stanza, encodeTrace(context))))
}

/** Handles a stanza as one span more of its trace, if it belongs to one. `call` gets the stanza to go on with. */
export function traceOn<T>(name: string, stanza: Stanza, fields: SpanFields, call: (stanza: Stanza) => T): T {
  if (!tracing || stanza.trace === '') return call(stanza)
  return span(name, decodeTrace(stanza.trace), (context) => call(withTrace(stanza, encodeTrace(context))), fields)
}

/** The context as a stanza carries it: '' when off, outside a trace, or not sampled. */
export function encodeTrace(context: TraceContext): string {
  if (!tracing) return ''
  const at = trace.getSpanContext(context)
  if (!at || (at.traceFlags & TraceFlags.SAMPLED) === 0) return ''
  return Buffer.from(at.traceId + at.spanId, 'hex').toString('base64')
}

/** The other way. Whatever is not a context (another length, all zeros) gives NO_TRACE: a trace is worth no refusal. */
export function decodeTrace(text: string): TraceContext {
  if (!tracing || text === '') return NO_TRACE
  const bytes = Buffer.from(text, 'base64')
  if (bytes.length !== TRACE_BYTES) return NO_TRACE
  const hex = bytes.toString('hex')
  const at = { traceId: hex.slice(0, 32), spanId: hex.slice(32), traceFlags: TraceFlags.SAMPLED, isRemote: true }
  return isSpanContextValid(at) ? trace.setSpanContext(ROOT_CONTEXT, at) : NO_TRACE
}

/** The trace id of a context, for a log line; '' outside a sampled trace. */
export function traceIdOf(context: TraceContext): string {
  if (!tracing) return ''
  const at = trace.getSpanContext(context)
  return at && (at.traceFlags & TraceFlags.SAMPLED) !== 0 ? at.traceId : ''
}

function fail(span: Span, error: unknown): void {
  if (error instanceof StanzaError) span.setAttribute('xmpp.error', error.condition)
  else {
    span.recordException(error instanceof Error ? error : String(error))
    span.setStatus({ code: SpanStatusCode.ERROR, message: error instanceof Error ? error.message : String(error) })
  }
  span.end()
}
