#!/usr/bin/env bash
# Everything that can be said about the sources without running them: types, formatting and lint, who imports whom.
set -uo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh || exit 1
. scripts/node.sh
PATH=$(dirname "$(find_node "$PWD")"):$PWD/node_modules/.bin:$PATH
plain=()
[ -z "${CI:-}" ] || plain=(--colors=off)

faults=0
step() { # NAME COMMAND...
  local name=$1 began=$SECONDS
  shift
  if "$@"; then echo "check: $name is fine ($((SECONDS - began)) s)"; else faults=$((faults + 1)) && echo "check: $name FAILED" >&2; fi
}
step types tsc --noEmit --pretty "$([ -t 1 ] && echo true || echo false)"
step 'formatting and lint' biome check ${plain[@]+"${plain[@]}"}
# `make test` runs this test with the others.
[ "${1:-}" = --no-tests ] || step tidiness vitest run test/tidy.test.ts
[ $faults = 0 ]
