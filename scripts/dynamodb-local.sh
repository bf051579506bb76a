#!/usr/bin/env bash
# Prints the folder that holds DynamoDBLocal.jar, Amazon's own stand-in for DynamoDB; fetches it where it is missing.
#
#   java -Djava.library.path=$(scripts/dynamodb-local.sh)/DynamoDBLocal_lib -jar …/DynamoDBLocal.jar -inMemory -port 8000
#
# It is put into .tools/dynamodb-local once (56 MB), out of the npm package amplify-dynamodb-simulator, whose contents are
# checked against the digest below. It needs Java 17 or newer on PATH, and npm for the fetching. Exits 75 (EX_TEMPFAIL) and
# says what is missing where it cannot be had.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd -P)
package=amplify-dynamodb-simulator version=2.9.30
digest=c5379e44bbf311fab2779961ddb1f8734907bd21c79a6843e590ec1c5280439836665e89aa515dbad6908422c7cf1129e91cb5a3b4c1ea7888a17b9002749ec1
folder=$root/.tools/dynamodb-local

give_up() {
  printf 'dynamodb-local: %s\n' "$@" >&2
  exit 75
}

# `openjdk version "17.0.15"`; before 9 they counted "1.8".
java_major() {
  java -version 2>&1 | sed -nE '/ version "/ { s/.* version "([0-9]+).*/\1/p; q }'
}

is_java_17() {
  local major
  command -v java > /dev/null && major=$(java_major) && [ "${major:-0}" -ge 17 ]
}

sha512() {
  if command -v sha512sum > /dev/null; then sha512sum "$1"; else shasum -a 512 "$1"; fi | cut -d ' ' -f 1
}

# In a folder beside, moved to its place when it is whole: what a broken try left is thrown away.
fetch() {
  local partial
  command -v npm > /dev/null || give_up 'npm is needed to fetch it, and is not on PATH'
  partial=$(mktemp -d "$root/.tools/dynamodb-local.partial.XXXXXX")
  trap 'rm -rf "$partial"' EXIT
  echo "dynamodb-local: fetching $package@$version into .tools/dynamodb-local (once; 56 MB)" >&2
  (cd "$partial" && npm pack --silent --no-update-notifier "$package@$version" > /dev/null) ||
    give_up "npm pack $package@$version failed: is the npm registry reachable?"
  local archive=$partial/$package-$version.tgz
  [ "$(sha512 "$archive")" = "$digest" ] || give_up "$package@$version from the npm registry is not what it was: its SHA-512 is another"
  tar -xzf "$archive" -C "$partial" package/emulator || give_up "$archive cannot be unpacked"
  rm -rf "$folder"
  mv "$partial/package/emulator" "$folder"
  rm -rf "$partial"
  trap - EXIT
}

is_java_17 || give_up 'Java 17 or newer is needed on PATH (Debian, Ubuntu: apt-get install default-jre-headless; macOS: brew install openjdk)'
if [ ! -e "$folder/DynamoDBLocal.jar" ]; then
  mkdir -p "$root/.tools"
  if command -v flock > /dev/null; then
    exec 7> "$root/.tools/dynamodb-local.lock"
    flock 7
  fi
  [ -e "$folder/DynamoDBLocal.jar" ] || fetch
fi
echo "$folder"
