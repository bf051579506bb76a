import { PassThrough, Readable } from 'node:stream'
import { describe, expect, test } from 'vitest'
import { askPassword } from './prompt.ts'

/** A terminal, and what is seen on it. */
function terminal() {
  const input = Object.assign(new PassThrough(), { isTTY: true, setRawMode: () => input })
  const output = new PassThrough()
  let seen = ''
  output.setEncoding('utf8').on('data', (text) => {
    seen += text
  })
  const until = (text: string) => expect.poll(() => seen).toContain(text)
  return { input, output, until, seen: () => seen }
}

describe('on a terminal', () => {
  test('it is asked for twice, and not shown', async () => {
    const { input, output, until, seen } = terminal()
    const asked = askPassword('Password of romeo', { input, output })
    await until('Password of romeo: ')
    input.write('sécret\r')
    await until('Password of romeo, again: ')
    input.write('sécret\r')
    expect(await asked).toBe('sécret')
    expect(seen()).toBe('Password of romeo: \nPassword of romeo, again: \n')
  })

  test('what is typed wrongly can be taken back', async () => {
    const { input, output, until } = terminal()
    const asked = askPassword('Password', { input, output })
    await until('Password: ')
    input.write('secrex\x7ft\r')
    await until('again: ')
    input.write('x\x15secret\r')
    expect(await asked).toBe('secret')
  })

  test('two that differ are refused', async () => {
    const { input, output, until } = terminal()
    const asked = askPassword('Password', { input, output })
    const refused = expect(asked).rejects.toThrow('the two passwords differ; nothing was changed')
    await until('Password: ')
    input.write('one\r')
    await until('again: ')
    input.write('two\r')
    await refused
  })

  test.each([
    ['^C', '\x03'],
    ['^D', '\x04'],
  ])('%s leaves everything as it is', async (_name, key) => {
    const { input, output, until } = terminal()
    const refused = expect(askPassword('Password', { input, output })).rejects.toThrow('interrupted; nothing was changed')
    await until('Password: ')
    input.write(key)
    await refused
  })

  test('an empty one is refused without being asked again', async () => {
    const { input, output, until, seen } = terminal()
    const refused = expect(askPassword('Password', { input, output })).rejects.toThrow('there is no password')
    await until('Password: ')
    input.write('\r')
    await refused
    expect(seen()).not.toContain('again')
  })
})

describe('where standard input is no terminal', () => {
  const output = new PassThrough()
  test.each([
    [['secret\n'], 'secret'],
    [['secret\r\n'], 'secret'],
    [['sec', 'ret'], 'secret'],
    [['secret\nsecond line'], 'secret'],
    [[' spaces are kept \n'], ' spaces are kept '],
    [[Buffer.from('é').subarray(0, 1), Buffer.from('é').subarray(1)], 'é'],
  ])('%j', async (chunks, password) => {
    expect(await askPassword('Password', { input: Readable.from(chunks, { objectMode: true }), output })).toBe(password)
  })

  test('the end of the input is not waited for', async () => {
    const input = new PassThrough()
    input.write('secret\n')
    expect(await askPassword('Password', { input, output })).toBe('secret')
  })

  test.each([[[]], [['\n']], [['\nsecond line\n']]])('%j has none', async (chunks) => {
    const input = Readable.from(chunks, { objectMode: true })
    await expect(askPassword('Password', { input, output })).rejects.toThrow('there is no password')
  })

  test('what never ends is not read for ever', async () => {
    let chunks = 0
    const endless = Readable.from(
      (async function* () {
        for (;;) yield 'x'.repeat(1000 + chunks++)
      })(),
    )
    expect((await askPassword('Password', { input: endless, output })).length).toBeLessThan(20_000)
  })
})
