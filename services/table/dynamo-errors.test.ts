import { describe, expect, test } from 'vitest'
import { faultOf, isOurFault, wordsOf } from './dynamo-errors.ts'
import { RequestTimeout } from './dynamo-http.ts'

const error = (name: string, fields: object = {}) => Object.assign(new Error('words'), { name, ...fields })
const answered = (name: string, httpStatusCode: number, more: object = {}) =>
  error(name, { $metadata: { httpStatusCode, ...more } })
const network = (code: string) => error('Error', { code })

describe('what an error means', () => {
  test.each([
    ['throttled', answered('ProvisionedThroughputExceededException', 400), 'throttled', true, false],
    ['throttled by AWS in general', answered('ThrottlingException', 400), 'throttled', true, false],
    ['too many requests, in HTTP’s words', answered('Unknown', 429), 'throttled', true, false],
    ['a fault of theirs', answered('InternalServerError', 500), 'failed', true, true],
    ['a gateway’s', answered('Unknown', 502), 'failed', true, true],
    ['an answer that is cut off or no JSON', answered('SyntaxError', 200), 'failed', true, true],
    ['no answer in time', new RequestTimeout('late', true), 'timeout', true, true],
    ['no connection in time', new RequestTimeout('late', false), 'timeout', true, false],
    ['a connection that breaks', network('ECONNRESET'), 'unreachable', true, true],
    ['nobody there', network('ECONNREFUSED'), 'unreachable', true, false],
    ['no such name', network('ENOTFOUND'), 'unreachable', true, false],
    ['a condition', answered('ConditionalCheckFailedException', 400), 'conflict', false, false],
    ['no right to', answered('AccessDeniedException', 400), 'refused', false, false],
    ['a token that has run out, and is renewed', answered('ExpiredTokenException', 400), 'refused', true, false],
    [
      'a clock that the SDK has corrected',
      answered('InvalidSignatureException', 400, { clockSkewCorrected: true }),
      'refused',
      true,
      false,
    ],
    ['a signature that is wrong', answered('InvalidSignatureException', 400), 'refused', false, false],
    ['no credentials just now', error('CredentialsProviderError'), 'refused', true, false],
  ])('%s', (_, thrown, outcome, again, doubt) => {
    expect(faultOf(thrown)).toEqual({ outcome, again, doubt })
    expect(isOurFault(thrown)).toBe(false)
  })

  test('what we have asked wrongly is our own fault', () => {
    expect(isOurFault(answered('ValidationException', 400))).toBe(true)
    expect(isOurFault(new TypeError('undefined is not a function'))).toBe(true)
    expect(isOurFault(Object.assign(new TypeError('null has no Item'), { $response: { statusCode: 200 } }))).toBe(false)
  })

  test('is said on one line, with the name that AWS gives it', () => {
    expect(wordsOf(answered('AccessDeniedException', 400))).toBe('AccessDeniedException: words')
    expect(wordsOf(Object.assign(new Error('one\n  two'), { code: 'EPROTO' }))).toBe('one two')
    expect(wordsOf(Object.assign(new AggregateError([]), { code: 'ECONNREFUSED' }))).toBe('ECONNREFUSED')
  })
})
