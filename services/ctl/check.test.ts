import { afterEach, beforeEach, expect, test } from 'vitest'
import { Place } from './rookery.fixture.ts'

let place: Place
beforeEach(() => {
  place = new Place()
})
afterEach(() => place.clear())

test('every fault is told, with file, line and column, and nothing is made', async () => {
  const file = place.write(
    ['domains: [localhost]', 'c2s:', '  port: 70000', `data: ${place.data}`, 'registratoin: open', ''].join('\n'),
  )
  const { code, out, err } = await place.rookery(['check', '--config', file])
  expect({ code, out }).toEqual({ code: 2, out: '' })
  expect(err).toContain(`${file}: 2 faults`)
  expect(err).toContain(`${file}:3:3: c2s.port is 70000`)
  expect(err).toContain(`${file}:5:1: registratoin`)
})

test('a fault in a variable is told with its name', async () => {
  const { code, err } = await place.rookery(['check'], { env: { ROOKERY_C2S_PORT: 'many' } })
  expect(code).toBe(2)
  expect(err).toContain('ROOKERY_C2S_PORT: c2s.port is "many"')
})

test('a module may be left out, but not one that a role cannot do without', async () => {
  const left = place.configure({ modules: { ping: { enabled: false } } })
  expect((await place.rookery(['check', '--config', left])).code).toBe(0)
  const { code, err } = await place.rookery(['check', '--config', place.configure({ modules: { roster: { enabled: false } } })])
  expect(code).toBe(2)
  expect(err).toContain('modules.roster is not a key')
})

test('a good file is called good', async () => {
  const file = place.configure({ domains: ['example.org', 'example.net'] })
  expect(await place.rookery(['check', '--config', file])).toEqual({
    code: 0,
    out: `${file}: good; example.org, example.net on 127.0.0.1 (file)\n`,
    err: '',
  })
})

test('no file is the laptop', async () => {
  expect(await place.rookery(['check'])).toEqual({ code: 0, out: 'no file: good; localhost on 127.0.0.1 (laptop)\n', err: '' })
})

test('a file that is not there is named', async () => {
  const { code, err } = await place.rookery(['check', '--config', 'nowhere.yaml'])
  expect(code).toBe(2)
  expect(err).toContain('nowhere.yaml cannot be read')
})

test('a word too many is answered with the usage', async () => {
  const { code, err } = await place.rookery(['check', 'rookery.yaml'])
  expect(code).toBe(2)
  expect(err).toContain('check takes no rookery.yaml\n\nUsage:')
})
