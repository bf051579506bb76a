// `npm run docs`: writes the pages that are printed from the code. docs.test.ts fails while one of them is stale.
import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { configReference } from '#core/settings/reference.ts'
import { allModules, optionsOf } from '#embedded/modules.ts'
import { doapOf, supportedXeps } from '#embedded/xeps.ts'

const CONFIGURATION = new URL('../../docs/configuration.md', import.meta.url)
const DOAP = new URL('../../docs/rookery.doap.xml', import.meta.url)

/** Each generated page, by the path of its file. */
export async function generatedPages(): Promise<Map<string, string>> {
  const modules = await allModules()
  return new Map([
    [fileURLToPath(CONFIGURATION), configReference(optionsOf(modules))],
    [fileURLToPath(DOAP), doapOf(supportedXeps(modules))],
  ])
}

if (import.meta.main) {
  for (const [file, page] of await generatedPages()) {
    mkdirSync(dirname(file), { recursive: true })
    writeFileSync(file, page)
    console.log(file)
  }
}
