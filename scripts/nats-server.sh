#!/usr/bin/env bash
# Prints the path of a nats-server to test against: that on PATH, else ours in .tools/bin.
#
#   scripts/nats-server.sh                 installs one where there is none: with Go into .tools/bin, or as root on a Debian
#   scripts/nats-server.sh --no-install    only looks
#
# Where there is none it exits 75 (EX_TEMPFAIL), and says what is missing and how to get it.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd -P)
version=v2.15.2
ours=$root/.tools/bin/nats-server
missing=()

# The system's binaries are not on everybody's PATH. One that cannot say its version (made for another machine, cut off while
# it was installed) is none.
find_nats() {
  local candidate
  for candidate in "$(PATH=$PATH:/usr/sbin:/usr/local/sbin command -v nats-server || true)" "$ours"; do
    [ -n "$candidate" ] && "$candidate" --version > /dev/null 2>&1 || continue
    echo "$candidate"
    return 0
  done
  return 1
}

# Go 1.24 or later. It fetches the sources through the module proxy and checks their sums.
install_with_go() {
  local found
  found=$(go env GOVERSION 2> /dev/null) || { missing+=('Go is not installed (1.24 or later)'); return 1; }
  case $found in
    go1.[0-9] | go1.[0-9].* | go1.1[0-9]* | go1.2[0-3]*) missing+=("Go is ${found#go}, and 1.24 or later is needed"); return 1 ;;
  esac
  echo "nats-server: building nats-server $version with Go (once; a minute or two)" >&2
  mkdir -p "$root/.tools/bin"
  GOBIN=$root/.tools/bin go install "github.com/nats-io/nats-server/v2@$version" >&2 < /dev/null ||
    { missing+=('go install failed (see above)'); return 1; }
}

install_with_apt() {
  [ "$(id -u)" = 0 ] && command -v apt-get > /dev/null || { missing+=('not root on a Debian or Ubuntu, where apt-get could install it'); return 1; }
  echo 'nats-server: installing the package nats-server' >&2
  DEBIAN_FRONTEND=noninteractive apt-get -q -y install --no-install-recommends nats-server > /dev/null < /dev/null ||
    { missing+=('apt-get install nats-server failed (see above)'); return 1; }
}

case ${1:-} in
  '') install=yes ;;
  --no-install) install= ;;
  *) echo 'usage: scripts/nats-server.sh [--no-install]' >&2; exit 64 ;;
esac

find_nats && exit 0
missing+=("nats-server is not on PATH, nor is $ours one that runs")
if [ -n "$install" ]; then
  { install_with_go || install_with_apt; } && find_nats && exit 0
fi
printf 'nats-server: %s\n' 'there is no nats-server here:' "${missing[@]/#/  }" \
  'Get one with any of these:' \
  '  scripts/nats-server.sh                 (builds it into .tools/bin where Go is there)' \
  '  apt-get install nats-server            (Debian 12, Ubuntu 23.04 and later)' \
  '  https://github.com/nats-io/nats-server/releases (put it on PATH or into .tools/bin)' >&2
exit 75
