#!/bin/bash
# Starts a cluster of this work tree in the foreground: nats-server and a process of each role on core 0, and DynamoDB Local,
# which is not ours and is measured apart, on core 1. Clients connect to the edge; all other ports are of the system's choosing.
# Environment: PORT, WS_PORT, DATA (kept when given), MAM=off|on, PIDFILE
set -eu
root=$(cd "$(dirname "$0")/../../.." && pwd -P)
case ${MAM:-off} in
  off | on) ;;
  *) echo "rookery-cluster: MAM=$MAM; there is one archive: on, or off" >&2; exit 2 ;;
esac
. "$root/scripts/node.sh"
node=$(find_node "$root")
ulimit -n "$(ulimit -Hn)"
exec taskset -c 0 "$node" "$root/loadtest/cluster/serve.ts"
