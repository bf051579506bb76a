import { TraceFlags } from '@opentelemetry/api'
import { describe, expect, test } from 'vitest'
import { StanzaError } from '#xmpp/error.ts'
import { parseJid } from '#xmpp/jid.ts'
import { stanza } from '#xmpp/stanza.ts'
import { record, switchTracingOffBetweenTests } from './trace.fixture.ts'
import { decodeTrace, encodeTrace, isTracing, NO_TRACE, span, traceFromHere, traceIdOf, traceOn } from './trace.ts'

switchTracingOffBetweenTests()
const text = (bytes: Buffer) => bytes.toString('base64')

describe('switched off, which is the default', () => {
  test('a span is its call and nothing else, and envelopes carry no context', () => {
    expect(isTracing()).toBe(false)
    expect(span('x', NO_TRACE, (context) => [context === NO_TRACE, encodeTrace(context), traceIdOf(context)])).toEqual([
      true,
      '',
      '',
    ])
    expect(decodeTrace(text(Buffer.alloc(24, 7)))).toBe(NO_TRACE)
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
    const carried = span('sender', NO_TRACE, (context) => encodeTrace(context))
    expect(carried).toHaveLength(32)
    const arrived = decodeTrace(carried)
    span('receiver', arrived, () => {})
    expect(spans[1]?.parent).toBe(spans[0]?.context.spanId)
    expect(spans[1]?.context.traceId).toBe(spans[0]?.context.traceId)
    expect(traceIdOf(arrived)).toBe(spans[0]?.context.traceId)
  })

  test('what is not sampled costs no byte', () => {
    record(TraceFlags.NONE)
    span('unsampled', NO_TRACE, (context) => {
      expect(encodeTrace(context)).toBe('')
      expect(traceIdOf(context)).toBe('')
    })
    expect(encodeTrace(NO_TRACE)).toBe('')
  })

  test.each([
    ['nothing', Buffer.alloc(0)],
    ['all zeros', Buffer.alloc(24)],
    ['a short one', Buffer.alloc(16, 1)],
    ['no span id', Buffer.concat([Buffer.alloc(16, 1), Buffer.alloc(8)])],
  ])('%s is no context, and no fault', (_name, bytes) => {
    record()
    expect(decodeTrace(text(bytes))).toBe(NO_TRACE)
  })
})

describe('the trace of a stanza', () => {
  const message = stanza('message', parseJid('romeo@a/x'), { to: parseJid('juliet@b'), id: 'm' })

  test('begins where it is received, and goes on with the stanza, span by span', () => {
    const spans = record()
    traceFromHere('received', message, (message) => {
      expect(message).toMatchObject({ id: 'm', trace: expect.stringMatching(/^.{32}$/) })
      traceOn('handled', message, { role: 'router' }, (message) => traceOn('delivered', message, {}, () => {}))
    })
    expect(spans.map(({ name, parent }) => [name, parent])).toEqual([
      ['received', undefined],
      ['handled', spans[0]?.context.spanId],
      ['delivered', spans[1]?.context.spanId],
    ])
    expect(spans[1]?.fields).toEqual({ role: 'router' })
  })

  test('one that belongs to none gets none on the way', () => {
    const spans = record()
    traceOn('handled', message, {}, (handled) => expect(handled).toBe(message))
    expect(spans).toEqual([])
  })

  test('switched off, it is the same stanza, and a trace that came with it goes on', () => {
    const traced = { ...message, trace: 'as it came' }
    traceFromHere('received', message, (received) => expect(received).toBe(message))
    traceOn('handled', traced, {}, (handled) => expect(handled).toBe(traced))
    expect.assertions(2)
  })
})
