// Prints so many ports that nobody listens on, on one line: node free-ports.mjs COUNT
import net from 'node:net';

// All are held until the last is known, so that they differ.
const servers = await Promise.all(Array.from({ length: Number(process.argv[2] ?? 1) }, () => new Promise((resolve, reject) => {
  const server = net.createServer().once('error', reject).listen(0, '127.0.0.1', () => resolve(server));
})));
console.log(servers.map((server) => server.address().port).join(' '));
for (const server of servers) server.close();
