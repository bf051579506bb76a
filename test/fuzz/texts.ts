// Texts from outside: addresses, names, forms, pages, dates, SASL, PROXY headers, the configuration.
import { ConfigError, loadConfig } from '#core/settings/config.ts'
import { ProxyHeaderError, ProxyHeaderReader, TAIL_BYTES_MAX } from '#edge/listeners/proxy-protocol.ts'
import { decodeSaslData, SaslError } from '#edge/sasl/mechanism.ts'
import { parseClientFinal, parseClientFirst } from '#edge/sasl/scram-messages.ts'
import { StanzaError } from '#xmpp/error.ts'
import { parseForm, submitted } from '#xmpp/form.ts'
import { JidError, makeJid, parseJid, prepareDomain, prepareLocal, prepareResource } from '#xmpp/jid.ts'
import { opaqueString, PrecisError, usernameCaseMapped } from '#xmpp/precis.ts'
import { parseSet } from '#xmpp/rsm.ts'
import { DateTimeError, formatDateTime, parseDateTime } from '#xmpp/time.ts'
import { parseElement } from '#xmpp/xml.ts'
import type { Random } from './random.ts'
import { buffersOf, demand, type FuzzTarget, only, plainly } from './target.ts'

const TEXT_TOKENS = buffersOf([
  ...'@/.:-_,=%\\"\'{}[]#&*!|>?+ \t\r\n\0',
  ...[
    'xn--',
    '::1',
    '[',
    '\u0301',
    '\u202e',
    '\u212a',
    '\u00df',
    '\u{1f426}',
    '\u3002',
    'a'.repeat(1_024),
    '\ufeff',
    '00',
    '999999999999',
    '-1',
    'Z',
    '+00:00',
  ],
])

/** Mutated, and read as text. */
function textLike(random: Random, samples: readonly Buffer[]): string {
  return random.mutate(random.pick(samples), samples, TEXT_TOKENS).toString('utf8')
}

const JIDS = buffersOf([
  'romeo@example.org/garden',
  'example.org',
  'J\u00fcliet@M\u00fcnchen.example/Balcony \u2665',
  'a.b-c@[2001:db8::1]/x',
  'x@xn--mnchen-3ya.example',
])
const SCRAM = buffersOf([
  'n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL',
  'y,a=user@example.org,n=us=2Cer,r=abc,x=1',
  'p=tls-exporter,,n=u,r=abc',
  'c=biws,r=fyko3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=',
])
const DATES = buffersOf(['2026-11-23T12:07:00Z', '2026-02-28T23:59:59.123456+05:30', '0000-01-01T00:00:00-14:00'])
const FORMS = buffersOf([
  `<x xmlns='jabber:x:data' type='form'><title>t</title><field var='a' type='boolean'><value>1</value><required/></field><field var='b' type='list-multi'><option label='l'><value>x</value></option></field></x>`,
  `<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE' type='hidden'><value>urn:xmpp:mam:2</value></field><field var='with' type='jid-single'><value>a@b</value></field></x>`,
  `<x xmlns='jabber:x:data' type='result'><reported><field var='a'/></reported><item><field var='a'><value>1</value></field></item></x>`,
  `<set xmlns='http://jabber.org/protocol/rsm'><max>10</max><after>id</after></set>`,
  `<set xmlns='http://jabber.org/protocol/rsm'><before/><index>5</index></set>`,
])
const XMLISH = [
  ...TEXT_TOKENS,
  ...buffersOf(['<value>', '</value>', '<field/>', "var=''", "type='jid-multi'", '<max>', '</max>', '<item/>', '&amp;']),
]
const PROXY = [
  Buffer.from('PROXY TCP4 192.0.2.1 198.51.100.2 56324 5222\r\n'),
  Buffer.from('PROXY TCP6 2001:db8::1 2001:db8::2 1 65535\r\n'),
  Buffer.from('PROXY UNKNOWN\r\n'),
  Buffer.from('0d0a0d0a000d0a515549540a2111000cc0000201c6336402dc041466', 'hex'),
  Buffer.from('0d0a0d0a000d0a515549540a2111001dc0000201c6336402dc04146620000e0100000000210007544c5376312e33', 'hex'),
  Buffer.from('0d0a0d0a000d0a515549540a20000000', 'hex'),
]
const PROXY_TOKENS = [
  ...buffersOf(['PROXY ', '\r\n', ' ', 'TCP4', '0', '::', '999', '.']),
  ...[[0x21], [0x20], [0x11], [0xff, 0xff], [0, 0]].map((bytes) => Buffer.from(bytes)),
]
const CONFIGS = buffersOf([
  'domains: [example.org, example.net]\nlisten: [127.0.0.1, "::1"]\nc2s: { port: 5222, tlsPort: off }\nlimits:\n  stanzaBytes: 10000\n',
  'data: &d ./data\nlog: { level: debug, pretty: true }\nmodules:\n  offline: { messagesMax: 10 }\nx: *d\n',
  'trustedProxies: [10.0.0.0/8]\nregistration: open\ntls: {cert: a, key: b}\n',
])

export const TEXT_TARGETS: readonly FuzzTarget[] = [
  {
    name: 'jid',
    inputs: 60_000,
    open: () => ({
      one(random) {
        const text = random.chance(2) ? random.text(40) : textLike(random, JIDS)
        const jid = only([JidError], () => parseJid(text))
        if (!(jid instanceof Error)) {
          const { local, domain, resource, bare, full } = jid
          for (const part of [local, domain, resource]) demand(Buffer.byteLength(part) <= 1_023, () => `a part of ${part.length}`)
          demand(
            full.isWellFormed() && !/[\0-\x1f\x7f]/.test(bare),
            () => `${JSON.stringify(text)} became ${JSON.stringify(full)}`,
          )
          demand(parseJid(full).full === full, () => `${JSON.stringify(full)} becomes ${JSON.stringify(parseJid(full).full)}`)
          demand(makeJid(local, domain, resource).full === full, () => `${full} is not what its parts make`)
        }
        for (const prepare of [prepareLocal, prepareResource, prepareDomain]) {
          const once = only([JidError], () => prepare(text))
          if (typeof once === 'string')
            demand(prepare(once) === once, () => `${prepare.name} of ${JSON.stringify(text)} is not stable`)
        }
      },
    }),
  },
  {
    name: 'precis',
    inputs: 60_000,
    open: () => ({
      one(random) {
        const text = random.text(30)
        for (const profile of [usernameCaseMapped, opaqueString]) {
          const once = only([PrecisError], () => profile(text))
          if (typeof once === 'string')
            demand(profile(once) === once, () => `${profile.name} of ${JSON.stringify(text)} is not stable`)
        }
      },
    }),
  },
  {
    name: 'form-page-date',
    inputs: 40_000,
    open: () => ({
      one(random) {
        const date = textLike(random, DATES)
        const ms = only([DateTimeError], () => parseDateTime(date))
        if (typeof ms === 'number') demand(parseDateTime(formatDateTime(ms)) === ms, () => `${date} is ${ms}`)
        const element = plainly(() => parseElement(random.mutate(random.pick(FORMS), FORMS, XMLISH)))
        if (element instanceof Error) return
        only([StanzaError], () => parseSet(element))
        const form = only([StanzaError], () => parseForm(element))
        if (!(form instanceof Error)) only([StanzaError], () => submitted(OFFERED, form))
      },
    }),
  },
  {
    name: 'sasl',
    inputs: 60_000,
    open: () => ({
      one(random) {
        const text = textLike(random, SCRAM)
        const first = only([SaslError], () => parseClientFirst(text))
        if (!(first instanceof Error))
          demand(text === first.gs2Header + first.bare, () => `${text} is not ${first.gs2Header} and ${first.bare}`)
        only([SaslError], () => parseClientFinal(text, 20))
        const base64 = random.chance(2) ? Buffer.from(text).toString('base64') : text
        const data = only([SaslError], () => decodeSaslData(base64))
        if (data instanceof Uint8Array && base64 !== '=') {
          const again = Buffer.from(data).toString('base64')
          demand(again === base64, () => `${base64} was taken, and is ${again}`) // one spelling only, RFC 6120 §6.4.2
        }
      },
    }),
  },
  {
    name: 'proxy-header',
    inputs: 60_000,
    open: () => ({
      one(random) {
        const client = Buffer.from('<stream')
        const header = random.chance(10) ? random.pick(PROXY) : random.mutate(random.pick(PROXY), PROXY, PROXY_TOKENS)
        const whole = Buffer.concat([header, client])
        const outcome = (pieces: readonly Buffer[]): string => {
          const reader = new ProxyHeaderReader()
          for (const [i, piece] of pieces.entries()) {
            const rest = only([ProxyHeaderError], () => reader.push(piece))
            if (rest instanceof Error) return 'refused'
            if (rest !== undefined)
              return JSON.stringify([reader.header, Buffer.concat([rest, ...pieces.slice(i + 1)]).toString('hex')])
          }
          demand(whole.length <= 16 + TAIL_BYTES_MAX, () => `it waits on after ${whole.length} bytes`)
          return 'more'
        }
        const [one, many] = [outcome([whole]), outcome(random.cut(whole))]
        demand(one === many, () => `${whole.toString('hex')} is ${one}, and cut ${many}`)
      },
    }),
  },
  {
    name: 'config',
    inputs: 2_500,
    open: () => ({
      one(random) {
        const text = textLike(random, CONFIGS)
        const env = random.chance(4) ? { ROOKERY_C2S_PORT: random.text(8), ROOKERY_DOMAINS: random.text(20) } : {}
        const loaded = only([ConfigError], () => loadConfig({ file: 'rookery.yaml', text, env }))
        if (loaded instanceof ConfigError)
          demand(loaded.faults.length > 0 && loaded.faults.every((fault) => fault !== ''), () => 'no fault is named')
      },
    }),
  },
]

const OFFERED = parseForm(parseElement(FORMS[0]!))
