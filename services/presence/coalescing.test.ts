// `TEST_SEED=n npx vitest run services/presence/coalescing.test.ts` repeats a run.
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { manualClock } from '#core/clock.ts'
import { parseJid } from '#xmpp/jid.ts'
import { NS_CLIENT } from '#xmpp/ns.ts'
import { el, type Stanza, stanza, textOf } from '#xmpp/stanza.ts'
import { Coalescing } from './coalescing.ts'

const SEED = Number(process.env.TEST_SEED ?? Date.now() % 1_000_000_000)
fc.configureGlobal({ seed: SEED })
const WINDOW_MS = 1_000
const ROMEO = 'romeo@example.org/garden'
const NURSE = 'nurse@example.org/kitchen'

const shows = (full: string, status: string, id = ''): Stanza =>
  stanza('presence', parseJid(full), { id }, el('status', NS_CLIENT, {}, status))
const leaves = (full: string): Stanza => stanza('presence', parseJid(full), { type: 'unavailable' })

const textIn = (presence: Stanza): string => `${presence.from.resource} ${presence.type || presence.tree().map(textOf).join()}`

function coalescing(windowMs = WINDOW_MS) {
  const clock = manualClock()
  const sent: string[] = []
  const all = new Coalescing(clock, windowMs, (presence) => sent.push(textIn(presence)))
  /** What was sent since this was asked last. */
  const take = (): string[] => sent.splice(0)
  return { clock, all, take }
}

describe('a burst', () => {
  test('the first change is sent at once, and then the latest of each window', () => {
    const { clock, all, take } = coalescing()
    for (const status of ['a', 'b', 'c']) all.change(shows(ROMEO, status))
    expect(take()).toEqual(['garden a'])
    clock.advance(WINDOW_MS - 1)
    expect(take()).toEqual([])
    clock.advance(WINDOW_MS / 8 + 1)
    expect(take()).toEqual(['garden c'])
    all.change(shows(ROMEO, 'd'))
    expect(take()).toEqual([])
    clock.advance(2 * WINDOW_MS)
    expect(take()).toEqual(['garden d'])
    expect(all.suppressed).toBe(1)
  })

  test('after a window in which nothing came the next change is sent at once', () => {
    const { clock, all, take } = coalescing()
    all.change(shows(ROMEO, 'a'))
    clock.advance(2 * WINDOW_MS)
    all.change(shows(ROMEO, 'b'))
    expect(take()).toEqual(['garden a', 'garden b'])
  })

  test('what contacts have been told last is not told again', () => {
    const { clock, all, take } = coalescing()
    for (const status of ['a', 'b', 'a']) all.change(shows(ROMEO, status, 'an id that does not count'))
    clock.advance(3 * WINDOW_MS)
    expect(take()).toEqual(['garden a'])
    expect(all.suppressed).toBe(2)
  })

  test('it is, where somebody has been sent directed presence since', () => {
    const { clock, all, take } = coalescing()
    all.change(shows(ROMEO, 'a'))
    all.change(shows(ROMEO, 'a'), true)
    all.change(shows(ROMEO, 'b'))
    all.change(shows(ROMEO, 'a'))
    clock.advance(2 * WINDOW_MS)
    expect(take()).toEqual(['garden a', 'garden a'])
  })

  test('one resource does not wait for another', () => {
    const { all, take } = coalescing()
    all.change(shows(ROMEO, 'a'))
    all.change(shows(NURSE, 'a'))
    all.change(shows('romeo@example.org/orchard', 'a'))
    expect(take()).toEqual(['garden a', 'kitchen a', 'orchard a'])
  })

  test('initial presence is sent at once, and what waited is not sent behind it', () => {
    const { clock, all, take } = coalescing()
    all.change(shows(ROMEO, 'a'))
    all.change(shows(ROMEO, 'of the session before'))
    all.now(shows(ROMEO, 'initial'))
    expect(take()).toEqual(['garden a', 'garden initial'])
    all.change(shows(ROMEO, 'next'))
    expect(take()).toEqual([])
    clock.advance(2 * WINDOW_MS)
    expect(take()).toEqual(['garden next'])
  })

  test('unavailable is sent at once, and no stale available behind it', () => {
    const { clock, all, take } = coalescing()
    all.change(shows(ROMEO, 'a'))
    all.change(shows(ROMEO, 'stale'))
    all.now(leaves(ROMEO))
    clock.advance(3 * WINDOW_MS)
    expect(take()).toEqual(['garden a', 'garden unavailable'])
    expect(all.size).toBe(0)
  })

  test('with a window of 0 everything is sent at once, and nothing kept', () => {
    const { clock, all, take } = coalescing(0)
    for (const status of ['a', 'b', 'a']) all.change(shows(ROMEO, status))
    expect(take()).toEqual(['garden a', 'garden b', 'garden a'])
    expect([all.size, clock.pending()]).toEqual([0, 0])
  })
})

describe('an owner that leaves', () => {
  test('sends what waits, of the accounts that it gives away', () => {
    const { clock, all, take } = coalescing()
    for (const full of [ROMEO, NURSE]) for (const status of ['a', 'b']) all.change(shows(full, status))
    take()
    all.flush((account) => account === 'nurse@example.org')
    expect(take()).toEqual(['kitchen b'])
    all.flush()
    expect(take()).toEqual(['garden b'])
    expect([all.size, clock.pending()]).toEqual([0, 0])
  })

  test('says nothing of accounts that it has lost', () => {
    const { clock, all, take } = coalescing()
    for (const full of [ROMEO, NURSE]) for (const status of ['a', 'b']) all.change(shows(full, status))
    take()
    expect(all.waiting(ROMEO)).toBeDefined()
    all.forget((account) => account === 'romeo@example.org')
    expect(all.waiting(ROMEO)).toBeUndefined()
    clock.advance(3 * WINDOW_MS)
    expect(take()).toEqual(['kitchen b'])
  })
})

describe('many resources', () => {
  test('share one timer, and leave together', () => {
    const { clock, all, take } = coalescing()
    clock.advance(1)
    let ends = 0
    for (let i = 0; i < 5_000; i++) {
      all.change(shows(`user${i}@example.org/r`, 'a'))
      all.change(shows(`user${i}@example.org/r`, 'b'))
      if (i % 50 === 0) clock.advance(1)
    }
    expect([all.size, clock.pending()]).toEqual([5_000, 1])
    take()
    for (let ms = 0; ms < 3 * WINDOW_MS; ms++) {
      clock.advance(1)
      if (take().length > 0) ends++
    }
    expect(ends).toBe(1)
    expect([all.size, clock.pending()]).toEqual([0, 0])
  })
})

/** The same, told so that one sees it at once: everything that came is kept with its moment. */
class Model {
  readonly sent: string[] = []
  readonly #resources = new Map<string, { shown: string; latest: string; sentMs: number; diverged: boolean }>()

  change(full: string, text: string, nowMs: number, diverged: boolean): void {
    const known = this.#resources.get(full)
    if (known === undefined) return this.now(full, text, nowMs)
    known.diverged ||= diverged
    known.latest = text
  }

  now(full: string, text: string, nowMs: number): void {
    this.sent.push(`${parseJid(full).resource} ${text}`)
    if (text === 'unavailable') this.#resources.delete(full)
    else this.#resources.set(full, { shown: text, latest: text, sentMs: nowMs, diverged: false })
  }

  /** All whose windows end by now, in whatever order: resources are compared one by one. */
  pass(nowMs: number): void {
    const step = WINDOW_MS / 8
    for (const [full, { shown, latest, sentMs, diverged }] of this.#resources) {
      const endMs = Math.ceil((sentMs + WINDOW_MS) / step) * step
      if (endMs > nowMs) continue
      if (latest === shown && !diverged) this.#resources.delete(full)
      else this.now(full, latest, endMs)
    }
  }

  of(full: string): string[] {
    return this.sent.filter((text) => text.startsWith(`${parseJid(full).resource} `))
  }
}

describe(`whatever comes (seed ${SEED})`, () => {
  const resource = fc.integer({ min: 0, max: 3 }).map((n) => `user${n}@example.org/r${n}`)
  const doing = fc.oneof(
    { arbitrary: fc.record({ does: fc.constant('change'), full: resource, text: fc.constantFrom('a', 'b', 'c') }), weight: 6 },
    { arbitrary: fc.record({ does: fc.constant('diverge'), full: resource, text: fc.constantFrom('a', 'b') }), weight: 1 },
    { arbitrary: fc.record({ does: fc.constant('initial'), full: resource, text: fc.constantFrom('a', 'b') }), weight: 1 },
    { arbitrary: fc.record({ does: fc.constant('leave'), full: resource, text: fc.constant('') }), weight: 1 },
    { arbitrary: fc.integer({ min: 1, max: 1_500 }).map((ms) => ({ does: 'pass', full: '', text: '', ms })), weight: 4 },
  )

  test('each resource is told as the model says, at most once a window, and at last what it showed last', () => {
    fc.assert(
      fc.property(fc.array(doing, { maxLength: 60 }), (doings) => {
        const clock = manualClock()
        const model = new Model()
        const sent: { text: string; ms: number }[] = []
        const telling = new Coalescing(clock, WINDOW_MS, (presence) =>
          sent.push({ text: textIn(presence), ms: clock.monotonic() }),
        )
        const pass = (ms: number): void => {
          for (let left = ms; left > 0; left--) {
            clock.advance(1)
            model.pass(clock.monotonic())
          }
        }
        const last = new Map<string, string>()
        const urgent = new Set<string>()
        for (const { does, full, text, ...rest } of doings) {
          const nowMs = clock.monotonic()
          if (does === 'pass') pass((rest as { ms: number }).ms)
          else if (does === 'leave') {
            telling.now(leaves(full))
            model.now(full, 'unavailable', nowMs)
          } else if (does === 'initial') {
            telling.now(shows(full, text))
            model.now(full, text, nowMs)
          } else {
            telling.change(shows(full, text), does === 'diverge')
            model.change(full, text, nowMs, does === 'diverge')
          }
          if (does === 'leave' || does === 'initial') urgent.add(full)
          if (full !== '') last.set(full, does === 'leave' ? 'unavailable' : text)
        }
        pass(3 * WINDOW_MS)
        for (const [full, text] of last) {
          const { resource } = parseJid(full)
          const mine = sent.filter((one) => one.text.startsWith(`${resource} `))
          expect(mine.map(({ text }) => text)).toEqual(model.of(full))
          expect(mine.at(-1)!.text).toBe(`${resource} ${text}`)
          if (!urgent.has(full))
            for (const [i, { ms }] of mine.entries()) if (i > 0) expect(ms - mine[i - 1]!.ms).toBeGreaterThanOrEqual(WINDOW_MS)
        }
        expect([telling.size, clock.pending()]).toEqual([0, 0])
      }),
      { numRuns: 300 },
    )
  })
})
