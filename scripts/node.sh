# Where Node is. Sourced by bin/rookery and the scripts beside it; needs nothing but a POSIX shell.
#
# A Node of the right age on PATH is used as it is. Otherwise scripts/setup.sh puts one into .tools/, from the
# npm registry, and from then on that one is found.

node_major=24
node_version=24.21.0

# Prints the path of a Node that is new enough: that on PATH, else ours in $1/.tools. Fails where there is none.
find_node() {
  for candidate in "$(command -v node || true)" "$1/.tools/node-$node_version/node_modules/.bin/node"; do
    [ -n "$candidate" ] || continue
    case $("$candidate" --version 2> /dev/null) in
      v[0-9].* | v1[0-9].* | v2[0-3].* | '') ;;
      v*) echo "$candidate"; return 0 ;;
    esac
  done
  return 1
}
