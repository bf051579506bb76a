// The table itself, at the start of a process: found, made where it may be, or asked for in words that can be pasted.
//
// What a process must be allowed (IAM): DescribeTable, GetItem, Query, PutItem, DeleteItem and BatchWriteItem; to make it, also
// CreateTable, DescribeTimeToLive and UpdateTimeToLive.
import { setTimeout as delay } from 'node:timers/promises'
import type { TableDescription } from '@aws-sdk/client-dynamodb'
import type { DynamoClient } from './dynamo-client.ts'
import { isAboutCredentials, wordsOf } from './dynamo-errors.ts'
import { PK, SK, TTL } from './dynamo-rows.ts'
import { TableUnavailable } from './table.ts'

const POLL_MS = 250
/** AWS takes about ten seconds to make a table. */
const ACTIVE_WITHIN_MS = 60_000

const ATTRIBUTES = [
  { AttributeName: PK, AttributeType: 'S' },
  { AttributeName: SK, AttributeType: 'S' },
] as const
const KEYS = [
  { AttributeName: PK, KeyType: 'HASH' },
  { AttributeName: SK, KeyType: 'RANGE' },
] as const

export function tableNameOf(prefix: string): string {
  return `${prefix}-rows`
}

/** Resolves when the table can be used. Throws an Error that says what is in the way. */
export async function prepareTable(client: DynamoClient, name: string, create: boolean): Promise<void> {
  const where = await whereOf(client)
  try {
    const found = (await describe(client, name)) ?? (create ? await make(client, name) : undefined)
    if (found === undefined) throw new Error(howToMake(name, where))
    checkKeys(found, name, where)
    await untilActive(client, name, where)
    if (create) await turnTtlOn(client, name)
  } catch (error) {
    throw explained(error, where)
  }
}

async function whereOf(client: DynamoClient): Promise<string> {
  try {
    return await client.describe()
  } catch (cause) {
    throw new Error(`DynamoDB has no region: set table.region, or AWS_REGION (${wordsOf(cause)})`, { cause })
  }
}

async function describe(client: DynamoClient, TableName: string): Promise<TableDescription | undefined> {
  try {
    return (await client.request('DescribeTable', { TableName })).Table
  } catch (error) {
    if (isCaused(error, 'ResourceNotFoundException')) return undefined
    throw error
  }
}

/** What somebody else is making just now is as good. */
async function make(client: DynamoClient, TableName: string): Promise<TableDescription> {
  const asked = { TableName, AttributeDefinitions: [...ATTRIBUTES], KeySchema: [...KEYS] }
  try {
    return (await client.request('CreateTable', { ...asked, BillingMode: 'PAY_PER_REQUEST' })).TableDescription!
  } catch (error) {
    if (isCaused(error, 'ResourceInUseException')) return asked
    throw error
  }
}

function checkKeys({ KeySchema = [], AttributeDefinitions = [] }: TableDescription, name: string, where: string): void {
  const typeOf = (attribute: string) =>
    AttributeDefinitions.find(({ AttributeName }) => AttributeName === attribute)?.AttributeType
  const keys = KeySchema.map(({ AttributeName = '', KeyType }) => `${AttributeName} ${typeOf(AttributeName)} ${KeyType}`)
  if (keys.join(', ') === `${PK} S HASH, ${SK} S RANGE`) return
  throw new Error(`the table ${name} of ${where} is not ours: its keys are ${keys.join(', ')}; set table.prefix to another`)
}

async function untilActive(client: DynamoClient, name: string, where: string): Promise<void> {
  const deadline = performance.now() + ACTIVE_WITHIN_MS
  for (;;) {
    const status = (await describe(client, name))?.TableStatus // none: made a moment ago, and not yet known everywhere
    if (status === 'ACTIVE' || status === 'UPDATING') return
    if (performance.now() > deadline)
      throw new Error(
        `the table ${name} of ${where} is ${status ?? 'not there'} after ${ACTIVE_WITHIN_MS / 1000} s; it must be ACTIVE`,
      )
    await delay(POLL_MS)
  }
}

async function turnTtlOn(client: DynamoClient, TableName: string): Promise<void> {
  const { TimeToLiveDescription: ttl } = await client.request('DescribeTimeToLive', { TableName })
  if (ttl?.TimeToLiveStatus === 'ENABLED' || ttl?.TimeToLiveStatus === 'ENABLING') return
  try {
    await client.request('UpdateTimeToLive', { TableName, TimeToLiveSpecification: { AttributeName: TTL, Enabled: true } })
  } catch (error) {
    if ((error as Error).name !== 'ValidationException') throw error // somebody else was faster: it is enabled already
  }
}

function isCaused(error: unknown, name: string): boolean {
  return error instanceof TableUnavailable && (error.cause as Error | undefined)?.name === name
}

function howToMake(name: string, where: string): string {
  return [
    `${where} has no table ${name}, and table.create is false; make it so:`,
    `  aws dynamodb create-table --table-name ${name} --billing-mode PAY_PER_REQUEST \\`,
    `    --attribute-definitions AttributeName=${PK},AttributeType=S AttributeName=${SK},AttributeType=S \\`,
    `    --key-schema AttributeName=${PK},KeyType=HASH AttributeName=${SK},KeyType=RANGE`,
    `  aws dynamodb update-time-to-live --table-name ${name} --time-to-live-specification Enabled=true,AttributeName=${TTL}`,
  ].join('\n')
}

function explained(error: unknown, where: string): Error {
  if (!(error instanceof TableUnavailable)) return error as Error
  const { cause } = error
  const { name, $metadata } = cause as Error & { $metadata?: { httpStatusCode?: number } }
  const words = wordsOf(cause)
  if (name === 'CredentialsProviderError')
    return new Error(
      `no credentials for ${where}: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give this process a role; for DynamoDB Local set table.accessKeyId and table.secretAccessKey to anything (${words})`,
      { cause },
    )
  if (isAboutCredentials(cause))
    return new Error(
      `${where} does not accept our credentials: are they of this account, is the region the right one, and the clock of this machine? (${words})`,
      { cause },
    )
  if (name === 'AccessDeniedException') return new Error(`${where} allows us too little: ${words}`, { cause })
  if ($metadata?.httpStatusCode === undefined)
    return new Error(
      `${where} does not answer: ${words}; correct table.endpoint, or start DynamoDB Local: docker run -p 8000:8000 amazon/dynamodb-local`,
      { cause },
    )
  return new Error(`${where} cannot be used: ${words}`, { cause })
}
