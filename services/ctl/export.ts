// `rookery export JID > FILE`: all that is stored of an account (XEP-0227), of the running server or of its data at rest.
import { parseAccount } from '#embedded/requests.ts'
import { StanzaError } from '#xmpp/error.ts'
import { carryOut } from './carry-out.ts'
import { parseOptions, UsageError } from './command.ts'

/** The document on standard output; what else there is to say on standard error. */
export async function exportAccount(args: readonly string[]): Promise<number> {
  const { options, words } = parseOptions(args, ['config'])
  const [word, ...more] = words
  if (word === undefined) throw new UsageError('export needs an account, NAME@DOMAIN')
  if (more.length > 0) throw new UsageError(`export takes one account, and no ${more[0]}`)
  const account = accountOf(word)
  let bytes = 0
  process.stdout.on('error', () => {}) // whoever writes is told
  const where = await carryOut(options.config, { call: 'account.export', account }, false, async (piece) => {
    bytes += Buffer.byteLength(String(piece))
    await written(String(piece))
  })
  process.stderr.write(`${account}: ${bytes} bytes ${where}\n`)
  return 0
}

/** Not before it is out: a document may be larger than memory. */
function written(text: string): Promise<void> {
  return new Promise((done, failed) => {
    process.stdout.write(text, (error) => (error ? failed(new Error(`the export is not whole: ${error.message}`)) : done()))
  })
}

function accountOf(word: string): string {
  try {
    return parseAccount(word).bare
  } catch (error) {
    if (error instanceof StanzaError) throw new Error(error.text)
    throw error
  }
}
