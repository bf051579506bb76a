import { describe, expect, test } from 'vitest'
import { NS_STREAM } from './ns.ts'
import { conditionOf, HEADER, opened, scanner } from './scan.fixture.ts'

describe('RFC 6120 §6.4.6 restart, inside the same TLS', () => {
  const after = `${HEADER}<iq id='2'/><iq id='3'`

  test.each(['', ' ', '\n\n', "<?xml version='1.0'?>", "\n<?xml version='1.0'?>"])(
    'what came behind the element is the new stream’s, cut anywhere, with %j before its header',
    (before) => {
      const rest = Buffer.from(`<auth/>${before}${after}`)
      for (let cut = 1; cut < rest.length; cut++) {
        const { to, scan } = opened()
        to.onElement = (element) => {
          if (element.name === 'auth') scan.restart()
        }
        scan.push(rest.subarray(0, cut))
        scan.push(rest.subarray(cut))
        scan.push(Buffer.from('/>'))
        expect([to.opens.length, to.ids]).toEqual([2, ['', '2', '3']])
      }
    },
  )

  test('a pause goes on: nothing of the new stream is told before resume', () => {
    const { to, push, scan } = opened()
    to.onElement = () => scan.pause()
    push(`<auth/>${after}`)
    scan.restart()
    push('/>')
    expect([to.opens.length, to.ids]).toEqual([1, ['']])
    to.onElement = () => {}
    scan.resume()
    expect([to.opens.length, to.ids]).toEqual([2, ['', '2', '3']])
  })

  test('namespaces of the old stream are not those of the new one', () => {
    const { to, push, scan } = opened()
    to.onElement = () => scan.restart()
    push('<auth/>')
    to.onElement = () => {}
    push(`<s:stream xmlns='jabber:client' xmlns:s='${NS_STREAM}'>`)
    expect(conditionOf(() => push('<o:a/>'))).toBe('not-well-formed')
  })

  test('a stanza where a header should be is none', () => {
    const { to, push, scan } = opened()
    to.onElement = () => scan.restart()
    expect(conditionOf(() => push("<auth/><iq id='1'/>"))).toBe('invalid-namespace')
  })

  test('frames that have come stay, too', () => {
    const { to, push, scan } = scanner('frame')
    to.onElement = () => scan.pause()
    push("<iq id='1'/>")
    push("<iq id='2'/>")
    scan.restart()
    scan.resume()
    expect(to.ids).toEqual(['1', '2'])
  })
})
