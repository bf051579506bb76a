#!/usr/bin/env bash
# A short load test of Rookery and of each XMPP server that is installed here, one after the other, and a table of all.
#
#   scripts/bench.sh [--runs N] [GROUP...]      groups: idle chat muc websocket mam storm presence
#
# USERS_TO_CREATE (1000 here) and OUT (a folder for the results) as in loadtest/bench. The server has core 0 to itself and
# the generator core 1, so nothing else should run meanwhile.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd -P)
cd "$root"
scripts/setup.sh
. scripts/node.sh
PATH=$(dirname "$(find_node "$root")"):$PATH
export USERS_TO_CREATE=${USERS_TO_CREATE:-1000}

runs=1
if [ "${1:-}" = --runs ]; then
  runs=$2
  shift 2
fi
groups=("$@")
[ ${#groups[@]} -gt 0 ] || groups=(chat presence)
out=${OUT:-test/artefacts/bench/$(date +%Y%m%d-%H%M%S)}

command -v taskset > /dev/null && [ -r /proc/self/smaps_rollup ] || {
  echo 'bench: it measures with /proc and pins with taskset (util-linux): Linux only' >&2
  exit 1
}
[ "$(nproc)" -ge 2 ] || { echo 'bench: needs two cores, one for the server and one for the generator' >&2; exit 1; }

servers=(rookery) failed=()
command -v ejabberdctl > /dev/null || [ -x /usr/sbin/ejabberdctl ] && servers+=(ejabberd)
command -v prosody > /dev/null && servers+=(prosody)
PATH=$PATH:/usr/sbin:/sbin

echo "bench: ${servers[*]}; ${groups[*]}; $runs run(s) of each; results in $out"
for server in "${servers[@]}"; do
  # A server that does not start costs only its own column.
  loadtest/bench/suite.sh "$server" "loadtest/bench/peers/$server.sh" "$out" "$runs" "${groups[@]}" ||
    { echo "bench: $server was not measured to the end" >&2; failed+=("$server"); }
done
compgen -G "$out/*.json" > /dev/null && node loadtest/bench/summary.mjs "$out"/*.json
[ ${#failed[@]} = 0 ]
