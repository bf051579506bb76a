// What one user says in the name of another, or of the server.
import { expect } from 'vitest'
import { stanzaError } from './peer.ts'
import type { Attack } from './target.ts'

const NS_ROSTER = 'jabber:iq:roster'

export const FORGERIES: readonly Attack[] = [
  {
    name: 'a roster push from another account',
    async run(target) {
      const victim = await target.online('mercutio', 'tcp', 'victim')
      await victim.ask('get', `<query xmlns='${NS_ROSTER}'/>`)
      victim.take()
      const attacker = await target.online('tybalt')
      const push = `<iq type='set' id='push' to='${victim.jid}'><query xmlns='${NS_ROSTER}'><item jid='evil@localhost' subscription='both'/></query></iq>`
      attacker.say(push)
      attacker.say(`<message to='${victim.jid}' type='chat'><body>after it</body></message>`)
      const came = await victim.until('after it')
      expect(came).not.toContain('<iq ') // RFC 6121 §2.1.6: not every client goes by `from`
      expect(stanzaError(await attacker.until("id='push'"))).toBe('cancel service-unavailable')
      expect(await victim.ask('get', `<query xmlns='${NS_ROSTER}'/>`)).not.toContain('evil@localhost')
      expect(
        await attacker.ask('set', `<query xmlns='${NS_ROSTER}'><item jid='evil@localhost'/></query>`, 'mercutio@localhost'),
      ).toContain("type='error'")
    },
  },
  {
    name: 'a stanza-id in the name of the recipient, and one of the server',
    async run(target) {
      const victim = await target.online('mercutio', 'tcp', 'victim')
      const attacker = await target.online('tybalt')
      const forged = ['mercutio@localhost', 'MERCUTIO@localhost', victim.jid]
      for (const by of forged) {
        attacker.say(
          `<message to='${victim.jid}' type='chat'><body>${by}</body><stanza-id xmlns='urn:xmpp:sid:0' id='forged' by='${by}'/></message>`,
        )
      }
      await victim.see((text) => text.includes(`<body>${victim.jid}</body>`), 'the last of them')
      const ids = [...victim.text.matchAll(/<stanza-id[^>]*>/g)]
        .map(([id]) => id)
        .filter((id) => /by='mercutio@localhost'/i.test(id))
      expect(ids).toHaveLength(forged.length) // one of the archive's own for each
      for (const id of ids) expect(id).not.toContain("id='forged'") // XEP-0359 §3, rule 2
    },
  },
  {
    name: 'answers to questions that others were asked',
    async run(target) {
      const victim = await target.online('mercutio', 'tcp', 'victim')
      const attacker = await target.online('tybalt')
      for (const from of ['localhost', 'mercutio@localhost', 'bystander-1@localhost', 'LOCALHOST', 'mercutio@localhost/victim']) {
        const again = await target.online('tybalt')
        again.say(`<iq type='result' id='q1' from='${from}' to='${victim.jid}'><query xmlns='${NS_ROSTER}'/></iq>`)
        expect([from, await again.streamError()]).toEqual([from, 'invalid-from'])
      }
      attacker.say(`<iq type='result' id='q1' to='${victim.jid}'><query xmlns='${NS_ROSTER}'/></iq>`)
      attacker.say(`<message to='${victim.jid}' type='chat'><body>after it</body></message>`)
      const came = await victim.until('after it')
      const iqs = [...came.matchAll(/<iq [^>]*>/g)].map(([iq]) => iq)
      expect(iqs).toHaveLength(1)
      expect(iqs[0]).toMatch(/from='tybalt@localhost\//)
    },
  },
  {
    name: 'what is the owner’s alone: vCard, private data, blocking, the account itself',
    async run(target) {
      const attacker = await target.online('tybalt')
      const set = [
        `<vCard xmlns='vcard-temp'><FN>Owned</FN></vCard>`,
        `<query xmlns='jabber:iq:private'><x xmlns='urn:x'>owned</x></query>`,
        `<block xmlns='urn:xmpp:blocking'><item jid='bystander-1@localhost'/></block>`,
        `<query xmlns='jabber:iq:register'><remove/></query>`,
        `<query xmlns='jabber:iq:register'><username>mercutio</username><password>owned</password></query>`,
      ]
      for (const payload of set) expect(await attacker.ask('set', payload, 'mercutio@localhost')).toContain("type='error'")
      const get = [
        `<query xmlns='${NS_ROSTER}'/>`,
        `<query xmlns='jabber:iq:private'><x xmlns='urn:x'/></query>`,
        `<blocklist xmlns='urn:xmpp:blocking'/>`,
      ]
      for (const payload of get) expect(await attacker.ask('get', payload, 'mercutio@localhost')).toContain("type='error'")
    },
  },
]
