// "Did you mean …?": the names nearest to one that is not known.

/**
 * Those of `candidates` that `name` may be a slip of, nearest first, at most `max`. Case, `_`, `-` and `.` do not count;
 * one slip in three characters is the most that still counts as one.
 */
export function nearest(name: string, candidates: Iterable<string>, max = 3): string[] {
  const wanted = fold(name)
  const near: { candidate: string; slips: number }[] = []
  for (const candidate of candidates) {
    const folded = fold(candidate)
    const slips = slipsBetween(wanted, folded)
    if (slips <= Math.max(1, Math.floor(Math.max(wanted.length, folded.length) / 3))) near.push({ candidate, slips })
  }
  near.sort((a, b) => a.slips - b.slips)
  return near.slice(0, max).map(({ candidate }) => candidate)
}

/** `; did you mean a or b?`, or '' where nothing is near. */
export function didYouMean(near: readonly string[]): string {
  return near.length === 0 ? '' : `; did you mean ${near.join(' or ')}?`
}

function fold(name: string): string {
  return name.toLowerCase().replace(/[_.-]/g, '')
}

/** Insertions, deletions, substitutions and exchanges of neighbours from one to the other (optimal string alignment). */
function slipsBetween(a: string, b: string): number {
  let before: number[] = []
  let above = Array.from({ length: b.length + 1 }, (_, j) => j)
  for (let i = 1; i <= a.length; i++) {
    const row = [i]
    for (let j = 1; j <= b.length; j++) {
      let least = Math.min(above[j]! + 1, row[j - 1]! + 1, above[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1))
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) least = Math.min(least, before[j - 2]! + 1)
      row.push(least)
    }
    before = above
    above = row
  }
  return above[b.length]!
}
