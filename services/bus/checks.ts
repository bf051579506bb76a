// What every driver of Bus refuses, in the same words.
import { BODY_BYTES_MAX } from './bus.ts'

/** What a drained bus says. */
export const closed = () => new Error('the bus is closed')

export function checkBody(subject: string, body: Uint8Array): void {
  if (body.length > BODY_BYTES_MAX) {
    throw new RangeError(`a body of ${body.length} bytes on ${subject} is over the ${BODY_BYTES_MAX} of the bus`)
  }
}

/** Tokens between dots; none is empty, and only a subscription may end in the token `*`. */
export function checkSubject(subject: string, mayEndInStar: boolean): void {
  if (!(mayEndInStar ? /^([^\s.*>]+\.)*([^\s.*>]+|\*)$/ : /^([^\s.*>]+\.)*[^\s.*>]+$/).test(subject)) {
    throw new TypeError(`${JSON.stringify(subject)} is not a subject one can ${mayEndInStar ? 'subscribe' : 'publish'} to`)
  }
}
