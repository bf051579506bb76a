#!/bin/bash
# Starts Rookery from this work tree in the foreground on core 0, with a fresh data folder.
# Environment: PORT, WS_PORT, DATA (kept when given), MAM=off|on, PIDFILE
set -eu
root=$(cd "$(dirname "$0")/../../.." && pwd -P)
port=${PORT:-5222} ws_port=${WS_PORT:-5290} mam=${MAM:-off}
if [ "$mam" != off ] && [ ! -e "$root/services/modules/mam.ts" ]; then
  echo "rookery: MAM=$mam, but this version keeps no message archive (XEP-0313)" >&2
  exit 2
fi
data=${DATA:-$(mktemp -d "${TMPDIR:-/tmp}/bench-rookery.XXXXXX")}
mkdir -p "$data"

# As for the peers: no TLS, no limit of rates, anyone may register, nothing else served. SCRAM keys as by default.
cat > "$data/rookery.yaml" <<CFG
domains: [localhost]
listen: [127.0.0.1]
data: $data
c2s: { port: $port, tlsPort: 'off', allowPlainOnLoopback: true }
websocket: { port: $ws_port }
http: { port: 'off' }
metrics: { port: 'off' }
registration: open
limits:
  registrationsPerHourPerAddress: 0
log: { level: warn, pretty: false }
CFG
if [ "$mam" = off ] && [ -e "$root/services/modules/mam.ts" ]; then
  printf 'modules:\n  mam: { enabled: false }\n' >> "$data/rookery.yaml"
fi

ulimit -n "$(ulimit -Hn)"
[ -z "${PIDFILE:-}" ] || echo $$ > "$PIDFILE"
echo "rookery: pid $$, port $port, WebSocket port $ws_port, data in $data, MAM $mam"
exec taskset -c 0 "$root/bin/rookery" run --config "$data/rookery.yaml"
