// What an error of the SDK means: whether to try again, and whether what was asked may have been done all the same.

/** How a request ended, for the meter and for what is done next. */
export type Outcome = 'ok' | 'partial' | 'conflict' | 'throttled' | 'failed' | 'timeout' | 'unreachable' | 'refused'

export interface Fault {
  readonly outcome: Outcome
  /** The same request may succeed in a moment. */
  readonly again: boolean
  /** Nobody can tell whether it was done: it was sent, and no answer that says otherwise came. */
  readonly doubt: boolean
}

const THROTTLED: Fault = { outcome: 'throttled', again: true, doubt: false }
const FAILED: Fault = { outcome: 'failed', again: true, doubt: true }
const TIMEOUT: Fault = { outcome: 'timeout', again: true, doubt: true }
const NOT_CONNECTED: Fault = { outcome: 'timeout', again: true, doubt: false }
const LOST: Fault = { outcome: 'unreachable', again: true, doubt: true }
const UNREACHABLE: Fault = { outcome: 'unreachable', again: true, doubt: false }
const CONFLICT: Fault = { outcome: 'conflict', again: false, doubt: false }
const REFUSED: Fault = { outcome: 'refused', again: false, doubt: false }
/** A token that is renewed, or a clock that the SDK has just corrected. */
const REFUSED_FOR_NOW: Fault = { outcome: 'refused', again: true, doubt: false }

const THROTTLES = new Set([
  'ProvisionedThroughputExceededException',
  'ThrottlingException',
  'RequestLimitExceeded',
  'LimitExceededException',
  'TransactionInProgressException',
])
const NOTHING_SENT = new Set(['ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN', 'EHOSTUNREACH', 'ENETUNREACH', 'EMFILE', 'EADDRNOTAVAIL'])
/** Errors of AWS that say it is about who asks. */
const CREDENTIALS = new Set([
  'UnrecognizedClientException',
  'InvalidClientTokenId',
  'InvalidSignatureException',
  'IncompleteSignature',
  'IncompleteSignatureException',
  'MissingAuthenticationToken',
  'MissingAuthenticationTokenException',
  'SignatureDoesNotMatch',
  'ExpiredTokenException',
])

interface SdkError extends Error {
  readonly code?: string
  readonly sent?: boolean
  readonly $metadata?: { readonly httpStatusCode?: number; readonly clockSkewCorrected?: boolean }
  readonly $response?: { readonly statusCode?: number }
}

export function faultOf(error: unknown): Fault {
  const { name, code, sent, $metadata, $response } = error as SdkError
  if (name === 'ConditionalCheckFailedException') return CONFLICT
  if (THROTTLES.has(name)) return THROTTLED
  if (name === 'TimeoutError') return sent === false ? NOT_CONNECTED : TIMEOUT
  if (name === 'CredentialsProviderError') return REFUSED_FOR_NOW
  const status = $metadata?.httpStatusCode ?? $response?.statusCode
  if (status === undefined) return code !== undefined && NOTHING_SENT.has(code) ? UNREACHABLE : LOST
  if (status === 429) return THROTTLED
  if (status >= 500 || status < 400) return FAILED // below: an answer that could not be read
  return $metadata?.clockSkewCorrected === true || name === 'ExpiredTokenException' ? REFUSED_FOR_NOW : REFUSED
}

/** The request itself was wrong, or never became one, which is a fault of ours: no later try would mend it. */
export function isOurFault(error: unknown): boolean {
  const { name, $response } = error as SdkError
  if (name === 'ValidationException' || name === 'SerializationException') return true
  return error instanceof TypeError && $response === undefined // of an answer that could not be read it has one
}

export function isAboutCredentials(error: unknown): boolean {
  const { name } = error as Error
  return CREDENTIALS.has(name) || name === 'CredentialsProviderError'
}

/** On one line: the SDK's own name for it, and what it says. */
export function wordsOf(error: unknown): string {
  const { name, message, code } = error as SdkError
  const text = (message || code || String(error)).replace(/\s*\n\s*/g, ' ') // several addresses refusing: an error without words
  return name === 'Error' || name === 'TimeoutError' || name === 'AggregateError' ? text : `${name}: ${text}`
}
