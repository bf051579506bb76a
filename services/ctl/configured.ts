// The configuration as every command reads it: the modules there are say which options they have.
import { type LoadedConfig, loadConfig } from '#core/config.ts'
import { findModules } from '#core/lifecycle.ts'
import type { AnyModule } from '#core/module.ts'
import { presenceModules } from '#presence/main.ts'

export interface Configured extends LoadedConfig {
  readonly modules: readonly AnyModule[]
}

const MODULES_FOLDER = new URL('../modules/', import.meta.url).pathname

/** Throws ConfigError. */
export async function readConfiguration(file: string | undefined): Promise<Configured> {
  const modules = [...presenceModules, ...(await findModules(MODULES_FOLDER))]
  const moduleOptions = Object.fromEntries(modules.map(({ name, options }) => [name, options ?? {}]))
  return { ...loadConfig({ moduleOptions, ...(file !== undefined && { file }) }), modules }
}
