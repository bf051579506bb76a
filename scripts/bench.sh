#!/usr/bin/env bash
# A short load test of Rookery and of each XMPP server that is installed here, by turns, and a table of all with the ratio
# of Rookery to the cheaper of the others.
#
#   scripts/bench.sh [--runs N] [GROUP...]      groups: idle chat muc websocket mam storm presence
#
# Each group is run by every server in turn, N times over: what the machine does meanwhile is then done to all of them.
# USERS_TO_CREATE (1000 here) and OUT (a folder for the results) as in loadtest/bench; SERVERS names those to be measured
# (all that are installed). The server has core 0 to itself and the generator core 1, so nothing else should run meanwhile.
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

PATH=$PATH:/usr/sbin:/sbin
servers=(rookery) failed=0
command -v ejabberdctl > /dev/null && servers+=(ejabberd)
command -v prosody > /dev/null && servers+=(prosody)
[ -z "${SERVERS:-}" ] || read -ra servers <<< "$SERVERS"

data=$(mktemp -d "${TMPDIR:-/tmp}/bench.XXXXXX")
chmod 755 "$data"
trap 'rm -rf "$data"' EXIT
echo "bench: ${servers[*]}; ${groups[*]}; $runs run(s) of each, by turns; results in $out"
for group in idle chat muc websocket mam storm presence; do # the order of suite.sh
  [[ " ${groups[*]} " = *" $group "* ]] || continue
  for ((run = 1; run <= runs; run++)); do
    for server in "${servers[@]}"; do
      # A server that does not start costs only its own column.
      DATA=$data/$server FIRST_RUN=$run loadtest/bench/suite.sh "$server" "loadtest/bench/peers/$server.sh" "$out" 1 "$group" ||
        { echo "bench: $server: $group was not measured to the end" >&2; failed=1; }
    done
  done
done
compgen -G "$out/*.json" > /dev/null && node loadtest/bench/summary.mjs --ratio rookery "$out"/*.json
[ $failed = 0 ]
