// Setting up the modules of a role: each once, in an order in which what one needs comes first.
import { groupsOf } from './groups/group-administration.ts'
import type { AnyModule, App, Module } from './module.ts'
import type { Owner } from './owner.ts'
import { factsOf } from './settings/hosts.ts'
import { sharedSecret } from './storage/shared-secret.ts'

/** The API of a module that is loaded. */
export type ApiOf = (module: AnyModule) => unknown

/** Throws Error on a cycle, on a module that is needed and not loaded, and on two modules of one name. */
export function setUpModules(owner: Owner, modules: readonly AnyModule[]): ApiOf {
  const apis = new Map<AnyModule, unknown>()
  const underWay: AnyModule[] = []
  const names = new Set<string>()
  for (const { name } of modules) {
    if (names.has(name)) throw new Error(`two modules are called ${name}`)
    names.add(name)
  }

  function setUp(module: AnyModule): unknown {
    if (apis.has(module)) return apis.get(module)
    if (underWay.includes(module)) {
      throw new Error(`modules need each other in a circle: ${[...underWay, module].map(({ name }) => name).join(' → ')}`)
    }
    underWay.push(module)
    apis.set(module, module.setup(appOf(owner, module, modules, { need, needNamed })))
    underWay.pop()
    return apis.get(module)
  }

  function need<Api>(module: Module<Api, never>): Api {
    const loaded = modules.find(({ name }) => name === module.name)
    if (loaded === undefined) throw new Error(`module ${module.name} is needed by ${underWay.at(-1)?.name} and is not loaded`)
    return setUp(loaded) as Api
  }

  function needNamed<Api>(name: string): Api | undefined {
    const loaded = modules.find((module) => module.name === name)
    return loaded && (setUp(loaded) as Api)
  }

  for (const module of modules) setUp(module)
  return (module) => apis.get(module)
}

function appOf(owner: Owner, module: AnyModule, modules: readonly AnyModule[], needs: Pick<App, 'need' | 'needNamed'>): App {
  const { hooks, store, process } = owner
  const { name } = module
  return {
    options: process.moduleOptions[name] ?? {},
    optionsOf: (domain) => (factsOf(process.server, domain).moduleOptions[name] ?? {}) as {},
    server: process.server,
    limits: process.config.limits,
    role: owner.role,
    clock: process.clock,
    log: owner.log.child({ module: name }),
    metrics: process.metrics,
    accounts: owner.accounts,
    modules,
    iq: (type, ns, child, target, handler) => {
      if (module.home === owner.role) owner.iqs.add(module, type, ns, child, target, handler)
    },
    guard: (point, guard) => hooks.guard(name, point, guard),
    stamp: (point, stamp) => hooks.stamp(name, point, stamp),
    copy: (point, copy) => hooks.copy(name, point, copy),
    hide: (hider) => hooks.hide(name, hider),
    on: (event, listener) => hooks.on(name, event, listener),
    emit: (event, payload) => hooks.emit(event, payload),
    record: (record, empty) => store.record(record, empty),
    sharedRecord: (record, empty, onNews) => owner.shared.make(module.home, record, empty, onNews),
    map: (map) => store.map(map),
    journal: (journal, ids) => {
      if (!module.journals?.includes(journal))
        throw new Error(`module ${name} keeps the journal ${journal} and does not declare it in journals`)
      return store.journal(journal, ids)
    },
    stored: store,
    sessions: (account) => owner.part.sessions(account.bare),
    allSessions: () => owner.part.allSessions?.() ?? [],
    seenBy: (account, contact) => owner.caller.ask('presence', account.bare, 'presence.seen-by', { contact: contact.bare }),
    send: (stanza) => owner.commit.after(stanza.from.bare, () => owner.send(stanza)),
    push: (session, stanza) => owner.commit.after(session.jid.bare, () => owner.multicast.deliver(session, stanza)),
    shown: (account, stanza, options = {}) => owner.part.shown?.(account, stanza, options),
    reshow: async (account, change) => owner.part.reshow?.(account, change),
    removeAccount: (account) => owner.caller.ask('router', account.bare, 'account.remove', {}).then(() => {}),
    durable: async (account) => owner.commit.applied(account.bare),
    endSessions: (account, condition, except) => {
      const fields = { condition, except }
      owner.lanes.send('router', account.bare, { kind: 'signal', account: account.bare, name: 'session.end', fields })
    },
    ask: (role, address, name, fields) => owner.caller.ask(role, address, name, fields),
    answer: (name, handler) => {
      if (module.home === owner.role) owner.answers.add(name, handler)
    },
    secret: (name) => sharedSecret(process.table, name)(),
    administration: owner.administration,
    groups: groupsOf(process),
    ...needs,
  }
}
