// What must be true of messages after a server was killed, whatever moment it was killed at.
//
// It knows only what clients have said, seen and been told. What is acknowledged (XEP-0198 §4) is in every place where it
// belongs; what is not may be there or not; nothing is anywhere twice, or where nobody has put it; and what one sender
// said is in the order in which he said it (RFC 6120 §10.1).

export interface Said {
  /** Unique among all that was ever said. */
  readonly id: string
  readonly from: string
  readonly to: string
  acked: boolean
}

/** A message in an archive or a spool. */
export interface Entry {
  readonly id: string
  /** Its id in the archive (XEP-0359); '' in a spool without one. */
  readonly archiveId: string
}

/** What was shown to a client while it was online. */
export interface Seen extends Entry {
  /** The archive whose id it has. */
  readonly place: string
}

export interface Evidence {
  /** In the order in which each sender said it. */
  readonly said: readonly Said[]
  /** In the order in which each place gives them. */
  readonly places: ReadonlyMap<string, readonly Entry[]>
  /** Where a message belongs, by the names of places. */
  readonly belongsIn: (said: Said) => readonly string[]
  readonly seen?: readonly Seen[]
}

/** What is wrong, a sentence each; none where all is well. */
export function faultsOf({ said, places, belongsIn, seen = [] }: Evidence): string[] {
  const faults: string[] = []
  const known = new Map(said.map((message, order) => [message.id, { ...message, order, belongs: belongsIn(message) }]))
  const kept = new Map<string, ReadonlyMap<string, Entry>>()
  for (const [place, entries] of places) {
    const byId = new Map<string, Entry>()
    kept.set(place, byId)
    /** Of each sender, the latest so far. */
    const latest = new Map<string, { readonly id: string; readonly order: number }>()
    let lastArchiveId = ''
    for (const entry of entries) {
      const { id, archiveId } = entry
      const message = known.get(id)
      if (byId.has(id)) faults.push(`${id} is twice in ${place}`)
      byId.set(id, entry)
      if (message === undefined || !message.belongs.includes(place)) {
        faults.push(`${id} is in ${place} and was not said there`)
        continue
      }
      if (archiveId !== '' && archiveId <= lastArchiveId)
        faults.push(`the archive id of ${id} in ${place} is not behind the last`)
      lastArchiveId = archiveId
      const before = latest.get(message.from)
      if (before !== undefined && before.order > message.order) faults.push(`${id} is behind ${before.id} in ${place}`)
      latest.set(message.from, { id, order: message.order })
    }
  }
  for (const { id, acked, belongs } of known.values()) {
    if (!acked) continue
    for (const place of belongs) if (!kept.get(place)?.has(id)) faults.push(`${id} was acknowledged and is not in ${place}`)
  }
  for (const { id, archiveId, place } of seen) {
    const entry = kept.get(place)?.get(id)
    if (entry?.archiveId !== archiveId)
      faults.push(`${id} was seen as ${archiveId}, and is ${entry?.archiveId ?? 'not'} in ${place}`)
  }
  return faults
}
