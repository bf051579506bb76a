// A flame graph as a picture: node loadtest/flame.ts PROFILE.cpuprofile OUT.svg [--from S] [--to S] [--title TEXT]
//
// The profile is what `NODE_OPTIONS='--cpu-prof --cpu-prof-dir=DIR' bin/rookery run` writes when it stops; --from and --to cut
// out the seconds of it that matter, counted from its start. A box is a function and what it called, as wide as the time
// spent in it; above it are its callees; waiting is left out. Colours are the rooms of services/, and the legend says
// how much of the time was spent in each one's own code.
import { readFileSync, writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'

interface CpuProfile {
  readonly nodes: readonly {
    readonly id: number
    readonly callFrame: { readonly functionName: string; readonly url: string; readonly lineNumber: number }
    readonly children?: readonly number[]
  }[]
  readonly samples: readonly number[]
  /** Microseconds, each since the sample before. */
  readonly timeDeltas: readonly number[]
}

/** Of one function called in one way. */
interface Box {
  readonly label: string
  readonly kind: string
  selfUs: number
  totalUs: number
  readonly callees: Map<string, Box>
}

const WIDTH = 1600
const ROW = 17
const TOP = 70
/** Narrower than this is not drawn. */
const WIDTH_MIN = 1.5
const CHARACTER_WIDTH = 6.1
const COLOURS: Readonly<Record<string, string>> = {
  edge: '#f4a261',
  xmpp: '#e9c46a',
  core: '#8ecae6',
  bus: '#b8c0ff',
  router: '#95d5b2',
  presence: '#74c69d',
  modules: '#ffafcc',
  table: '#cdb4db',
  'other packages': '#d6ccc2',
  'Node (JavaScript)': '#dee2e6',
  'Node and V8 (native)': '#adb5bd',
  'garbage collection': '#e63946',
}

function kindOf(name: string, url: string): string {
  if (name === '(garbage collector)') return 'garbage collection'
  const room = /\/services\/([a-z]+)\//.exec(url)?.[1]
  if (room !== undefined) return room in COLOURS ? room : 'core'
  if (url.includes('/node_modules/')) return 'other packages'
  return url.startsWith('node:') ? 'Node (JavaScript)' : 'Node and V8 (native)'
}

function labelOf(name: string, url: string): string {
  const file = url.replace(/^.*\/services\//, '').replace(/^.*\/node_modules\//, '')
  return `${name || '(anonymous)'}${file === '' ? '' : `  ${file}`}`
}

/** Adds up the samples between the two moments, by call path. Time between two samples belongs to the first. */
function fold({ nodes, samples, timeDeltas }: CpuProfile, fromUs: number, toUs: number): Box {
  const spentUs = new Map<number, number>()
  let atUs = 0
  samples.forEach((id, i) => {
    atUs += timeDeltas[i]!
    const lasted = timeDeltas[i + 1] ?? 0
    if (atUs >= fromUs && atUs < toUs && lasted > 0) spentUs.set(id, (spentUs.get(id) ?? 0) + lasted)
  })
  const byId = new Map(nodes.map((node) => [node.id, node]))
  const root: Box = { label: 'all', kind: 'Node and V8 (native)', selfUs: 0, totalUs: 0, callees: new Map() }
  const visit = (id: number, caller: Box): number => {
    const { callFrame, children = [] } = byId.get(id)!
    const { functionName, url } = callFrame
    if (functionName === '(idle)') return 0
    let box = caller
    if (functionName !== '(root)') {
      const label = labelOf(functionName, url)
      const key = `${label}:${callFrame.lineNumber}`
      const known = caller.callees.get(key)
      box = known ?? { label, kind: kindOf(functionName, url), selfUs: 0, totalUs: 0, callees: new Map() }
      if (known === undefined) caller.callees.set(key, box)
    }
    const own = spentUs.get(id) ?? 0
    box.selfUs += own
    let totalUs = own
    for (const child of children) totalUs += visit(child, box)
    if (box !== caller) box.totalUs += totalUs
    return totalUs
  }
  root.totalUs = visit(nodes[0]!.id, root)
  return root
}

function draw(root: Box, title: string): string {
  const boxes: { readonly box: Box; readonly x: number; readonly level: number; readonly width: number }[] = []
  let levels = 0
  const place = (box: Box, x: number, level: number): void => {
    const width = (WIDTH * box.totalUs) / root.totalUs
    if (width < WIDTH_MIN) return
    boxes.push({ box, x, level, width })
    levels = Math.max(levels, level + 1)
    let at = x
    for (const callee of [...box.callees.values()].sort((a, b) => b.totalUs - a.totalUs)) {
      place(callee, at, level + 1)
      at += (WIDTH * callee.totalUs) / root.totalUs
    }
  }
  place(root, 0, 0)
  const height = TOP + levels * ROW + 4
  const percent = (us: number): string => `${((100 * us) / root.totalUs).toFixed(1)} %`
  const parts = boxes.map(({ box, x, level, width }) => {
    const y = height - 4 - (level + 1) * ROW
    const room = Math.floor((width - 6) / CHARACTER_WIDTH)
    const shown = room < 3 ? '' : box.label.length <= room ? box.label : `${box.label.slice(0, room - 1)}…`
    const text = shown === '' ? '' : `<text x="${(x + 3).toFixed(1)}" y="${y + 12}">${escape(shown)}</text>`
    const about = `<title>${escape(box.label)}: ${percent(box.totalUs)}, itself ${percent(box.selfUs)}</title>`
    const rect = `<rect x="${x.toFixed(1)}" y="${y}" width="${Math.max(0.5, width - 0.5).toFixed(1)}" height="${ROW - 1}" fill="${COLOURS[box.kind]}"/>`
    return `<g>${about}${rect}${text}</g>`
  })
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${height}" viewBox="0 0 ${WIDTH} ${height}" font-family="DejaVu Sans Mono, Menlo, Consolas, monospace" font-size="10">
<rect width="100%" height="100%" fill="#ffffff"/>
<text x="6" y="20" font-size="15" font-family="sans-serif">${escape(title)}</text>
${legend(root, percent)}
${parts.join('\n')}
</svg>
`
}

/** What each room spent itself, not in what it called. */
function legend(root: Box, percent: (us: number) => string): string {
  const spent = new Map<string, number>()
  const add = (box: Box): void => {
    spent.set(box.kind, (spent.get(box.kind) ?? 0) + box.selfUs)
    for (const callee of box.callees.values()) add(callee)
  }
  add(root)
  let x = 6
  return Object.entries(COLOURS)
    .filter(([kind]) => (spent.get(kind) ?? 0) > 0.001 * root.totalUs)
    .map(([kind, colour]) => {
      const text = `${kind} ${percent(spent.get(kind)!)}`
      const at = x
      x += 22 + text.length * 6.6
      return `<rect x="${at}" y="34" width="12" height="12" fill="${colour}"/><text x="${at + 16}" y="44" font-size="11">${escape(text)}</text>`
    })
    .join('\n')
}

function escape(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;')
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    from: { type: 'string', default: '0' },
    to: { type: 'string', default: 'Infinity' },
    title: { type: 'string', default: 'Rookery' },
  },
})
const [input, output] = positionals
if (input === undefined || output === undefined) {
  console.error('usage: node loadtest/flame.ts PROFILE.cpuprofile OUT.svg [--from S] [--to S] [--title TEXT]')
  process.exit(2)
}
const root = fold(JSON.parse(readFileSync(input, 'utf8')) as CpuProfile, Number(values.from) * 1e6, Number(values.to) * 1e6)
if (root.totalUs === 0) {
  console.error('flame: no sample between --from and --to')
  process.exit(1)
}
writeFileSync(output, draw(root, `${values.title}: ${(root.totalUs / 1e6).toFixed(1)} s of work`))
