// Who owns an address: idea 2 of the architecture.
//
// A bare JID hashes to one of 128 partitions, fixed for the life of a deployment; each has one owner per role. In
// one process the process owns them all. A cluster puts the ownership row and its leases behind the same interface.

export type RoleName = 'router' | 'presence'

export const PARTITIONS = 128

/** The partition of a bare JID: FNV-1a over its UTF-16 units. The same for ever: rows and logs are named by it. */
export function partitionOf(address: string): number {
  let hash = 0x811c9dc5
  for (let i = 0; i < address.length; i++) hash = Math.imul(hash ^ address.charCodeAt(i), 0x01000193)
  return (hash ^ (hash >>> 15)) & (PARTITIONS - 1)
}

export interface Ownership {
  /** The process that owns the partition of this bare JID in that role. */
  ownerOf(role: RoleName, account: string): string
  /** Every process that owns a partition in that role, for questions about all accounts. */
  ownersOf(role: RoleName): readonly string[]
}

/** One process that owns everything. */
export function soleOwnership(process: string): Ownership {
  return { ownerOf: () => process, ownersOf: () => [process] }
}
