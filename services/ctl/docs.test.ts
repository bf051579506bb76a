import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { generatedPages } from './docs.ts'

test('the generated pages are as the code says; if not, run `npm run docs`', async () => {
  for (const [file, page] of await generatedPages()) {
    let written = ''
    try {
      written = readFileSync(file, 'utf8')
    } catch {
      // Not there: as stale as can be.
    }
    expect(written === page, `${file} is stale: run \`npm run docs\``).toBe(true)
  }
})
