import { afterEach, beforeEach, expect, test } from 'vitest'
import { UsageError } from './command.ts'
import { exportAccount } from './export.ts'
import { goOnline, Place } from './rookery.fixture.ts'

let place: Place
let config: string
beforeEach(() => {
  place = new Place()
  config = place.configure()
})
afterEach(() => place.clear())

const rookery = (...args: string[]) => place.rookery([...args, '--config', config])

test('the document is on standard output and nothing else is, of a running server and of its data at rest', async () => {
  await rookery('user', 'add', 'romeo@localhost', '--password', 'secret')
  const server = await place.run(config)
  const romeo = await goOnline(await server.port('c2s'), 'romeo@localhost', 'secret', 'garden')
  romeo.send(`<iq type='set' id='vcard'><vCard xmlns='vcard-temp'><FN>Romeo &amp; co.</FN></vCard></iq>`)
  await romeo.until(/id='vcard'/)
  const running = await rookery('export', 'romeo@localhost')
  const bytes = Buffer.byteLength(running.out)
  expect({ code: running.code, err: running.err }).toEqual({
    code: 0,
    err: `romeo@localhost: ${bytes} bytes on the running server\n`,
  })
  expect(running.out).toMatch(/^<\?xml version='1\.0' encoding='UTF-8'\?>\n<server-data xmlns='urn:xmpp:pie:0'>/)
  expect(running.out).toContain(`<vCard xmlns='vcard-temp'><FN>Romeo &amp; co.</FN></vCard>\n`)
  expect(running.out.endsWith('</server-data>\n')).toBe(true)
  romeo.close()
  await server.stop()
  const atRest = await rookery('export', 'romeo@localhost')
  expect(atRest).toMatchObject({ code: 0, err: expect.stringMatching(/ bytes in .*; no server runs on it\n$/) })
  expect(atRest.out).toContain('Romeo &amp; co.')
})

test('of nobody there is none', async () => {
  await rookery('user', 'add', 'romeo@localhost', '--password', 'secret')
  const err = 'rookery: nobody@localhost: no such account\n'
  expect(await rookery('export', 'nobody@localhost')).toEqual({ code: 1, out: '', err })
})

test.each<[string[], string]>([
  [[], 'export needs an account'],
  [['a@b', 'c@d'], 'export takes one account, and no c@d'],
  [['a@b', '--all', 'x'], "Unknown option '--all'"],
])('%j is answered with the usage', async (args, text) => {
  const refused = exportAccount(args)
  await expect(refused).rejects.toThrow(UsageError)
  await expect(refused).rejects.toThrow(text)
})
