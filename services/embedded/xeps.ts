// What is implemented, and to which version: what each module says of itself, and what the roles have in them.
import type { AnyModule, ImplementedXep } from '#core/module.ts'

/** One specification, once. */
export interface SupportedXep {
  readonly number: string
  readonly name: string
  readonly version: string
  /** Complete where anything that implements it says so. */
  readonly status: 'complete' | 'partial'
  /** The modules and files that have it. */
  readonly where: readonly string[]
}

export const RFCS: readonly string[] = ['6120', '6121', '7622', '7395', '7590', '7677', '9266']

/** Outside of modules, by where it is in services/. */
const OF_ROLES: Readonly<Record<string, readonly ImplementedXep[]>> = {
  'edge/listeners': [
    { number: '0178', version: '1.2' },
    { number: '0368', version: '1.1.0' },
  ],
  'edge/sasl': [
    { number: '0440', version: '1.0.0' },
    { number: '0474', version: '0.5.0' },
  ],
  'edge/sessions': [
    { number: '0198', version: '1.6.3' },
    { number: '0352', version: '1.0.0' },
  ],
  'edge/streams': [
    { number: '0386', version: '1.1.0', status: 'partial' }, // without the archive's ends in <bound/>
    { number: '0388', version: '1.0.4', status: 'partial' }, // without tasks
    { number: '0478', version: '0.2.0' },
  ],
  web: [{ number: '0156', version: '1.4.0' }],
  xmpp: [
    { number: '0004', version: '2.13.2' },
    { number: '0068', version: '1.3.0' },
    { number: '0082', version: '1.1.1' },
  ],
}

const NAMES: Readonly<Record<string, string>> = {
  '0004': 'Data Forms',
  '0012': 'Last Activity',
  '0030': 'Service Discovery',
  '0048': 'Bookmarks',
  '0049': 'Private XML Storage',
  '0050': 'Ad-Hoc Commands',
  '0054': 'vcard-temp',
  '0059': 'Result Set Management',
  '0060': 'Publish-Subscribe',
  '0065': 'SOCKS5 Bytestreams',
  '0068': 'Field Standardization for Data Forms',
  '0077': 'In-Band Registration',
  '0082': 'XMPP Date and Time Profiles',
  '0084': 'User Avatar',
  '0092': 'Software Version',
  '0115': 'Entity Capabilities',
  '0128': 'Service Discovery Extensions',
  '0133': 'Service Administration',
  '0153': 'vCard-Based Avatars',
  '0156': 'Discovering Alternative XMPP Connection Methods',
  '0157': 'Contact Addresses for XMPP Services',
  '0160': 'Best Practices for Handling Offline Messages',
  '0163': 'Personal Eventing Protocol',
  '0172': 'User Nickname',
  '0178': 'Best Practices for Use of SASL EXTERNAL with Certificates',
  '0191': 'Blocking Command',
  '0198': 'Stream Management',
  '0199': 'XMPP Ping',
  '0202': 'Entity Time',
  '0203': 'Delayed Delivery',
  '0215': 'External Service Discovery',
  '0222': 'Persistent Storage of Public Data via PubSub',
  '0223': 'Persistent Storage of Private Data via PubSub',
  '0227': 'Portable Import/Export Format for XMPP-IM Servers',
  '0237': 'Roster Versioning',
  '0280': 'Message Carbons',
  '0297': 'Stanza Forwarding',
  '0313': 'Message Archive Management',
  '0334': 'Message Processing Hints',
  '0352': 'Client State Indication',
  '0359': 'Unique and Stable Stanza IDs',
  '0363': 'HTTP File Upload',
  '0368': 'SRV records for XMPP over TLS',
  '0377': 'Blocking Command Reports',
  '0384': 'OMEMO Encryption',
  '0386': 'Bind 2',
  '0388': 'Extensible SASL Profile',
  '0398': 'User Avatar to vCard-Based Avatars Conversion',
  '0402': 'PEP Native Bookmarks',
  '0440': 'SASL Channel-Binding Type Capability',
  '0474': 'SASL SCRAM Downgrade Protection',
  '0478': 'Stream Limits Advertisement',
  '0484': 'Fast Authentication Streamlining Tokens',
  '0490': 'Message Displayed Synchronization',
}

/** By number. Throws Error for one that has no name here, or that two implement in different versions. */
export function supportedXeps(modules: readonly AnyModule[]): SupportedXep[] {
  const found = new Map<string, SupportedXep>()
  const add = (where: string, xep: ImplementedXep): void => {
    const { number, version } = xep
    const status: SupportedXep['status'] = xep.status ?? 'complete'
    const known = found.get(number)
    const name = NAMES[number]
    if (name === undefined) throw new Error(`XEP-${number} of ${where} has no name in embedded/xeps.ts`)
    if (known !== undefined && known.version !== version)
      throw new Error(`XEP-${number} is ${version} in ${where} and ${known.version} in ${known.where}`)
    found.set(number, {
      ...{ number, name, version },
      status: known?.status === 'complete' ? 'complete' : status,
      where: [...(known?.where ?? []), where],
    })
  }
  for (const [where, xeps] of Object.entries(OF_ROLES)) for (const xep of xeps) add(where, xep)
  for (const { name, xeps } of modules) for (const xep of xeps) add(name, xep)
  return [...found.values()].sort((a, b) => a.number.localeCompare(b.number))
}

/** Description of a project, as xmpp.org reads it (XEP-0453). */
export function doapOf(xeps: readonly SupportedXep[]): string {
  const rfcs = RFCS.map((number) => `    <implements rdf:resource='https://www.rfc-editor.org/info/rfc${number}'/>`)
  const supported = xeps.map(
    ({ number, version, status }) => `    <implements>
      <xmpp:SupportedXep>
        <xmpp:xep rdf:resource='https://xmpp.org/extensions/xep-${number}.html'/>
        <xmpp:status>${status}</xmpp:status>
        <xmpp:version>${version}</xmpp:version>
      </xmpp:SupportedXep>
    </implements>`,
  )
  return `<?xml version='1.0' encoding='UTF-8'?>
<rdf:RDF xmlns='http://usefulinc.com/ns/doap#' xmlns:rdf='http://www.w3.org/1999/02/22-rdf-syntax-ns#' xmlns:xmpp='https://linkmauve.fr/ns/xmpp-doap#'>
  <Project>
    <name>Rookery</name>
    <shortdesc xml:lang='en'>A horizontally scaled XMPP server cluster</shortdesc>
    <programming-language>TypeScript</programming-language>
    <os>Linux</os>
    <category rdf:resource='https://linkmauve.fr/ns/xmpp-doap#category-server'/>
${[...rfcs, ...supported].join('\n')}
  </Project>
</rdf:RDF>
`
}
