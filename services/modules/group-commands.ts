// Groups of one organisation (core/groups/groups.ts), in the clients of those who administer a domain: ad-hoc commands (commands.ts).
//
// XEP-0133 has none for it. They stand beside its commands and do what `rookery group` does, for the groups of the domain that
// is asked.
import { type GroupChange, type GroupFacts, parseGroup } from '#core/groups/group-administration.ts'
import { SEEN_BY, type SeenBy } from '#core/groups/groups.ts'
import { type App, defineModule } from '#core/module.ts'
import { StanzaError } from '#xmpp/error.ts'
import { type Field, type Form, makeField, makeForm } from '#xmpp/form.ts'
import { type Jid, parseJid } from '#xmpp/jid.ts'
import { NS_OURS } from '#xmpp/ns.ts'
import commands, { type Command, type CommandCall } from './commands.ts'

const NS = `${NS_OURS}/groups`
const node = (name: string): string => `${NS_OURS}/commands#${name}`

/** Groups that are offered to be chosen from; of more the name is to be typed. */
const OFFERED_MAX = 100
/** Members that are named or shown in one command. */
const MEMBERS_MAX = 500

const LABELS: Readonly<Record<SeenBy, string>> = {
  members: 'Its members',
  everybody: 'Everybody of the domain',
  nobody: 'Nobody, but for the groups below',
}

export default defineModule({
  name: 'group-commands',
  home: 'presence',
  xeps: [],

  setup(app) {
    const { add } = app.need(commands)
    for (const command of [...groupCommands(app), ...memberCommands(app)]) add(command)
  },
})

function groupCommands(app: App): readonly Command[] {
  const { administration } = app.groups
  const nameField = makeField('text-single', 'name', { label: 'Name, as in an address', required: true })
  return [
    {
      node: node('list-groups'),
      name: 'List Groups',
      who: 'admin',
      run: async ({ domain }) => ({ form: tableOf(await administration.list(domain)) }),
    },
    {
      node: node('create-group'),
      name: 'Create Group',
      who: 'admin',
      stages: [() => formOf('Create Group', [nameField, ...settingsFields()])],
      run: (call) => administration.create(named(call), changeOf(call)),
    },
    {
      node: node('change-group'),
      name: 'Change Group',
      who: 'admin',
      stages: [
        choosing(app, 'Change Group'),
        async (call) => formOf('Change Group', settingsFields(await administration.show(named(call)))),
      ],
      run: (call) => administration.set(named(call), changeOf(call)),
    },
    {
      node: node('delete-group'),
      name: 'Delete Group',
      who: 'admin',
      stages: [choosing(app, 'Delete Group')],
      run: (call) => administration.delete(named(call)),
    },
  ]
}

function memberCommands(app: App): readonly Command[] {
  const { administration } = app.groups
  const accounts = makeField('jid-multi', 'accountjids', { label: 'The accounts', required: true })
  return [
    {
      node: node('list-group-members'),
      name: 'List Members of Group',
      who: 'admin',
      stages: [choosing(app, 'List Members of Group')],
      run: async (call) => {
        const members = await administration.members(named(call))
        const values = members.slice(0, MEMBERS_MAX)
        const form = makeForm('result', NS, [makeField('jid-multi', 'accountjids', { label: 'Members', values })])
        if (values.length === members.length) return { form }
        return { form, note: `There are ${members.length}; the command line shows all.`, noteType: 'warn' }
      },
    },
    {
      node: node('add-group-members'),
      name: 'Add Members to Group',
      who: 'admin',
      stages: [choosing(app, 'Add Members to Group', [accounts])],
      run: async (call) => ({ note: `Added: ${await administration.add(named(call), accountsOf(call))}.` }),
    },
    {
      node: node('remove-group-members'),
      name: 'Remove Members from Group',
      who: 'admin',
      stages: [choosing(app, 'Remove Members from Group', [accounts])],
      run: async (call) => ({ note: `Removed: ${await administration.removeMembers(named(call), accountsOf(call))}.` }),
    },
  ]
}

function formOf(title: string, fields: readonly Field[]): Form {
  return makeForm('form', NS, fields, { title, instructions: ['Fill out this form.'] })
}

/** A form that asks which group, of those there are. */
function choosing(app: App, title: string, more: readonly Field[] = []) {
  return async ({ domain }: CommandCall): Promise<Form> => {
    const groups = await app.groups.administration.list(domain)
    if (groups.length === 0) throw new StanzaError('item-not-found', `${domain} has no groups`)
    const options = groups.map(({ group, displayName }) => ({ value: parseJid(group).local, label: displayName }))
    const words = { label: 'The group', required: true }
    const field =
      groups.length > OFFERED_MAX
        ? makeField('text-single', 'name', words)
        : makeField('list-single', 'name', { ...words, options })
    return formOf(title, [field, ...more])
  }
}

function settingsFields(group?: GroupFacts): readonly Field[] {
  const options = SEEN_BY.map((value) => ({ value, label: LABELS[value] }))
  return [
    makeField('text-single', 'displayname', { label: 'What it is called in rosters', value: group?.displayName }),
    makeField('text-single', 'description', { label: 'Description', value: group?.description || undefined }),
    makeField('list-single', 'seenby', { label: 'Who sees its members', value: group?.seenBy ?? 'members', options }),
    makeField('text-multi', 'seenbygroups', { label: 'Groups that see them, too', values: group?.seenByGroups ?? [] }),
  ]
}

/** A field that was not sent stays what it is; one that was sent empty is unset. */
function changeOf({ values }: CommandCall): GroupChange {
  const displayName = values.get('displayname')?.[0]
  const seenBy = values.get('seenby')?.[0] as SeenBy | undefined // one of the options
  const description = values.get('description')
  const seenByGroups = values.get('seenbygroups')?.map((line) => line.trim())
  return {
    ...(displayName !== undefined && { displayName }),
    ...(description !== undefined && { description: description[0] ?? '' }),
    ...(seenBy !== undefined && { seenBy }),
    ...(seenByGroups !== undefined && { seenByGroups: seenByGroups.filter((line) => line !== '') }),
  }
}

/** NAME, or NAME@DOMAIN of the domain that is asked. */
function named({ values, domain }: CommandCall): Jid {
  const text = values.get('name')![0]!
  const group = parseGroup(text.includes('@') ? text : `${text}@${domain}`)
  if (group.domain !== domain) throw new StanzaError('not-allowed', `${text} is no group of ${domain}`)
  return group
}

/** Prepared by the form. */
function accountsOf({ values }: CommandCall): readonly Jid[] {
  const accounts = values.get('accountjids')!.map((text) => parseJid(text))
  if (accounts.length > MEMBERS_MAX) throw new StanzaError('not-acceptable', `at most ${MEMBERS_MAX} at once`)
  for (const { full, local, resource } of accounts)
    if (local === '' || resource !== '')
      throw new StanzaError('not-acceptable', `${full} is no account; an account is NAME@DOMAIN`)
  return accounts
}

/** XEP-0004 §3.4. */
function tableOf(groups: readonly GroupFacts[]): Form {
  const columns = ['name', 'displayname', 'description', 'seenby', 'seenbygroups', 'members']
  const items = groups.map(({ group, displayName, description, seenBy, seenByGroups, members }) => {
    const texts = [parseJid(group).local, displayName, description, seenBy, seenByGroups.join(' '), String(members)]
    return columns.map((name, i) => makeField('text-single', name, { value: texts[i]! }))
  })
  const reported = columns.map((name) => makeField('text-single', name, { label: name }))
  return { ...makeForm('result', NS, [], { title: 'Groups' }), reported, items }
}
