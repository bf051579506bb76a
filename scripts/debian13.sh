#!/usr/bin/env bash
# Runs a command inside Debian 13, with the project at its own path, our Node 24 and the host's network.
#
#   scripts/debian13.sh node -p process.versions.node
#
# For what needs a newer C library than this machine has: uWebSockets.js wants glibc 2.38, Debian 12 has 2.36. The image
# of production is Debian 13 too. Two ways, whichever works:
#
#   Docker     the image node:24-trixie-slim, pulled where it is missing
#   root       a Debian 13 of its own in .tools/debian13, made once by debootstrap from this machine's mirror. It is
#              mounted in a mount namespace of the command's own, so that no mount outlives it, however it ends.
#
# DEBIAN13_BY=docker or =chroot allows only that one. Exits 75 (EX_TEMPFAIL) and says what is missing where neither
# works, else as the command does. Of the environment the command sees CI, NO_COLOR, EXPECT_UWS and ROOKERY_*.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd -P)
. "$root/scripts/node.sh"
image=node:24-trixie-slim
system=$root/.tools/debian13
missing=()

[ $# -gt 0 ] || { echo "usage: scripts/debian13.sh COMMAND..." >&2; exit 64; }

# The command's environment, as NAME=VALUE.
environment=(HOME=/tmp LANG=C.UTF-8 "PATH=$root/node_modules/.bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
while IFS= read -r name; do environment+=("$name=${!name}"); done < <(compgen -e | grep -E '^(CI|NO_COLOR|EXPECT_UWS|ROOKERY_.*)$')

docker_works() {
  command -v docker > /dev/null || { missing+=('Docker is not installed'); return 1; }
  timeout 10 docker info > /dev/null 2>&1 || { missing+=('no Docker engine runs'); return 1; }
  docker image inspect "$image" > /dev/null 2>&1 || timeout 120 docker pull -q "$image" > /dev/null 2>&1 ||
    { missing+=("the image $image is not there and cannot be pulled"); return 1; }
}

run_in_docker() {
  local options=(--rm --init --network host --user "$(id -u):$(id -g)" --volume "$root:$root" --workdir "$root") pair
  for pair in "${environment[@]}"; do options+=(--env "$pair"); done
  exec docker run "${options[@]}" "$image" "$@"
}

chroot_works() {
  [ "$(id -u)" = 0 ] || { missing+=('only root may make and enter a Debian 13 without Docker'); return 1; }
  unshare --mount true 2> /dev/null || { missing+=('this machine allows no mount namespace (unshare --mount)'); return 1; }
  node=$(find_node "$root") || { missing+=("Node $node_major is missing: run make setup"); return 1; }
  [ -e "$system/complete" ] || build_system
}

# The mirror this machine installs from; Debian's own where it is no Debian.
mirror() {
  local uri
  uri=$(apt-get indextargets --format '$(ORIGIN) $(COMPONENT) $(REPO_URI)' 'Identifier: Packages' 2> /dev/null |
    awk '$1 == "Debian" && $2 == "main" && $3 !~ /security/ { print $3; exit }')
  echo "${uri:-http://deb.debian.org/debian}"
}

# One at a time; the others wait and find it done. What a broken try left is thrown away.
build_system() {
  command -v debootstrap > /dev/null || { missing+=('debootstrap is not installed: apt-get install debootstrap'); return 1; }
  mkdir -p "$root/.tools"
  exec 8> "$root/.tools/debian13.lock"
  flock 8
  if [ ! -e "$system/complete" ]; then
    local from log=$root/.tools/debian13.log
    from=$(mirror)
    echo "debian13: making a Debian 13 in $system from $from (once; about a minute)" >&2
    rm -rf "$system" "$system.partial"
    # Node's and uWebSockets.js's own needs: libstdc++6 comes with minbase. Unshared: should this be killed, its mounts go too.
    unshare --mount --propagation private \
      debootstrap --variant=minbase trixie "$system.partial" "$from" > "$log" 2>&1 < /dev/null ||
      { missing+=("debootstrap failed, see $log: $(tail -n 1 "$log")"); return 1; }
    rm -rf "$system.partial/var/cache/apt/archives/"*.deb
    touch "$system.partial/complete"
    mv "$system.partial" "$system"
  fi
  exec 8>&-
}

# In a mount namespace of its own: $1 the system, $2 the project, $3 Node; then the command.
enter='
  set -eu
  system=$1 root=$2 node=$3
  shift 3
  mount -t proc proc "$system/proc"
  mount --rbind /dev "$system/dev"
  mount -t tmpfs tmpfs "$system/tmp"
  mkdir -p "$system$root"
  mount --bind "$root" "$system$root"
  : >> "$system/usr/local/bin/node"
  mount --bind "$node" "$system/usr/local/bin/node"
  cp /etc/hosts "$system/etc/hosts"
  exec chroot "$system" /bin/sh -c '\''cd "$0" && exec "$@"'\'' "$root" "$@"
'

run_in_chroot() {
  exec env -i "${environment[@]}" unshare --mount --propagation private \
    /bin/sh -c "$enter" debian13 "$system" "$root" "$(realpath "$node")" "$@"
}

way=${DEBIAN13_BY:-any}
if [ "$way" != chroot ] && docker_works; then run_in_docker "$@"; fi
if [ "$way" != docker ] && chroot_works; then run_in_chroot "$@"; fi
printf 'debian13: %s\n' 'no Debian 13 to run this in:' "${missing[@]/#/  }" >&2
exit 75
