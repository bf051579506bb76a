// A tracer that keeps its spans, for tests.
import {
  type Attributes,
  type Context,
  type Span,
  type SpanContext,
  TraceFlags,
  type TracerProvider,
  trace,
} from '@opentelemetry/api'
import { afterEach, beforeEach } from 'vitest'
import { switchTracing } from './trace.ts'

export interface Recorded {
  readonly name: string
  readonly parent: string | undefined
  readonly context: SpanContext
  readonly fields: Attributes
  exceptions: number
  failed: boolean
  ended: boolean
}

/** As little of an SDK as these tests need: every span of a new trace has `flags`, a child takes its parent's. */
function recorder(flags: TraceFlags): { provider: TracerProvider; spans: Recorded[] } {
  const spans: Recorded[] = []
  const startSpan = (name: string, options: { attributes?: Attributes } = {}, parent?: Context): Span => {
    const above = parent && trace.getSpanContext(parent)
    const id = String(spans.length + 1).padStart(16, '0')
    const context = {
      traceId: above?.traceId ?? id.padStart(32, 'ab'),
      spanId: id,
      traceFlags: above?.traceFlags ?? flags,
    }
    const fields: Attributes = { ...options.attributes }
    const one: Recorded = { name, parent: above?.spanId, context, fields, exceptions: 0, failed: false, ended: false }
    spans.push(one)
    const made = {
      spanContext: () => context,
      setAttribute: (key: string, value: string) => (fields[key] = value),
      recordException: () => void one.exceptions++,
      setStatus: () => (one.failed = true),
      end: () => (one.ended = true),
    }
    return made as unknown as Span
  }
  return { provider: { getTracer: () => ({ startSpan }) } as unknown as TracerProvider, spans }
}

/** Switches tracing on; what is recorded is added to the list it returns. */
export function record(flags: TraceFlags = TraceFlags.SAMPLED): Recorded[] {
  const { provider, spans } = recorder(flags)
  trace.setGlobalTracerProvider(provider)
  switchTracing(true)
  return spans
}

/** Every test of a file that calls it begins and ends with tracing switched off. */
export function switchTracingOffBetweenTests(): void {
  beforeEach(() => trace.disable())
  afterEach(() => {
    switchTracing(false)
    trace.disable()
  })
}
