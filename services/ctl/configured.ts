// The configuration as every command reads it: the modules that may be left out say which options they have.

import type { AnyModule } from '#core/module.ts'
import { type LoadedConfig, loadConfig } from '#core/settings/config.ts'
import { allModules, optionsOf } from '#embedded/modules.ts'

export interface Configured extends LoadedConfig {
  readonly modules: readonly AnyModule[]
}

/** Throws ConfigError. */
export async function readConfiguration(file: string | undefined): Promise<Configured> {
  const modules = await allModules()
  return { ...loadConfig({ moduleOptions: optionsOf(modules), ...(file !== undefined && { file }) }), modules }
}
