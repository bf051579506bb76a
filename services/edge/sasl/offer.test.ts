import { createHash } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import type { AuthSupport } from '#core/storage/auth.ts'
import { Offer, type OfferFacts, Offers } from './offer.ts'

const ALL: AuthSupport = { scram: ['SHA-512', 'SHA-256', 'SHA-1'], password: true, certificate: true }
const EVERYTHING: OfferFacts = { plainAllowed: true, certified: true, bindings: ['tls-exporter', 'tls-server-end-point'] }

describe('RFC 6120 §6.3.3 the mechanisms, strongest first', () => {
  test('all there are', () => {
    expect(new Offer(ALL, EVERYTHING).mechanisms).toEqual([
      'EXTERNAL',
      'SCRAM-SHA-512-PLUS',
      'SCRAM-SHA-256-PLUS',
      'SCRAM-SHA-1-PLUS',
      'SCRAM-SHA-512',
      'SCRAM-SHA-256',
      'SCRAM-SHA-1',
      'PLAIN',
    ])
  })

  test('-PLUS only where the connection has a binding (RFC 5802 §6), PLAIN only where it is allowed, EXTERNAL with a certificate', () => {
    const offer = new Offer(ALL, { plainAllowed: false, certified: false, bindings: [] })
    expect(offer.mechanisms).toEqual(['SCRAM-SHA-512', 'SCRAM-SHA-256', 'SCRAM-SHA-1'])
    expect(offer.bindings).toEqual([])
  })

  test('what whoever keeps the credentials cannot answer is not offered', () => {
    const directory: AuthSupport = { scram: [], password: true, certificate: false }
    const offer = new Offer(directory, EVERYTHING)
    expect([offer.mechanisms, offer.bindings]).toEqual([['PLAIN'], []])
    expect(new Offer({ ...ALL, scram: ['SHA-256'], password: false }, EVERYTHING).mechanisms).toEqual([
      'EXTERNAL',
      'SCRAM-SHA-256-PLUS',
      'SCRAM-SHA-256',
    ])
  })
})

describe('XEP-0474 §6.1 the hash over an offer', () => {
  const sha256 = (text: string) => `,h=${createHash('sha256').update(text).digest('base64')}`

  test('mechanisms sorted, then the types of channel binding', () => {
    const offer = new Offer({ scram: ['SHA-1'], password: true, certificate: true }, { ...EVERYTHING, certified: false })
    expect(offer.protection('SHA-256')).toBe(
      sha256('PLAIN\x1eSCRAM-SHA-1\x1eSCRAM-SHA-1-PLUS\x1ftls-exporter\x1etls-server-end-point'),
    )
    expect(offer.protection('SHA-1')).not.toBe(offer.protection('SHA-256'))
  })

  test('without channel binding there is no second list', () => {
    const offer = new Offer({ scram: ['SHA-1'], password: false, certificate: false }, { ...EVERYTHING, bindings: [] })
    expect(offer.protection('SHA-256')).toBe(sha256('SCRAM-SHA-1'))
  })
})

test('an edge makes each different offer once', () => {
  const offers = new Offers(ALL)
  expect(offers.of({ ...EVERYTHING })).toBe(offers.of({ ...EVERYTHING }))
  const others = [
    offers.of(EVERYTHING),
    offers.of({ ...EVERYTHING, plainAllowed: false }),
    offers.of({ ...EVERYTHING, certified: false }),
    offers.of({ ...EVERYTHING, bindings: ['tls-server-end-point'] }),
    offers.of({ ...EVERYTHING, bindings: [] }),
  ]
  expect(new Set(others.map(({ mechanisms, bindings }) => `${mechanisms} ${bindings}`)).size).toBe(others.length)
})
