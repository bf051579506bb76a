// The reference of the configuration, as a page in Markdown: printed from the keys themselves, so that it cannot be wrong.
import { variableOf } from './config.ts'
import { type Key, keysOf, type ModuleOptions, sectionsOf } from './options.ts'
import { LAPTOP, settingsSchema } from './settings.ts'

const INTRODUCTION = `# Configuration

This page is generated from the code by \`npm run docs\`: change it there.

The server reads one YAML file, and the environment. Each key is also an environment variable, which wins over the file; an empty
variable counts as none. In a variable a list is written with commas (\`ROOKERY_DOMAINS=example.org,example.net\`) and a boolean
as \`true\` or \`false\`. Everything is checked before a port is opened, and every fault is reported at once, with its place and what
would be right. A key or a \`ROOKERY_\` variable that does not exist is a fault too; only the variables in which Kubernetes
names services (\`…_SERVICE_HOST\`, \`…_PORT=tcp://…\`) are passed over. Relative paths begin at the working directory.

A port may be \`off\`, and then nothing listens there; with \`0\` the system chooses a free one, which is logged. Sizes and
times are plain numbers, in the unit that the name ends with.
`

/** The whole page. `modules` are the options of every module. */
export function configReference(modules: ModuleOptions = {}): string {
  const schema = settingsSchema(modules)
  const keys = [...keysOf(schema)]
  let page = INTRODUCTION
  page +=
    '\n## Without a file\n\nWithout a file, and while `listen` has only loopback addresses and `trustedProxies` none, these defaults\n'
  page +=
    'make a server that can be tried at once. The defaults below hold as soon as there is a file, or anyone else could connect.\n\n'
  page += '| key | default |\n| --- | --- |\n'
  for (const { path, value } of LAPTOP) page += `| \`${path.join('.')}\` | \`${value}\` |\n`

  page += `\n## At the top\n\n${tableOf(keys.filter(({ path }) => path.length === 1))}`
  for (const { path, doc } of sectionsOf(schema)) {
    const within = keys.filter((key) => key.path.length === path.length + 1 && path.every((part, i) => key.path[i] === part))
    if (within.length > 0) page += `\n## ${doc}: \`${path.join('.')}\`\n\n${tableOf(within)}`
  }
  return page + hostsPage(modules)
}

const HOSTS = `
## Domains with options of their own: \`hosts\`

What holds for all domains can be something else for one of them, in the file alone:

\`\`\`yaml
domains: [example.org, example.net]
registration: closed
hosts:
  example.net:
    registration: open
    modules:
      contact: { abuse: ['mailto:abuse@example.net'] }
\`\`\`

Whom \`hosts.DOMAIN.admins\` names may be on any of the domains, and administers this one instead of those that \`admins\` names.

`

function hostsPage(modules: ModuleOptions): string {
  const keys = [...keysOf(settingsSchema(modules, ['DOMAIN']))].filter(({ path }) => path[0] === 'hosts')
  const rows = keys.map(({ name, doc }) => `| ${[`\`${name}\``, doc.bounds, doc.doc].map(cell).join(' | ')} |\n`)
  return `${HOSTS}| key | bounds | meaning |\n| --- | --- | --- |\n${rows.join('')}`
}

function tableOf(keys: readonly Key[]): string {
  const rows = keys.map(({ name, path, doc }) => {
    const cells = [`\`${name}\``, `\`${variableOf(path)}\``, fallbackOf(doc.fallback), doc.bounds, doc.doc]
    return `| ${cells.map(cell).join(' | ')} |\n`
  })
  return `| key | variable | default | bounds | meaning |\n| --- | --- | --- | --- | --- |\n${rows.join('')}`
}

function fallbackOf(value: unknown): string {
  if (value === undefined) return 'none'
  return Array.isArray(value) ? `\`[${value.join(', ')}]\`` : `\`${value === '' ? "''" : value}\``
}

function cell(text: string): string {
  return text.replaceAll('|', '\\|').replace(/\s+/g, ' ')
}
