// The form of the server that tests run on: all in one process, or a cluster. A test is written once, for both.
//
// The project `cluster` (vitest.config.ts) says TEST_FORM=cluster: then the harness is many processes in one (test/harness.ts), and
// the clients of test/interop connect to a cluster of real ones (test/interop/server.ts).

export type Form = 'embedded' | 'cluster'

export const FORM: Form = formOf(process.env.TEST_FORM ?? '')

export const isCluster = FORM === 'cluster'

function formOf(text: string): Form {
  if (text === '' || text === 'embedded') return 'embedded'
  if (text === 'cluster') return 'cluster'
  throw new Error(`TEST_FORM is ${JSON.stringify(text)}; it may be embedded or cluster`)
}
