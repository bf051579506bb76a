// One request of a command, performed where the configuration says that the accounts are (forms.ts).
import type { AccountRequest, Entry } from '#embedded/account-calls.ts'
import { StanzaError } from '#xmpp/error.ts'
import { readConfiguration } from './configured.ts'
import { formOf } from './forms.ts'
import type { Reached } from './reach.ts'

/** The next entry is asked for when it is done with one. */
type OnEntry = (entry: Entry) => void | Promise<void>

/** Performs one request, and says where. Throws Error with a sentence for whoever typed the command. */
export async function carryOut(
  file: string | undefined,
  request: AccountRequest,
  mayBeFirst = false,
  onEntry: OnEntry = () => {},
): Promise<string> {
  const configured = await readConfiguration(file)
  const reached = await formOf(configured.config).reach(configured, mayBeFirst)
  await complete(reached, request, onEntry)
  return reached.where
}

/** The same of several, one after the other; where one fails, those behind it are not performed. `onTold` is given what each tells. */
export async function carryOutAll(
  file: string | undefined,
  requests: readonly AccountRequest[],
  onEntry: OnEntry = () => {},
  onTold: (told: unknown) => void = () => {},
): Promise<string> {
  const configured = await readConfiguration(file)
  const reached = await formOf(configured.config).reach(configured, false)
  try {
    for (const request of requests) onTold(await performed(reached, request, onEntry))
  } finally {
    await reached.close()
  }
  return reached.where
}

/** The same of a server that must run, since it is about those who are online. Gives what is told. */
export async function askRunning(
  file: string | undefined,
  request: AccountRequest,
  onEntry: OnEntry = () => {},
): Promise<unknown> {
  const configured = await readConfiguration(file)
  return complete(await formOf(configured.config).reachRunning(configured, false), request, onEntry)
}

async function complete(reached: Reached, request: AccountRequest, onEntry: OnEntry): Promise<unknown> {
  try {
    return await performed(reached, request, onEntry)
  } finally {
    await reached.close()
  }
}

async function performed(reached: Reached, request: AccountRequest, onEntry: OnEntry): Promise<unknown> {
  try {
    const performing = reached.perform(request)
    for (;;) {
      const { value, done } = await performing.next()
      if (done) return value
      await onEntry(value as Entry)
    }
  } catch (error) {
    if (!(error instanceof StanzaError)) throw error
    const why = error.text === '' ? `it could not be done (${error.condition}); the log says why` : error.text
    throw new Error(request.account === undefined ? why : `${request.account}: ${why}`, { cause: error })
  }
}
