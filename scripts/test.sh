#!/usr/bin/env bash
# Runs the checks and every test, and ends with one line that counts them: "12 passed, 0 failed, 1 skipped".
#
# A failing check does not stop the tests: one run tells everything that is wrong. Arguments go to vitest.
# CLOSING_LINE_FILE names a file for that line, for a caller that has the last word (.ci/run).
set -uo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh || exit 1
. scripts/node.sh
PATH=$(dirname "$(find_node "$PWD")"):$PWD/node_modules/.bin:$PATH
report=test/artefacts/vitest.json
mkdir -p test/artefacts
rm -f "$report"

scripts/check.sh --no-tests
checks=$?
vitest run --reporter=default --reporter=json --outputFile.json="$report" "$@"
tests=$?
node test/tally.ts "$report" "$checks" "$tests"
