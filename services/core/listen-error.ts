// Why a listener did not open, said so that the reader knows what to change.

/** Names the port, the address and the key that sets it. */
export function listenError(error: NodeJS.ErrnoException, name: string, host: string, port: number): Error {
  const key =
    { c2s: 'c2s.port', 'c2s (TLS)': 'c2s.tlsPort', websocket: 'websocket.port', http: 'http.port', metrics: 'metrics.port' }[
      name
    ] ?? name
  const why =
    error.code === 'EADDRINUSE'
      ? `port ${port} on ${host} is taken by another program; stop it, or set ${key} to another port`
      : error.code === 'EACCES'
        ? `port ${port} on ${host} may not be opened by this user; ports below 1024 need privileges: set ${key} to a higher one`
        : error.code === 'EADDRNOTAVAIL'
          ? `${host} is no address of this machine; set listen to one that is`
          : error.message
  return new Error(`cannot listen (${name}): ${why}`, { cause: error })
}
