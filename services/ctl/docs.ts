// `npm run docs`: writes the pages that are printed from the code. docs.test.ts fails while one of them is stale.
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Module } from '#core/module.ts'
import type { ModuleOptions } from '#core/options.ts'
import { configReference } from '#core/reference.ts'

const MODULES = new URL('../modules/', import.meta.url)
const CONFIGURATION = new URL('../../docs/configuration.md', import.meta.url)

/** Each generated page, by the path of its file. */
export async function generatedPages(): Promise<Map<string, string>> {
  return new Map([[fileURLToPath(CONFIGURATION), configReference(await moduleOptions())]])
}

/** The options of every module there is, by the module's name. */
async function moduleOptions(): Promise<ModuleOptions> {
  const files = readdirSync(MODULES).filter((file) => file.endsWith('.ts') && !file.endsWith('.test.ts'))
  const options: Record<string, ModuleOptions[string]> = {}
  for (const file of files.sort()) {
    const { default: module } = (await import(new URL(file, MODULES).href)) as { default?: Module<unknown, unknown> }
    if (module) options[module.name] = module.options ?? {}
  }
  return options
}

if (import.meta.main) {
  for (const [file, page] of await generatedPages()) {
    mkdirSync(dirname(file), { recursive: true })
    writeFileSync(file, page)
    console.log(file)
  }
}
