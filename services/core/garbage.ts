// Large buffers, and what is left of them.
//
// The bytes of a buffer are outside of V8's heap. It counts them, and looks for those that nobody uses any more when its
// heap has grown, or 64 MB more of them have come. A stanza of 100 kB leaves eight of them behind on its way and next to
// nothing in the heap: so a client or two would move the memory of the process by those 64 MB, and the collection that
// follows is of the whole heap. They are young, though, and of the young generation alone a collection is cheap. Measured
// beside 60 MB of live objects, with 200 kB made and dropped a millisecond: 0.4 ms after each 8 MB, and memory moves by 9 MB
// instead of 68.
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

type Collect = (options: { type: 'minor' }) => void

/** What is smaller comes with so many objects that the heap is collected for these. */
const LARGE_BYTES = 16 * 1024
/** Made since the last collection. */
const LEFT_BYTES_MAX = 8 * 1024 * 1024

let leftBytes = 0
let scheduled = false
let collect: Collect | undefined

/** To be told of each buffer that may be large and is soon dropped. Costs a comparison where it is not large. */
export function madeBuffer({ length }: Uint8Array): void {
  if (length < LARGE_BYTES) return
  leftBytes += length
  if (leftBytes < LEFT_BYTES_MAX || scheduled) return
  scheduled = true
  setImmediate(collectYoung) // not before this turn is done with them
}

function collectYoung(): void {
  scheduled = false
  leftBytes = 0
  collect ??= findCollect()
  collect({ type: 'minor' })
}

/** V8 hands it to contexts that are made while this flag is up; ours has none, however it was started. */
function findCollect(): Collect {
  setFlagsFromString('--expose-gc')
  const found = runInNewContext('gc') as Collect
  setFlagsFromString('--no-expose-gc')
  return found
}
