// Who owns an address: idea 2 of the architecture.
//
// A bare JID hashes to one of 128 partitions, fixed for the life of a deployment; each has one owner per role. In
// one process the process owns them all. A cluster puts the ownership row and its leases behind the same interface
// (core/ownership/cluster-ownership.ts).

export type RoleName = 'router' | 'presence'

export const PARTITIONS = 128

/** The partition of a bare JID: FNV-1a over its UTF-16 units. The same for ever: rows and logs are named by it. */
export function partitionOf(address: string): number {
  let hash = 0x811c9dc5
  for (let i = 0; i < address.length; i++) hash = Math.imul(hash ^ address.charCodeAt(i), 0x01000193)
  return (hash ^ (hash >>> 15)) & (PARTITIONS - 1)
}

/** Told which partitions have another owner, or the same one anew, once `ownerAt` and `epochAt` say so. */
export type OwnersListener = (role: RoleName, partitions: readonly number[]) => void

export interface Ownership {
  /** The process that owns the partition of this bare JID in that role; '' while nobody does. */
  ownerOf(role: RoleName, account: string): string
  /** Every process that owns a partition in that role, for questions about all accounts. */
  ownersOf(role: RoleName): readonly string[]
  ownerAt(role: RoleName, partition: number): string
  /** Rises whenever the partition gets an owner; 0 while it never had one. */
  epochAt(role: RoleName, partition: number): number
  /** Rises whenever any partition of the role does: how new this process's view is. */
  epoch(role: RoleName): number
  onChange(listener: OwnersListener): void
  /** True while nobody else can have taken what this process owns. Else it sends no ack and no multicast, and begins to write nothing. */
  sure(): boolean
  /** This process owns the partition of this bare JID, and is ready for its envelopes. */
  owns(role: RoleName, account: string): boolean
  /** Reads at once who owns what, where that can be another: somebody knows more. */
  look?(): void
}

/** One process that owns everything, for ever. */
export function soleOwnership(process: string): Ownership {
  return {
    ownerOf: () => process,
    ownersOf: () => [process],
    ownerAt: () => process,
    epochAt: () => 1,
    epoch: () => 1,
    onChange: () => {},
    sure: () => true,
    owns: () => true,
  }
}
