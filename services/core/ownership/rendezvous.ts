// Rendezvous hashing: who should own what, so that all who see the same processes say the same.
//
// Each process has a score for each thing, and the highest one has it. A process that comes takes its share from all others
// alike and one that goes leaves its own to them; nothing else moves.

/** The process of the highest score for `thing`, a whole number; '' where there are none. */
export function rendezvous(thing: number, processes: readonly string[]): string {
  let first = ''
  let most = -1
  for (const process of processes) {
    const score = mix(hashOf(process) ^ Math.imul(thing + 1, 0x9e3779b1))
    if (score > most || (score === most && process > first)) {
      most = score
      first = process
    }
  }
  return first
}

/** The process of each of the things 0 to `count` - 1. */
export function rendezvousAll(count: number, processes: readonly string[]): readonly string[] {
  return Array.from({ length: count }, (_, thing) => rendezvous(thing, processes))
}

/** FNV-1a over UTF-16 units. The same for ever: processes of different versions must agree. */
export function hashOf(text: string): number {
  let hash = 0x811c9dc5
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193)
  return hash >>> 0
}

/** The finaliser of MurmurHash3: each bit of the input turns half of the output. */
function mix(hash: number): number {
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b)
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35)
  return (hash ^ (hash >>> 16)) >>> 0
}
