// What many seeds came to.
import type { Outcome } from './simulate.ts'

export class Tally {
  seeds = 0
  recoveryMsMax = 0
  readonly counts = new Map<string, number>()

  add({ faults, counts, recoveryMs, lines: _, ...numbers }: Outcome): void {
    this.seeds++
    this.recoveryMsMax = Math.max(this.recoveryMsMax, recoveryMs)
    for (const [name, count] of [...Object.entries(numbers), ...Object.entries(counts), ...faults])
      this.counts.set(name, (this.counts.get(name) ?? 0) + count)
  }

  of(name: string): number {
    return this.counts.get(name) ?? 0
  }

  toString(): string {
    const rows = [...this.counts].map(([name, count]) => `${name.padEnd(20)}${String(count).padStart(12)}\n`)
    const longest = `${'recovery at most'.padEnd(20)}${`${(this.recoveryMsMax / 1_000).toFixed(1)} s`.padStart(12)}\n`
    return `${'seeds'.padEnd(20)}${String(this.seeds).padStart(12)}\n${rows.join('')}${longest}`
  }
}
