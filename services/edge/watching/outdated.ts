// What an owner has sent before another took its partition is not for its sessions any more: the new owner sends it anew.
//
// The table says who owns what, and so does the new owner itself: what it sends may come before this edge has read the row
// again, and then what the old one had sent, late.
import type { Delivery } from '#core/envelope.ts'
import type { Sender } from '#core/multicast/multicast-receiver.ts'
import { type Ownership, partitionOf, type RoleName } from '#core/ownership/ownership.ts'
import type { Jid } from '#xmpp/jid.ts'

type Sessions = ReadonlyMap<string, { readonly jid: Jid }>

/** What owners have said that go by a newer row than is known here. */
class News {
  /** By partition, the newest epoch by which something came for its sessions. */
  readonly epochs = new Map<number, number>()
  /** The newest of all. */
  epoch = 0
}

export class Outdated {
  readonly #ownership: Ownership
  readonly #sessions: Sessions
  readonly #news: Readonly<Record<RoleName, News>> = { router: new News(), presence: new News() }

  constructor(ownership: Ownership, sessions: Sessions) {
    this.#ownership = ownership
    this.#sessions = sessions
  }

  /**
   * The delivery, to those of its sessions whose account has had no newer owner since; undefined where there is none, or where
   * it is of a contact who has.
   */
  without(delivery: Delivery, { role, epoch }: Sender): Delivery | undefined {
    const known = this.#ownership.epoch(role)
    const news = this.#news[role]
    if (news.epoch <= known) {
      if (news.epochs.size > 0) news.epochs.clear()
      if (epoch === known) return delivery
    }
    if (epoch > known) this.#note(delivery, news, epoch)
    const isCurrent = (partition: number | undefined): boolean => {
      if (partition === undefined) return true
      return this.#ownership.epochAt(role, partition) <= epoch && (news.epochs.get(partition) ?? 0) <= epoch
    }
    if (delivery.kind !== 'stanza') return this.#concerned(delivery).every(isCurrent) ? delivery : undefined
    const current = delivery.sessions.filter((id) => isCurrent(this.#partitionOf(id)))
    if (current.length === delivery.sessions.length) return delivery
    return current.length === 0 ? undefined : { ...delivery, sessions: current }
  }

  #note(delivery: Delivery, news: News, epoch: number): void {
    news.epoch = Math.max(news.epoch, epoch)
    for (const partition of this.#concerned(delivery)) {
      if (partition !== undefined) news.epochs.set(partition, Math.max(news.epochs.get(partition) ?? 0, epoch))
    }
  }

  /** The partitions that the sender must have to say this. */
  #concerned(delivery: Delivery): readonly (number | undefined)[] {
    switch (delivery.kind) {
      case 'stanza':
        return delivery.sessions.map((id) => this.#partitionOf(id))
      case 'order': {
        const { account } = delivery.fields
        return [typeof account === 'string' ? partitionOf(account) : this.#partitionOf(delivery.session)]
      }
      default:
        return [partitionOf(delivery.contact)]
    }
  }

  #partitionOf(session: string): number | undefined {
    const known = this.#sessions.get(session)
    return known === undefined ? undefined : partitionOf(known.jid.bare)
  }
}
