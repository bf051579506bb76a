// Start in order, stop in the opposite order; and the modules, found by looking.
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import type { AnyModule } from './module.ts'
import type { Log } from './observing/log.ts'
import type { RunningRole } from './process.ts'

/** Every file of the folder that default-exports a module, by name. Throws Error that names a file which is none. */
export async function findModules(folder: string): Promise<AnyModule[]> {
  const files = (await readdir(folder)).filter((file) => file.endsWith('.ts') && !file.endsWith('.test.ts')).sort()
  const modules: AnyModule[] = []
  for (const file of files) {
    const { default: module } = (await import(pathToFileURL(join(folder, file)).href)) as { default?: AnyModule }
    if (module === undefined) continue // what modules share
    if (typeof module.setup !== 'function' || typeof module.name !== 'string')
      throw new Error(`${join(folder, file)} exports no module`)
    modules.push(module)
  }
  return modules
}

/** What has been started, to be stopped in the opposite order. */
export class Lifecycle {
  readonly #running: { readonly name: string; readonly stop: () => Promise<void> }[] = []
  readonly #log: Log
  #stopping: Promise<void> | undefined

  constructor(log: Log) {
    this.#log = log
  }

  /** Starts one part. Where it fails, all that runs is stopped, and the error rises. */
  async start<T extends RunningRole>(starting: Promise<T>): Promise<T> {
    try {
      const part = await starting
      this.#running.push(part)
      return part
    } catch (error) {
      await this.stop()
      throw error
    }
  }

  /** For parts that are no roles: a table, a bus. */
  add(name: string, stop: () => Promise<void>): void {
    this.#running.push({ name, stop })
  }

  /** Stops everything, last started first. A part that fails to stop does not keep the others running. */
  stop(): Promise<void> {
    this.#stopping ??= this.#stopAll()
    return this.#stopping
  }

  async #stopAll(): Promise<void> {
    for (let part = this.#running.pop(); part !== undefined; part = this.#running.pop()) {
      try {
        await part.stop()
      } catch (error) {
        this.#log.error('part.stop_failed', { part: part.name, error })
      }
    }
  }
}
