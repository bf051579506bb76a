// Counts a test run: reads vitest's JSON report, prints the slowest files and one closing line.
//
//   node test/tally.ts REPORT CHECKS TESTS      the exit codes of the checks and of vitest
//
// The closing line ("12 passed, 0 failed, 1 skipped") counts whatever went wrong at least once: a file that could not
// be loaded, a report that was never written, a vitest that failed although no test did. It is the last line printed;
// with CLOSING_LINE_FILE it goes to that file instead. Exits 1 when anything failed or no test ran.
import { readFileSync, writeFileSync } from 'node:fs'
import { relative } from 'node:path'

const SLOWEST_SHOWN = 10

/** What we read of vitest's report. */
export interface Report {
  readonly testResults: readonly {
    readonly name: string
    readonly status: string
    readonly startTime: number
    readonly endTime: number
    readonly assertionResults: readonly { readonly status: string }[]
  }[]
}

export interface Tally {
  readonly passed: number
  readonly failed: number
  readonly skipped: number
  /** What failed without being a test, a sentence each; counted in `failed`. */
  readonly faults: readonly string[]
}

/** `report` is undefined where vitest wrote none. */
export function tally(report: Report | undefined, checksExit: number, testsExit: number): Tally {
  const faults: string[] = []
  if (checksExit !== 0) faults.push('the checks failed')
  if (report === undefined) faults.push('vitest wrote no report')
  let passed = 0
  let failed = 0
  let skipped = 0
  for (const file of report?.testResults ?? []) {
    let failedHere = 0
    for (const { status } of file.assertionResults) {
      if (status === 'passed') passed++
      else if (status === 'failed') failedHere++
      else skipped++
    }
    if (file.status === 'failed' && failedHere === 0) faults.push(`${file.name} failed outside its tests`)
    failed += failedHere
  }
  if (report !== undefined && passed + failed === 0) faults.push('no test ran')
  if (testsExit !== 0 && failed + faults.length === 0) faults.push(`vitest exited with ${testsExit}, although no test failed`)
  return { passed, failed: failed + faults.length, skipped, faults }
}

export function closingLine({ passed, failed, skipped }: Tally): string {
  return `${passed} passed, ${failed} failed, ${skipped} skipped`
}

/** The files that took longest, slowest first, and what all took together. */
export function slowest(report: Report, root: string): string[] {
  const files = report.testResults
    .map((file) => ({ name: relative(root, file.name), seconds: (file.endTime - file.startTime) / 1000 }))
    .sort((a, b) => b.seconds - a.seconds)
  const all = files.reduce((sum, file) => sum + file.seconds, 0)
  const shown = files.slice(0, SLOWEST_SHOWN)
  return [
    `${files.length} test files, ${all.toFixed(1)} s in all; the slowest:`,
    ...shown.map((file) => `  ${file.seconds.toFixed(1).padStart(6)} s  ${file.name}`),
  ]
}

function readReport(file: string): Report | undefined {
  try {
    return JSON.parse(readFileSync(file, 'utf8')) as Report
  } catch {
    return undefined // missing or cut off: told as a fault
  }
}

function main(file: string, checksExit: number, testsExit: number): number {
  const report = readReport(file)
  const counted = tally(report, checksExit, testsExit)
  if (report !== undefined) console.log(slowest(report, process.cwd()).join('\n'))
  for (const fault of counted.faults) console.log(`failed: ${fault}`)
  const closing = process.env.CLOSING_LINE_FILE
  if (closing === undefined || closing === '') console.log(closingLine(counted))
  else writeFileSync(closing, `${closingLine(counted)}\n`)
  return counted.failed === 0 ? 0 : 1
}

if (import.meta.main) process.exitCode = main(process.argv[2] ?? '', Number(process.argv[3]), Number(process.argv[4]))
