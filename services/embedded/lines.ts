// Lines of a socket: how both ends of the control socket read.
import type { Socket } from 'node:net'

/** A line is longer than the reader takes. The rest of the stream is not to be read. */
export class LineTooLong extends Error {
  constructor(bytesMax: number) {
    super(`a line of over ${bytesMax} bytes`)
    this.name = 'LineTooLong'
  }
}

/**
 * Yields each line without its end; what the peer leaves unfinished is not yielded. Reads on only when the next line is asked for.
 * Leaving early leaves the socket open. Throws LineTooLong, and what the socket fails with.
 */
export async function* linesOf(socket: Socket, bytesMax: number): AsyncGenerator<string, void> {
  let parts: Buffer[] = []
  let length = 0
  for await (const chunk of socket.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
    let from = 0
    for (let end = chunk.indexOf(LINE_FEED); end !== -1; end = chunk.indexOf(LINE_FEED, from)) {
      if (length + end - from > bytesMax) throw new LineTooLong(bytesMax)
      parts.push(chunk.subarray(from, end))
      yield Buffer.concat(parts).toString('utf8')
      parts = []
      length = 0
      from = end + 1
    }
    length += chunk.length - from
    if (length > bytesMax) throw new LineTooLong(bytesMax)
    if (from < chunk.length) parts.push(chunk.subarray(from))
  }
}

const LINE_FEED = 10
