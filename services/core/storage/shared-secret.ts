// Secrets that all processes of a deployment have in common, and nobody else: made by whoever is first to need one.
//
//   pk = o#secrets   sk = upload   32 random bytes
import { randomBytes } from 'node:crypto'
import { type Key, type Table, VersionConflict } from '#table/table.ts'
import { randomId } from '#xmpp/id.ts'

const SECRET_BYTES = 32

/** Read once, when it is first asked for. Rejects with TableUnavailable, and then the next to ask reads again. */
export function sharedSecret(table: Table, name: string): () => Promise<Buffer> {
  const key: Key = { pk: 'o#secrets', sk: name }
  let known: Promise<Buffer> | undefined
  return () => {
    known ??= readOrMake(table, key).catch((error: unknown) => {
      known = undefined
      throw error
    })
    return known
  }
}

async function readOrMake(table: Table, key: Key): Promise<Buffer> {
  const value = (await table.get(key))?.value ?? (await make(table, key))
  return Buffer.from(value)
}

async function make(table: Table, key: Key): Promise<Uint8Array> {
  const value = randomBytes(SECRET_BYTES)
  try {
    await table.put({ ...key, version: randomId(), value }, '')
    return value
  } catch (error) {
    if (!(error instanceof VersionConflict)) throw error
    return (await table.get(key))!.value // another process was first
  }
}
