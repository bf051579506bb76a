// The namespaces that more than one file speaks of. A feature's own namespace stands in the feature's file.

export const NS_CLIENT = 'jabber:client'
export const NS_STREAM = 'http://etherx.jabber.org/streams'
export const NS_FRAMING = 'urn:ietf:params:xml:ns:xmpp-framing' // RFC 7395
export const NS_TLS = 'urn:ietf:params:xml:ns:xmpp-tls'
export const NS_SASL = 'urn:ietf:params:xml:ns:xmpp-sasl'
export const NS_BIND = 'urn:ietf:params:xml:ns:xmpp-bind'
export const NS_SESSION = 'urn:ietf:params:xml:ns:xmpp-session' // RFC 3921 §3, kept optional for old clients
export const NS_STANZAS = 'urn:ietf:params:xml:ns:xmpp-stanzas'
export const NS_STREAMS = 'urn:ietf:params:xml:ns:xmpp-streams'
export const NS_ROSTER = 'jabber:iq:roster'
export const NS_DISCO_INFO = 'http://jabber.org/protocol/disco#info' // XEP-0030
export const NS_DATA = 'jabber:x:data' // XEP-0004
export const NS_RSM = 'http://jabber.org/protocol/rsm' // XEP-0059
export const NS_DELAY = 'urn:xmpp:delay' // XEP-0203
export const NS_PING = 'urn:xmpp:ping' // XEP-0199
export const NS_PUBSUB_EVENT = 'http://jabber.org/protocol/pubsub#event' // XEP-0060
export const NS_HINTS = 'urn:xmpp:hints' // XEP-0334
export const NS_SID = 'urn:xmpp:sid:0' // XEP-0359
export const NS_FORWARD = 'urn:xmpp:forward:0' // XEP-0297
export const NS_MUC_USER = 'http://jabber.org/protocol/muc#user' // XEP-0045
/** What we name ourselves begins with it: in a domain that is nobody's (RFC 6761 §6.4) until it has a home. */
export const NS_OURS = 'https://rookery.invalid'
export const NS_XML = 'http://www.w3.org/XML/1998/namespace'
