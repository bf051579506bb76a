// Giving commands (XEP-0050) in tests: to the end, with all forms filled in.
import { type Form, formElement, parseForm } from '#xmpp/form.ts'
import { NS_DATA } from '#xmpp/ns.ts'
import { childOf, type Element, el, textOf } from '#xmpp/stanza.ts'
import type { Refusal, TestClient } from './harness.ts'

const NS = 'http://jabber.org/protocol/commands'

export interface CommandResult {
  /** The form that was offered, where there was one. */
  readonly offered: Form | undefined
  readonly form: Form | undefined
  readonly note: string
  /** The whole `<command/>`. */
  readonly element: Element
}

/** Gives a command of at most one form. A refusal of either request is told as it is. */
export async function give(
  client: TestClient,
  node: string,
  fields: Readonly<Record<string, readonly string[]>> = {},
  to = client.jid.domain,
): Promise<CommandResult | Refusal> {
  const began = (await client.iq('set', el('command', NS, { node }), to)) as Element | Refusal
  if ('condition' in began || began.attrs.status === 'completed') return 'condition' in began ? began : resultOf(began, undefined)
  const filled = Object.entries(fields).map(([name, values]) => ({ var: name, values }))
  const form = formElement({ type: 'submit', instructions: [], fields: filled })
  const { sessionid } = began.attrs
  const ended = (await client.iq('set', el('command', NS, { node, sessionid, action: 'complete' }, form), to)) as
    | Element
    | Refusal
  return 'condition' in ended ? ended : resultOf(ended, formIn(began))
}

/** The same where it must succeed. */
export async function given(...asked: Parameters<typeof give>): Promise<CommandResult> {
  const result = await give(...asked)
  if ('condition' in result) throw new Error(`refused: ${result.condition} ${result.text}`)
  return result
}

function resultOf(element: Element, offered: Form | undefined): CommandResult {
  const note = childOf(element, 'note', NS)
  return { offered, form: formIn(element), note: note === undefined ? '' : textOf(note), element }
}

function formIn(element: Element): Form | undefined {
  const x = childOf(element, 'x', NS_DATA)
  return x && parseForm(x)
}
