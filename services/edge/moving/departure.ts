// A session leaves this edge for another one. Its owners are told, each on the lane of what its client said last; each says when
// nothing more will come here, behind all that has. What the session is then, the other edge goes on with.
//
//   router, presence   ◀── signal `session.moved` { session, from, to } ──   from here on it is there
//                      ── order `moved` { role }                        ──▶  behind the last that comes here
import type { RoleName } from '#core/ownership/ownership.ts'
import type { Jid } from '#xmpp/jid.ts'
import type { Edge } from '../main.ts'

/** The session that leaves. */
export interface Departing {
  readonly id: string
  readonly jid: Jid
  isKnownTo(role: RoleName): boolean
}

export class Departure {
  readonly to: string
  readonly #waits = new Set<string>()
  #then: ((free: boolean) => void) | undefined

  /** @param then told once whether nothing more will come; false where the session has ended meanwhile */
  constructor({ id: from, lanes }: Pick<Edge, 'id' | 'lanes'>, session: Departing, to: string, then: (free: boolean) => void) {
    this.to = to
    this.#then = then
    const account = session.jid.bare
    const fields = { session: session.id, from, to }
    const roles = (['router', 'presence'] as const).filter((role) => session.isKnownTo(role))
    for (const role of roles) this.#waits.add(role)
    for (const role of roles) lanes.send(role, account, { kind: 'signal', account, name: 'session.moved', fields })
  }

  /** An owner has said that nothing more comes of him. It may say so twice. */
  heard(role: string): void {
    this.#waits.delete(role)
    if (this.#waits.size === 0) this.#tell(true)
  }

  end(): void {
    this.#tell(false)
  }

  #tell(free: boolean): void {
    const then = this.#then
    this.#then = undefined
    then?.(free)
  }
}
