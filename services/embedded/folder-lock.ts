// One process at a time in a data folder.
//
// Whoever works on the data holds an exclusive lock on <data>/rookery.lock: a server for as long as it runs, a command
// while it works on the data at rest. The kernel gives it back when the holder dies, however it dies, so that nobody has
// to judge whether what a dead one left behind is stale. Node has no call for such locks; SQLite has, on an empty file.
import { closeSync, openSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'

export interface FolderLock {
  /** Twice is no fault. */
  release(): void
}

/**
 * Takes the lock, or gives undefined at once where another process holds it, or this one does. Throws Error where the
 * folder is not there or may not be written.
 */
export function tryLockFolder(folder: string): FolderLock | undefined {
  const file = join(folder, 'rookery.lock')
  let database: DatabaseSync | undefined
  try {
    makeFile(file)
    database = new DatabaseSync(file, { timeout: 0 })
    database.exec('BEGIN EXCLUSIVE')
  } catch (error) {
    database?.close()
    const { errcode = 0, message } = error as Error & { errcode?: number }
    if (errcode % 256 === SQLITE_BUSY) return undefined
    throw new Error(`cannot lock the data folder ${folder} (${message}); this user must be able to write ${file}`, {
      cause: error,
    })
  }
  const held = database
  return {
    release() {
      if (held.isOpen) held.close()
    },
  }
}

const SQLITE_BUSY = 5

/** For its owner alone. One that is there is not opened: closing it again would drop a lock that this process holds. */
function makeFile(file: string): void {
  try {
    closeSync(openSync(file, 'wx', 0o600))
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
  }
}
