// Uploaded files in a folder: of this machine, or one that all machines of a cluster see.
//
//   <folder>/20782/0f3c…        a file, in the folder of the last day on which it is kept (days since 1970)
//   <folder>/20782/0f3c….part   the same while it is written
//
// A file has its name only when it is whole and on the disk, and no file is ever written twice. What has expired goes with
// its folder.
import { constants } from 'node:fs'
import { access, type FileHandle, link, mkdir, open, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { Readable } from 'node:stream'

/** Why a file was not taken: it is there already or is being put, it was not as long as promised, or the disk is full. */
export type UploadFault = 'taken' | 'length' | 'full'

export class UploadRefused extends Error {
  readonly fault: UploadFault

  constructor(fault: UploadFault, cause?: unknown) {
    super(`upload refused: ${fault}`, { cause })
    this.name = 'UploadRefused'
    this.fault = fault
  }
}

/** A file that is open. `bytes` closes it when it ends or is destroyed; who calls it not, closes it. */
export interface OpenFile {
  readonly size: number
  /** Both ends inclusive. */
  bytes(start: number, end: number): Readable
  close(): Promise<void>
}

export class DiskUploads {
  readonly where = 'here'
  readonly #folder: string

  constructor(folder: string) {
    this.#folder = folder
  }

  /** Makes the folder, and throws Error that says what to do where nothing can be written there. */
  async prepare(): Promise<void> {
    try {
      await mkdir(this.#folder, { recursive: true, mode: 0o700 })
      await access(this.#folder, constants.R_OK | constants.W_OK | constants.X_OK)
    } catch (cause) {
      const why = `the folder of uploads ${this.#folder} cannot be used: ${(cause as Error).message}`
      throw new Error(`${why}; set modules.http-upload.folder to one this user may write`, { cause })
    }
  }

  /** Takes `size` bytes, no more and no less, and is on the disk when it resolves. Throws UploadRefused, or what the body throws; then nothing is left of it. */
  async write(key: string, size: number, body: AsyncIterable<Uint8Array>): Promise<void> {
    const path = this.#path(key)
    const part = `${path}.part`
    await mkdir(join(path, '..'), { recursive: true, mode: 0o700 })
    if (await isThere(path)) throw new UploadRefused('taken')
    const handle = await open(part, 'wx', 0o600).catch((error: unknown) => {
      throw refusal(error)
    })
    try {
      await fill(handle, size, body).finally(() => handle.close())
      await link(part, path) // never over another
    } catch (error) {
      throw refusal(error)
    } finally {
      await rm(part, { force: true })
    }
  }

  /** Undefined where there is none, or none that is whole. */
  async open(key: string): Promise<OpenFile | undefined> {
    let handle: FileHandle
    try {
      handle = await open(this.#path(key), 'r')
    } catch (error) {
      if (codeOf(error) === 'ENOENT') return undefined
      throw error
    }
    const { size } = await handle.stat()
    return {
      size,
      bytes: (start, end) => handle.createReadStream({ start, end, highWaterMark: 256 * 1024 }),
      close: () => handle.close(),
    }
  }

  /** One that is not there is removed already. */
  async remove(key: string): Promise<void> {
    await rm(this.#path(key), { force: true })
  }

  /** Removes what was kept until a day before this one. Returns how many days' files that were. */
  async sweep(today: number): Promise<number> {
    let removed = 0
    for (const name of await readdir(this.#folder)) {
      if (!/^\d{1,5}$/.test(name) || Number(name) >= today) continue
      await rm(join(this.#folder, name), { recursive: true, force: true })
      removed++
    }
    return removed
  }

  /** Keys come from addresses that are sealed; what is none of ours leads nowhere all the same. */
  #path(key: string): string {
    if (!/^\d{1,5}\/[0-9a-f]{32}$/.test(key)) throw new Error(`${JSON.stringify(key)} is no key of an upload`)
    return join(this.#folder, key)
  }
}

async function fill(handle: FileHandle, size: number, body: AsyncIterable<Uint8Array>): Promise<void> {
  let had = 0
  for await (const chunk of body) {
    had += chunk.length
    if (had > size) throw new UploadRefused('length')
    for (let at = 0; at < chunk.length; ) at += (await handle.write(chunk, at)).bytesWritten
  }
  if (had < size) throw new UploadRefused('length')
  await handle.datasync()
}

async function isThere(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  )
}

function refusal(error: unknown): unknown {
  const code = codeOf(error)
  if (code === 'EEXIST') return new UploadRefused('taken', error)
  if (code === 'ENOSPC' || code === 'EDQUOT' || code === 'EFBIG') return new UploadRefused('full', error)
  return error
}

function codeOf(error: unknown): string | undefined {
  return (error as NodeJS.ErrnoException).code
}
