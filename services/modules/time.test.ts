import { expect, test } from 'vitest'
import { manualClock } from '#core/clock.ts'
import { harness } from '#test/harness.ts'
import { el } from '#xmpp/stanza.ts'
import time from './time.ts'

const NS = 'urn:xmpp:time'

test('XEP-0202 §2 a result has an offset, and the time in UTC', async () => {
  await using server = await harness([time], { clock: manualClock(Date.UTC(2006, 11, 19, 17, 58, 35)) })
  const romeo = await server.connect('romeo@example.org/orchard')
  expect(await romeo.get(el('time', NS), 'example.org')).toEqual(
    el('time', NS, {}, el('tzo', NS, {}, '+00:00'), el('utc', NS, {}, '2006-12-19T17:58:35Z')),
  )
})

test('XEP-0202 §3 whoever does not support it answers service-unavailable', async () => {
  await using server = await harness([time])
  const romeo = await server.connect('romeo@example.org/orchard')
  expect(await romeo.iq('get', el('time', NS), 'romeo@example.org')).toMatchObject({ condition: 'service-unavailable' })
})
