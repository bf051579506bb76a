import { describe, expect, test } from 'vitest'
import { manualClock } from '../clock.ts'
import { Health, PROBE_HOLDS_MS, PROBE_TIMEOUT_MS } from './health.ts'

describe('parts that say so themselves', () => {
  test('nothing is ready before every part has come up', async () => {
    const health = new Health(['router', 'edge'])
    expect(await health.check()).toEqual({ ready: false, missing: { router: 'not started yet', edge: 'not started yet' } })
    health.up('router')
    expect(await health.check()).toEqual({ ready: false, missing: { edge: 'not started yet' } })
    health.up('edge')
    expect(await health.check()).toEqual({ ready: true, missing: {} })
  })

  test('a part that goes down again is named with its reason', async () => {
    const health = new Health(['edge'])
    health.up('edge')
    health.down('edge')
    expect((await health.check()).missing).toEqual({ edge: 'stopped' })
    health.down('edge', 'draining')
    expect(await health.check()).toEqual({ ready: false, missing: { edge: 'draining' } })
  })

  test('a part that is expected later counts as missing from then on', async () => {
    const health = new Health([])
    expect((await health.check()).ready).toBe(true)
    health.expect('bus')
    expect((await health.check()).missing).toEqual({ bus: 'not started yet' })
  })

  test('a part that nobody expects is our own mistake', () => {
    expect(() => new Health(['edge']).up('egde')).toThrow('health knows no part egde')
  })
})

describe('parts that are asked', () => {
  test('a probe that resolves is up, one that rejects is down with its message', async () => {
    const clock = manualClock()
    const health = new Health([])
    let fault: Error | undefined
    health.probe('table', clock, async () => {
      if (fault) throw fault
    })
    expect((await health.check()).ready).toBe(true)
    fault = new Error('the disk is full')
    clock.advance(PROBE_HOLDS_MS)
    expect((await health.check()).missing).toEqual({ table: 'the disk is full' })
    fault = undefined
    clock.advance(PROBE_HOLDS_MS)
    expect((await health.check()).ready).toBe(true)
  })

  test('many checks are one question, until its answer is old', async () => {
    const clock = manualClock()
    const health = new Health([])
    let asked = 0
    health.probe('table', clock, async () => void asked++)
    await Promise.all([health.check(), health.check(), health.check()])
    await health.check()
    expect(asked).toBe(1)
    clock.advance(PROBE_HOLDS_MS)
    await health.check()
    expect(asked).toBe(2)
  })

  test('a probe that does not answer is down in time, is not asked twice, and may come back', async () => {
    const clock = manualClock()
    const health = new Health([])
    let asked = 0
    let answer = () => {}
    health.probe('table', clock, () => {
      asked++
      return new Promise<void>((resolve) => (answer = resolve))
    })
    for (let round = 0; round < 2; round++) {
      const checked = health.check()
      await clock.settle(PROBE_TIMEOUT_MS)
      expect(await checked).toEqual({ ready: false, missing: { table: `no answer within ${PROBE_TIMEOUT_MS} ms` } })
    }
    expect(asked).toBe(1)
    answer()
    expect((await health.check()).ready).toBe(true)
    expect(clock.pending()).toBe(0)
  })
})
