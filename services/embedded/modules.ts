// The modules of this process: what the roles bring with them, and every file in services/modules.
import { fileURLToPath } from 'node:url'
import { findModules } from '#core/lifecycle.ts'
import type { AnyModule } from '#core/module.ts'
import type { ModuleOptions } from '#core/settings/options.ts'
import { presenceModules } from '#presence/main.ts'

/** Whether the configuration may leave it out. What a role brings with it, it cannot do without. */
function isOptional(module: AnyModule): boolean {
  return !(presenceModules as readonly AnyModule[]).includes(module)
}

export async function allModules(): Promise<AnyModule[]> {
  return [...presenceModules, ...(await findModules(fileURLToPath(new URL('../modules/', import.meta.url))))]
}

/** The options that a configuration may set, by module; of a module without options, none. */
export function optionsOf(modules: readonly AnyModule[]): ModuleOptions {
  return Object.fromEntries(modules.filter(isOptional).map(({ name, options }) => [name, options ?? {}]))
}
