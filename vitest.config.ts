// How the tests run: those beside the code first, then those of test/, which start servers and browsers; and then, a second time,
// those that are written for both forms of the server (test/form.ts), on a cluster.
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { defineConfig } from 'vitest/config'

/** The tests of these rooms that are written on the harness, which is a whole server. */
function onHarness(...rooms: readonly string[]): string[] {
  const files = rooms.flatMap((room) =>
    readdirSync(join(import.meta.dirname, room), { recursive: true, encoding: 'utf8' }).map((name) => `${room}/${name}`),
  )
  const tests = files.filter((file) => file.endsWith('.test.ts'))
  return tests.filter((file) => readFileSync(join(import.meta.dirname, file), 'utf8').includes("'#test/harness.ts'"))
}

export default defineConfig({
  test: {
    pool: 'threads',
    maxWorkers: 2,
    projects: [
      {
        extends: true,
        test: {
          name: 'unit',
          include: ['services/**/*.test.ts'],
          testTimeout: 60_000, // a test of the command line starts a dozen processes
          hookTimeout: 60_000,
          sequence: { groupOrder: 0 },
        },
      },
      {
        extends: true,
        test: {
          name: 'test',
          include: ['test/**/*.test.ts'],
          testTimeout: 60_000,
          hookTimeout: 120_000,
          sequence: { groupOrder: 1 },
        },
      },
      {
        extends: true,
        test: {
          name: 'cluster',
          include: ['test/interop/**/*.test.ts', ...onHarness('services/modules', 'services/presence', 'services/router')],
          env: { TEST_FORM: 'cluster' },
          globalSetup: 'test/interop/cluster-setup.ts',
          testTimeout: 60_000,
          hookTimeout: 120_000,
          sequence: { groupOrder: 2 },
        },
      },
    ],
  },
})
