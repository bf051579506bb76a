// Where a server of the bus is, as it is written in a configuration: `nats://127.0.0.1:4222`, `tls://nats.example.org`.

/** Returns the text as it came. Throws Error that says what is wrong with it. Without a port, NATS's 4222 is meant. */
export function checkServerUrl(text: string): string {
  const after = /^(?:nats|tls):\/\/(.+)$/.exec(text)?.[1]
  if (after === undefined) throw new Error('it begins with nats:// or tls://')
  const url = URL.parse(`http://${after}`) // of a scheme it does not know, URL checks no host
  if (url === null || !/^(?:[\w.-]+|\[[\da-f:.]+\])$/.test(url.hostname)) throw new Error('a host follows, and a port')
  if (url.username !== '' || url.password !== '') throw new Error('names and passwords go into bus.user and bus.password')
  if (url.pathname !== '/' || url.search !== '' || url.hash !== '' || after.endsWith('/'))
    throw new Error('nothing follows the port')
  return text
}
