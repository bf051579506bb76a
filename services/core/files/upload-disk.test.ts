import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import { DiskUploads } from './upload-disk.ts'

const KEY = `20500/${'ab'.repeat(16)}`
const folders: string[] = []
afterEach(async () => {
  for (const folder of folders.splice(0)) await rm(folder, { recursive: true, force: true })
})

async function open(): Promise<{ folder: string; disk: DiskUploads; files: () => Promise<string[]> }> {
  const folder = await mkdtemp(join(tmpdir(), 'rookery-disk-'))
  folders.push(folder)
  const disk = new DiskUploads(join(folder, 'uploads'))
  await disk.prepare()
  const files = async () =>
    (await readdir(folder, { recursive: true, withFileTypes: true })).filter((one) => one.isFile()).map(({ name }) => name)
  return { folder, disk, files }
}

async function* body(...pieces: (string | Error)[]): AsyncGenerator<Uint8Array> {
  for (const piece of pieces) {
    if (piece instanceof Error) throw piece
    yield Buffer.from(piece)
  }
}

describe('a file on the disk', () => {
  test('is read as it was written, whole and in part', async () => {
    const { disk } = await open()
    await disk.write(KEY, 8, body('wher', 'efore'.slice(0, 4)))
    const file = (await disk.open(KEY))!
    expect(file.size).toBe(8)
    expect(Buffer.concat(await file.bytes(2, 5).toArray()).toString()).toBe('eref')
    expect(await disk.open(KEY.replace('20500', '20501'))).toBe(undefined)
  })

  test.each([
    ['longer than promised', 7, body('12345678'), { fault: 'length' }],
    ['shorter than promised', 9, body('12345678'), { fault: 'length' }],
    ['cut off', 9, body('1234', new Error('aborted')), { message: 'aborted' }],
  ])('%s leaves nothing', async (_, size, pieces, fault) => {
    const { disk, files } = await open()
    await expect(disk.write(KEY, size, pieces)).rejects.toMatchObject(fault)
    expect(await files()).toEqual([])
    await disk.write(KEY, 2, body('ok'))
  })

  test('is never written twice, nor by two at a time', async () => {
    const { disk, files } = await open()
    const writes = await Promise.allSettled([
      disk.write(KEY, 1, body('a')),
      disk.write(KEY, 1, body('b')),
      disk.write(KEY, 1, body('c')),
    ])
    expect(writes.filter(({ status }) => status === 'fulfilled')).toHaveLength(1)
    await expect(disk.write(KEY, 1, body('d'))).rejects.toMatchObject({ fault: 'taken' })
    expect(await files()).toHaveLength(1)
  })

  test('is in its folder, whatever a key says', async () => {
    const { disk } = await open()
    for (const key of ['../../etc/passwd', '1/../../x', `1/${'ab'.repeat(16)}/x`, '', '/1/a', `1\0/${'ab'.repeat(16)}`])
      await expect(disk.open(key), key).rejects.toThrow('is no key of an upload')
  })

  test('goes when its day is over, and nothing else in the folder does', async () => {
    const { disk, files, folder } = await open()
    await disk.write(KEY, 1, body('a'))
    await disk.write(KEY.replace('20500', '20501'), 1, body('b'))
    await writeFile(join(folder, 'uploads/README'), 'mine')
    expect(await disk.sweep(20_500)).toBe(0)
    expect(await disk.sweep(20_501)).toBe(1)
    expect((await files()).sort()).toEqual(['README', 'ab'.repeat(16)].sort())
    await disk.remove(KEY) // gone already
  })

  test('a folder that cannot be made is named, with its key', async () => {
    const { folder } = await open()
    await writeFile(join(folder, 'taken'), '')
    await expect(new DiskUploads(join(folder, 'taken/uploads')).prepare()).rejects.toThrow('set modules.http-upload.folder')
  })
})
