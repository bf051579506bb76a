#!/bin/bash
# Starts Rookery from this work tree in the foreground on core 0, with a fresh data folder.
# Environment: PORT, WS_PORT, DATA (kept when given), MAM=off|on, PIDFILE; TLS_PORT and METRICS_PORT (off)
set -eu
root=$(cd "$(dirname "$0")/../../.." && pwd -P)
port=${PORT:-5222} ws_port=${WS_PORT:-5290} mam=${MAM:-off}
tls_port=${TLS_PORT:-"'off'"} metrics_port=${METRICS_PORT:-"'off'"}
case $mam in
  off) archive=false ;;
  on) archive=true ;;
  *) echo "rookery: MAM=$mam; there is one archive: on, or off" >&2; exit 2 ;;
esac
data=${DATA:-$(mktemp -d "${TMPDIR:-/tmp}/bench-rookery.XXXXXX")}
mkdir -p "$data"

# As for the peers: no TLS, no limit of rates, anyone may register, nothing else served, and every presence delivered that is no
# repetition (PRESENCE_WINDOW_MS=1000: as by default). SCRAM keys as by default.
cat > "$data/rookery.yaml" <<CFG
domains: [localhost]
listen: [127.0.0.1]
data: $data
c2s: { port: $port, tlsPort: $tls_port, allowPlainOnLoopback: true }
websocket: { port: $ws_port }
http: { port: 'off' }
metrics: { port: $metrics_port }
registration: open
limits:
  registrationsPerHourPerAddress: 0
  stanzasPerSecond: 0
  bytesPerSecond: 0
presence: { windowMs: ${PRESENCE_WINDOW_MS:-0} }
log: { level: warn, pretty: false }
modules: { mam: { enabled: $archive } }
CFG

ulimit -n "$(ulimit -Hn)"
[ -z "${PIDFILE:-}" ] || echo $$ > "$PIDFILE"
echo "rookery: pid $$, port $port, WebSocket port $ws_port, data in $data, MAM $mam"
exec taskset -c 0 "$root/bin/rookery" run --config "$data/rookery.yaml"
