// The floor: a server that only relays, to be measured by loadtest/bench as an XMPP server is.
//
//   taskset -c 0 node loadtest/relay.ts 5333 &
//   taskset -c 1 node loadtest/bench/xmpp-bench.mjs chat --auth PLAIN --port 5333 --rate 2000 --pids $!
//
// What a message costs here is Node's share and the kernel's of what it costs there: a read, a wake-up of the event loop
// and a write. It takes every login for good, reads no more of a chunk than the first `to`, and answers what the benchmark
// asks. It is no XMPP server: nothing is checked and nobody is told of an error.
import net from 'node:net'

const FEATURES = '<stream:features><mechanisms xmlns="urn:ietf:params:xml:ns:xmpp-sasl"><mechanism>PLAIN</mechanism></mechanisms></stream:features>'
const BIND = '<stream:features><bind xmlns="urn:ietf:params:xml:ns:xmpp-bind"/></stream:features>'
const HEADER = "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' from='localhost' version='1.0'>"

/** By localpart. */
const online = new Map<string, net.Socket>()

const server = net.createServer({ noDelay: true }, (socket) => {
  let user = ''
  socket.on('data', (chunk) => {
    const to = chunk.toString('latin1', 0, 60).match(/^<message type='chat' id='m' to='(u[0-9]+)@/)
    if (to !== null) online.get(to[1]!)?.write(chunk)
    else answer(chunk.toString('latin1'))
  })
  socket.on('error', () => socket.destroy())
  socket.on('close', () => online.delete(user))

  function answer(text: string): void {
    if (text.startsWith('<?xml')) socket.write(HEADER + (user === '' ? FEATURES : BIND))
    else if (text.startsWith('<auth')) {
      user = Buffer.from(/>([^<]*)</.exec(text)![1]!, 'base64').toString().split('\0')[1]!
      online.set(user, socket)
      socket.write("<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>")
    } else if (text.startsWith('<iq')) {
      const id = /id='([^']*)'/.exec(text)![1]!
      socket.write(`<iq type='result' id='${id}'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><jid>${user}@localhost/bench</jid></bind></iq>`)
    } else if (text.endsWith('</stream:stream>')) socket.end('</stream:stream>')
  }
})
server.listen(Number(process.argv[2] ?? 5333), '127.0.0.1', () => console.log(`relay: pid ${process.pid}`))
