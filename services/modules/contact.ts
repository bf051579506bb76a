// XEP-0157: Contact Addresses for XMPP Services, as a form beside the host's features (XEP-0128).
//
// What is not set is not shown: an address that nobody reads is worse than none. The form follows from the options
// alone, so that it is in the caps hash of every edge's stream features as in what disco.ts answers.
import { defineModule } from '#core/module.ts'
import type { OptionSpec } from '#core/settings/options.ts'
import { formElement, makeField, makeForm } from '#xmpp/form.ts'

const NS_SERVERINFO = 'http://jabber.org/network/serverinfo'

/** In the order of §7.1; the field of `abuse` is `abuse-addresses`. */
const PURPOSES = ['abuse', 'admin', 'feedback', 'sales', 'security', 'status', 'support'] as const

type Options = Record<(typeof PURPOSES)[number], readonly string[]>

export default defineModule<void, Options>({
  name: 'contact',
  home: 'presence',
  xeps: [
    { number: '0128', version: '1.0.1' },
    { number: '0157', version: '1.1.1' },
  ],
  options: {
    abuse: addresses('Where to report spam and abuse'),
    admin: addresses('Where to reach the administrators'),
    feedback: addresses('Where users may say what they think'),
    sales: addresses('Where to ask about prices'),
    security: addresses('Where to report a hole in the security'),
    status: addresses('Where to see whether the service works'),
    support: addresses('Where users get help'),
  },

  hostForms(options) {
    const given = PURPOSES.filter((purpose) => options[purpose]?.length > 0)
    if (given.length === 0) return []
    const fields = given.map((purpose) => makeField('list-multi', `${purpose}-addresses`, { values: options[purpose] }))
    return [formElement(makeForm('result', NS_SERVERINFO, fields))] // §3
  },

  setup() {},
})

function addresses(what: string): OptionSpec<readonly string[]> {
  const doc = `${what}, shown to everybody (XEP-0157): URIs, as \`mailto:…\`, \`xmpp:…\` or \`https://…\`.`
  return { default: [], max: 20, entry: { right: 'a URI', prepare: preparedUri }, perDomain: true, doc }
}

/** §3: `status-addresses` MUST be URIs and the others SHOULD; nobody can click on one that is not. */
function preparedUri(text: string): string {
  if (!URL.canParse(text) || /[\s<>"]/.test(text)) throw new Error('an address has a scheme: mailto:, xmpp: or https:')
  return text
}
