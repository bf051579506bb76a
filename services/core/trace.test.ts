import {
  type Attributes,
  type Context,
  type Span,
  type SpanContext,
  TraceFlags,
  type TracerProvider,
  trace,
} from '@opentelemetry/api'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { StanzaError } from '#xmpp/error.ts'
import { decodeTrace, encodeTrace, isTracing, NO_TRACE, span, switchTracing, TRACE_BYTES, traceIdOf } from './trace.ts'

interface Recorded {
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
      traceId: above?.traceId ?? `${'ab'.repeat(15)}01`,
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

function record(flags: TraceFlags = TraceFlags.SAMPLED): Recorded[] {
  const { provider, spans } = recorder(flags)
  trace.setGlobalTracerProvider(provider)
  switchTracing(true)
  return spans
}

beforeEach(() => trace.disable())
afterEach(() => {
  switchTracing(false)
  trace.disable()
})

describe('switched off, which is the default', () => {
  test('a span is its call and nothing else, and envelopes carry no context', () => {
    expect(isTracing()).toBe(false)
    expect(span('x', NO_TRACE, (context) => [context === NO_TRACE, encodeTrace(context).length, traceIdOf(context)])).toEqual([
      true,
      0,
      '',
    ])
    expect(decodeTrace(new Uint8Array(TRACE_BYTES).fill(7))).toBe(NO_TRACE)
  })
})

describe('switched on', () => {
  test('a span within a span is its child, and both end', () => {
    const spans = record()
    const answer = span('outer', NO_TRACE, (outer) => span('inner', outer, () => 42, { module: 'mam' }))
    expect(answer).toBe(42)
    expect(spans.map(({ name, parent, ended }) => [name, parent, ended])).toEqual([
      ['outer', undefined, true],
      ['inner', spans[0]?.context.spanId, true],
    ])
    expect(spans[1]?.fields).toEqual({ module: 'mam' })
  })

  test('a span of a promise ends when the promise settles', async () => {
    const spans = record()
    let finish = (_value: string) => {}
    const result = span('later', NO_TRACE, () => new Promise<string>((resolve) => (finish = resolve)))
    expect(spans[0]?.ended).toBe(false)
    finish('done')
    expect(await result).toBe('done')
    expect(spans[0]?.ended).toBe(true)
  })

  test.each(['thrown', 'rejected'])('an error %s is recorded, ends the span and goes on', async (how) => {
    const spans = record()
    const fault = new Error('disk full')
    const run = async () =>
      await span('bad', NO_TRACE, () => {
        if (how === 'thrown') throw fault
        return Promise.reject(fault)
      })
    await expect(run()).rejects.toBe(fault)
    expect(spans[0]).toMatchObject({ exceptions: 1, failed: true, ended: true })
  })

  test('a StanzaError is an answer: noted by its condition, not as a failure', () => {
    const spans = record()
    const refuse = () => {
      throw new StanzaError('item-not-found')
    }
    expect(() => span('iq', NO_TRACE, refuse)).toThrow(StanzaError)
    expect(spans[0]).toMatchObject({ exceptions: 0, failed: false, ended: true, fields: { 'xmpp.error': 'item-not-found' } })
  })

  test('a context survives the envelope, and a span on the other side has it as its parent', () => {
    const spans = record()
    const bytes = span('sender', NO_TRACE, (context) => encodeTrace(context))
    expect(bytes).toHaveLength(TRACE_BYTES)
    const framed = new Uint8Array(40)
    framed.set(bytes, 5)
    const arrived = decodeTrace(framed.subarray(5, 5 + TRACE_BYTES))
    span('receiver', arrived, () => {})
    expect(spans[1]?.parent).toBe(spans[0]?.context.spanId)
    expect(spans[1]?.context.traceId).toBe(spans[0]?.context.traceId)
    expect(traceIdOf(arrived)).toBe(spans[0]?.context.traceId)
  })

  test('what is not sampled costs no byte', () => {
    record(TraceFlags.NONE)
    span('unsampled', NO_TRACE, (context) => {
      expect(encodeTrace(context)).toHaveLength(0)
      expect(traceIdOf(context)).toBe('')
    })
    expect(encodeTrace(NO_TRACE)).toHaveLength(0)
  })

  test.each([
    ['nothing', new Uint8Array(0)],
    ['all zeros', new Uint8Array(TRACE_BYTES)],
    ['a short one', new Uint8Array(16).fill(1)],
    ['no span id', new Uint8Array(TRACE_BYTES).fill(1, 0, 16)],
  ])('%s is no context, and no fault', (_name, bytes) => {
    record()
    expect(decodeTrace(bytes)).toBe(NO_TRACE)
  })
})
