// All fuzzers.
import { CERTIFICATE_TARGETS } from './certificates.ts'
import { CONNECTION_TARGETS } from './connections.ts'
import { ENVELOPE_TARGETS } from './envelopes.ts'
import { PAYLOAD_TARGETS } from './payloads.ts'
import { STANZA_TARGETS } from './stanzas.ts'
import type { FuzzTarget } from './target.ts'
import { TEXT_TARGETS } from './texts.ts'
import { XML_TARGETS } from './xml.ts'

export const TARGETS: readonly FuzzTarget[] = [
  ...XML_TARGETS,
  ...PAYLOAD_TARGETS,
  ...TEXT_TARGETS,
  ...CERTIFICATE_TARGETS,
  ...ENVELOPE_TARGETS,
  ...STANZA_TARGETS,
  ...CONNECTION_TARGETS,
]
