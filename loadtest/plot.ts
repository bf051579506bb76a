// Lines over time, as a picture, and how steep they are.

export interface Series {
  readonly name: string
  readonly colour: string
  /** Seconds, and the value then. */
  readonly points: (readonly [atS: number, value: number])[]
}

/** Of the straight line that fits best (least squares), per second, with its standard error. */
export function slopeOf(points: Series['points']): { perS: number; errorPerS: number; mean: number } {
  const n = points.length
  if (n < 3) return { perS: 0, errorPerS: 0, mean: points.at(-1)?.[1] ?? Number.NaN }
  const meanAt = points.reduce((sum, [at]) => sum + at, 0) / n
  const mean = points.reduce((sum, [, value]) => sum + value, 0) / n
  let along = 0
  let across = 0
  for (const [at, value] of points) {
    along += (at - meanAt) ** 2
    across += (at - meanAt) * (value - mean)
  }
  const perS = across / along
  const residue = points.reduce((sum, [at, value]) => sum + (value - mean - perS * (at - meanAt)) ** 2, 0)
  return { perS, errorPerS: Math.sqrt(residue / (n - 2) / along), mean }
}

const [WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM] = [1000, 420, 60, 60, 20, 40]

/** From zero up, so that what looks flat is flat. */
export function plot(series: readonly Series[], title: string): string {
  const all = series.flatMap(({ points }) => points)
  const lastS = Math.max(...all.map(([at]) => at), 1)
  const most = Math.max(...all.map(([, value]) => value), 1) * 1.1
  const x = (at: number) => LEFT + ((WIDTH - LEFT - RIGHT) * at) / lastS
  const y = (value: number) => HEIGHT - BOTTOM - ((HEIGHT - TOP - BOTTOM) * value) / most
  const step = 10 ** Math.floor(Math.log10(most / 2))
  const ticks = Array.from({ length: Math.floor(most / step) + 1 }, (_, i) => i * step)
  const lines = ticks.map(
    (value) =>
      `<line x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${y(value)}" y2="${y(value)}" stroke="#e5e7eb"/><text x="${LEFT - 6}" y="${y(value) + 4}" text-anchor="end">${value}</text>`,
  )
  const times = Array.from({ length: 7 }, (_, i) => (lastS * i) / 6).map(
    (at) => `<text x="${x(at)}" y="${HEIGHT - 16}" text-anchor="middle">${(at / 60).toFixed(1)} min</text>`,
  )
  const curves = series.map(
    ({ colour, points }) =>
      `<polyline fill="none" stroke="${colour}" stroke-width="1.5" points="${points.map(([at, value]) => `${x(at).toFixed(1)},${y(value).toFixed(1)}`).join(' ')}"/>`,
  )
  const names = series.map(
    ({ name, colour }, i) =>
      `<rect x="${LEFT + i * 240}" y="34" width="12" height="12" fill="${colour}"/><text x="${LEFT + 18 + i * 240}" y="44">${name}</text>`,
  )
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${HEIGHT}" font-family="sans-serif" font-size="11">
<rect width="100%" height="100%" fill="#ffffff"/>
<text x="${LEFT}" y="20" font-size="13">${title}</text>
${[...lines, ...times, ...curves, ...names].join('\n')}
</svg>
`
}
