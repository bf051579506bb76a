// Tracing hooks: where a stanza went, as one OpenTelemetry trace.
//
// Everything here is a no-op until `switchTracing(true)`, which whoever registers a tracer provider calls. A hot path
// asks `isTracing()` first, so that with tracing off a stanza costs one comparison. Contexts are passed by
// hand: no AsyncLocalStorage, which every await would pay for.
//
// A context in an envelope, as it is on the wire: nothing, where the stanza is not sampled, else
//
//   16 bytes trace id   8 bytes span id
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

export type TraceContext = Context
export type SpanFields = Record<string, string | number | boolean>

/** The context of what belongs to no trace. */
export const NO_TRACE: TraceContext = ROOT_CONTEXT

/** Of a sampled context on the wire. */
export const TRACE_BYTES = 24

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

const NOTHING = new Uint8Array(0)

/** The context as an envelope carries it: empty when off, outside a trace, or not sampled. */
export function encodeTrace(context: TraceContext): Uint8Array {
  if (!tracing) return NOTHING
  const at = trace.getSpanContext(context)
  if (!at || (at.traceFlags & TraceFlags.SAMPLED) === 0) return NOTHING
  const bytes = new Uint8Array(TRACE_BYTES)
  bytes.set(Buffer.from(at.traceId, 'hex'))
  bytes.set(Buffer.from(at.spanId, 'hex'), 16)
  return bytes
}

/** The other way. Whatever is not a context (another length, all zeros) gives NO_TRACE: a trace is worth no refusal. */
export function decodeTrace(bytes: Uint8Array): TraceContext {
  if (!tracing || bytes.length !== TRACE_BYTES) return NO_TRACE
  const hex = Buffer.from(bytes.buffer, bytes.byteOffset, TRACE_BYTES).toString('hex')
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
