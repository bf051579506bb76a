import { describe, expect, test } from 'vitest'
import { didYouMean, nearest } from './nearest.ts'
import { checkOptions, type OptionSpecs } from './options.ts'

interface Options {
  pageMax: number
  keep: boolean
  greeting: string
  rooms: readonly string[]
  mode: 'always' | 'never'
  level: 1 | 2
}

const SPECS: OptionSpecs<Options> = {
  pageMax: { default: 50, min: 1, max: 250, doc: 'Results in one page.' },
  keep: { default: true, doc: 'Whether to keep.' },
  greeting: { default: 'hello', min: 1, max: 10, doc: 'A greeting.' },
  rooms: { default: ['lobby'], max: 2, doc: 'Rooms.' },
  mode: { default: 'always', oneOf: ['always', 'never'], doc: 'When.' },
  level: { default: 1, oneOf: [1, 2], doc: 'How much.' },
}
const DEFAULTS = { pageMax: 50, keep: true, greeting: 'hello', rooms: ['lobby'], mode: 'always', level: 1 }

const faultsOf = (given: unknown) => checkOptions('mam', SPECS, given).faults

describe('the options of a module', () => {
  test.each([[undefined], [null], [{}]])('given %s are the defaults', (given) => {
    expect(checkOptions('mam', SPECS, given)).toEqual({ options: DEFAULTS, faults: [] })
  })

  test('given are taken, at their bounds too, and the rest are the defaults', () => {
    const given = { pageMax: 250, keep: false, rooms: ['a', 'b'], mode: 'never', level: 2 }
    expect(checkOptions('mam', SPECS, given)).toEqual({ options: { ...DEFAULTS, ...given }, faults: [] })
  })

  test('one text stands for a list of one', () => {
    expect(checkOptions('mam', SPECS, { rooms: 'a' }).options.rooms).toEqual(['a'])
  })

  test('a default is not shared between two that were checked', () => {
    const first = checkOptions('mam', SPECS, {}).options.rooms as string[]
    first.push('changed')
    expect(checkOptions('mam', SPECS, {}).options.rooms).toEqual(['lobby'])
  })

  test.each([
    [{ pageMax: 0 }, 'modules.mam.pageMax is 0; it must be at least 1'],
    [{ pageMax: 251 }, 'modules.mam.pageMax is 251; it must be at most 250'],
    [{ pageMax: 1.5 }, 'modules.mam.pageMax is 1.5; it must be a whole number from 1 to 250'],
    [{ pageMax: '7' }, 'modules.mam.pageMax is "7"; it must be a whole number from 1 to 250'],
    [{ pageMax: null }, 'modules.mam.pageMax is empty; it must be a whole number from 1 to 250'],
    [{ pageMax: Number.NaN }, 'modules.mam.pageMax is NaN; it must be a whole number from 1 to 250'],
    [{ keep: 'yes' }, 'modules.mam.keep is "yes"; it must be true or false'],
    [{ greeting: '' }, 'modules.mam.greeting is ""; it must be at least 1 character'],
    [{ greeting: 5 }, 'modules.mam.greeting is 5; it must be text'],
    [{ rooms: ['a', 'b', 'c'] }, 'modules.mam.rooms is a list; it must be at most 2 entries'],
    [{ rooms: 5 }, 'modules.mam.rooms is 5; it must be a list, each entry text'],
    [{ rooms: ['a', 5] }, 'modules.mam.rooms[1] is 5; it must be text'],
    [{ rooms: ['a', 'a'] }, 'modules.mam.rooms[1] is "a"; it must be text (the same is there already)'],
    [{ mode: 'sometimes' }, 'modules.mam.mode is "sometimes"; it must be always or never'],
    [{ level: 3 }, 'modules.mam.level is 3; it must be 1 or 2'],
    [{ pagemax: 5 }, 'modules.mam.pagemax is not a key; did you mean modules.mam.pageMax?'],
    [{ zzzzzzzz: 5 }, 'modules.mam.zzzzzzzz is not a key; the keys here are pageMax, keep, greeting, rooms, mode, level'],
    [5, 'modules.mam is 5; it must be a section, with keys of its own'],
  ])('%j is refused: %s', (given, fault) => {
    expect(faultsOf(given)).toEqual([fault])
  })

  test('every fault is reported at once, and the options are then the defaults', () => {
    const { options, faults } = checkOptions('mam', SPECS, { pageMax: 0, keep: 1, mode: 'x', other: 1 })
    expect(faults).toHaveLength(4)
    expect(options).toEqual(DEFAULTS)
  })

  test.each(['__proto__', 'constructor', 'toString'])('%s is a key that does not exist', (name) => {
    expect(faultsOf(JSON.parse(`{"${name}": 1}`))).toHaveLength(1)
  })

  test('a value that is long is cut in the fault', () => {
    expect(faultsOf({ pageMax: 'x'.repeat(10_000) })[0]!.length).toBeLessThan(200)
  })

  test('a module whose default is out of its own bounds does not start', () => {
    const specs = { pageMax: { default: 0, min: 1, doc: 'x' } }
    expect(() => checkOptions('mam', specs, {})).toThrow('module mam: the default of pageMax is out of bounds')
  })
})

describe('the nearest names', () => {
  const names = ['c2s.port', 'c2s.tlsPort', 'websocket.port', 'listen']

  test.each([
    ['lisen', ['listen']],
    ['lsiten', ['listen']],
    ['C2S_TLS_PORT', ['c2s.tlsPort']],
    ['c2s.prot', ['c2s.port']],
    ['banana', []],
    ['', []],
  ])('%s: %j', (name, near) => {
    expect(nearest(name, names).slice(0, Math.max(1, near.length))).toEqual(near)
  })

  test('are put as a question', () => {
    expect(didYouMean([])).toBe('')
    expect(didYouMean(['a', 'b'])).toBe('; did you mean a or b?')
  })
})
