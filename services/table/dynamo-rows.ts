// Rows as DynamoDB's items, and the conditions on them.
//
//   pk   S   see dynamo-keys.ts
//   sk   S   likewise
//   ver  S   the version
//   val  B   the value; a tombstone has none
//   ttl  N   expiresAtS, where the row expires: the attribute that DynamoDB's TTL is set to. It deletes late, within days.
//   key  S   the whole sk, where it is too long to be stored as sk
//
// Names and all, an item is less than 2 kB larger than its row is counted (ROW_BYTES_MAX), and DynamoDB takes 409 600 octets.
import type { AttributeValue } from '@aws-sdk/client-dynamodb'
import { isFolded, skOf, storedPk, storedSk } from './dynamo-keys.ts'
import { type Condition, type Key, type Row, TOMBSTONE_S } from './table.ts'

export const PK = 'pk'
export const SK = 'sk'
export const VERSION = 'ver'
export const VALUE = 'val'
export const TTL = 'ttl'
export const WHOLE_SK = 'key'

export type Item = Record<string, AttributeValue>

export function itemOf(row: Row): Item {
  const item: Item = keyOf(row)
  item[VERSION] = { S: row.version }
  item[VALUE] = { B: new Uint8Array(row.value) } // a copy: it is sent later, and perhaps again
  if (row.expiresAtS !== undefined) item[TTL] = { N: `${row.expiresAtS}` }
  if (isFolded(row.sk)) item[WHOLE_SK] = { S: row.sk }
  return item
}

/** What a deletion leaves that others are to be held against. */
export function tombstoneOf(key: Key, version: string, nowS: number): Item {
  const item = keyOf(key)
  item[VERSION] = { S: version }
  item[TTL] = { N: `${Math.floor(nowS) + TOMBSTONE_S}` }
  return item
}

export function keyOf({ pk, sk }: Key): Item {
  return { [PK]: { S: storedPk(pk) }, [SK]: { S: storedSk(sk) } }
}

/** Undefined for a tombstone, and where its time is up: DynamoDB deletes late. */
export function rowOf(pk: string, item: Item, nowS: number): Row | undefined {
  const value = item[VALUE]?.B
  const ttl = item[TTL]?.N
  const expiresAtS = ttl === undefined ? undefined : Number(ttl)
  if (value === undefined || (expiresAtS !== undefined && expiresAtS <= nowS)) return undefined
  return { pk, sk: item[WHOLE_SK]?.S ?? skOf(item[SK]!.S!), version: item[VERSION]!.S!, value, expiresAtS }
}

export interface Asked {
  ConditionExpression: string
  ExpressionAttributeNames?: Record<string, string>
  ExpressionAttributeValues: Item
  /** Comes with the refusal, so that a write whose answer was lost can be told from another's. */
  ReturnValuesOnConditionCheckFailure: 'ALL_OLD'
}

export function askedOf(condition: Condition, nowS: number): Asked {
  const ReturnValuesOnConditionCheckFailure = 'ALL_OLD'
  if (typeof condition === 'object')
    return {
      ConditionExpression: `attribute_not_exists(${PK}) OR ${VERSION} < :version`, // strings are compared as UTF-8
      ExpressionAttributeValues: { ':version': { S: condition.olderThan } },
      ReturnValuesOnConditionCheckFailure,
    }
  const now = { N: `${Math.floor(nowS)}` }
  const absent = condition === ''
  return {
    ConditionExpression: absent
      ? `attribute_not_exists(${VALUE}) OR #ttl <= :now`
      : `${VERSION} = :version AND attribute_exists(${VALUE}) AND (attribute_not_exists(#ttl) OR #ttl > :now)`,
    ExpressionAttributeNames: { '#ttl': TTL }, // a reserved word
    ExpressionAttributeValues: absent ? { ':now': now } : { ':now': now, ':version': { S: condition } },
    ReturnValuesOnConditionCheckFailure,
  }
}
