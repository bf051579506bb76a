import { expect, test } from 'vitest'
import { loadConfig } from '#core/settings/config.ts'
import { ROLES } from '#embedded/serve.ts'
import { formOf } from './forms.ts'
import { parseRoles } from './roles.ts'

test('roles are named one by one or with commas, and are started in the order that the server has for them', () => {
  expect(parseRoles(['edge', 'router'])).toEqual(['router', 'edge'])
  expect(parseRoles(['edge,router, web'])).toEqual(['router', 'edge', 'web'])
  expect(parseRoles(['edge', 'edge'])).toEqual(['edge'])
})

test('without any, a process has them all', () => {
  expect(parseRoles([])).toEqual(ROLES)
  expect(parseRoles()).toEqual(ROLES)
})

test('one that there is not is named, with what was meant', () => {
  expect(() => parseRoles(['edge,rooter'])).toThrow('there is no role "rooter"; did you mean router?')
  expect(() => parseRoles(['database'])).toThrow('there is no role "database"; the roles are presence, router, edge, web')
  expect(() => parseRoles([''])).toThrow('there is no role ""')
})

test('a part of the roles is for a cluster: on the bus inside a process nobody would do the others', () => {
  const { config } = loadConfig({ text: 'domains: [localhost]', env: {} })
  expect(() => formOf(config, ['edge'])).toThrow(
    /bus\.driver is memory: all roles are in one process.*leave --role out, or set bus\.driver to nats/,
  )
  expect(formOf(config, ROLES)).toBe(formOf(config))
  const text = 'bus: { driver: nats, servers: nats://a }\ntable: { driver: dynamodb }'
  const cluster = formOf(loadConfig({ text, env: {} }).config, ['edge'])
  expect(cluster).not.toBe(formOf(config))
})
