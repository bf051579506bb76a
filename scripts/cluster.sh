#!/usr/bin/env bash
# Starts a cluster to try out on this machine: NATS, DynamoDB Local, two processes of each role, and a balancer in front.
#
#   scripts/cluster.sh [docker|processes]
#
# In Docker (compose.yaml) where an engine with compose answers, else as processes; one of the two words chooses. Clients connect to
# C2S_PORT (5222), TLS_PORT (5223), WEBSOCKET_PORT (5290) and HTTP_PORT (5280) on loopback; as processes, all others are found from
# INNER_PORT (17000) upward. Logs are in CLUSTER_DIR (data/cluster), which is made anew. Ctrl-C stops all of it.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd -P)
cd "$root"
c2s=${C2S_PORT:-5222} tls=${TLS_PORT:-5223} websocket=${WEBSOCKET_PORT:-5290} http=${HTTP_PORT:-5280}
inner=${INNER_PORT:-17000}
folder=${CLUSTER_DIR:-data/cluster}
ready_within_s=120

fail() {
  printf 'cluster: %s\n' "$@" >&2
  exit 1
}

how_to_connect() {
  cat << EOF

  The cluster serves localhost to this machine: anyone on it may register, and needs no TLS.
  Open     http://localhost:$http/chat/      in two windows: each may be on another edge
  Connect  any client: account NAME@localhost, server 127.0.0.1, port $c2s (TLS from the first byte: $tls)

EOF
}

has_docker() {
  docker info > /dev/null 2>&1 && docker compose version > /dev/null 2>&1
}

in_docker() {
  export CLUSTER_C2S_PORT=$c2s CLUSTER_TLS_PORT=$tls CLUSTER_WEBSOCKET_PORT=$websocket CLUSTER_HTTP_PORT=$http
  trap 'docker compose down --volumes --timeout 30' EXIT
  docker compose up --build --detach --wait --wait-timeout "$ready_within_s" ||
    { docker compose ps --all; docker compose logs --tail 20; fail 'not everything came up; see above'; }
  docker compose ps
  how_to_connect
  echo '  Commands docker compose exec router-1 bin/rookery user list --config /etc/rookery/rookery.yaml'
  echo '  Try      docker compose kill router-2, docker compose up -d, docker compose stop edge-1'
  echo '  Ctrl-C   stops all of it'
  docker compose logs --follow --tail 0
}

# Processes ------------------------------------------------------------------------------------------------------------

names=() pids=() health=()

# Each in a process group of its own: Ctrl-C is for this script, which stops them in their order.
set -m

# begin NAME HEALTH_PORT COMMAND...      0: it has none
begin() {
  local name=$1 port=$2
  shift 2
  "$@" > "$folder/logs/$name.log" 2>&1 < /dev/null &
  names+=("$name") pids+=("$!") health+=("$port")
  disown # what becomes of it we tell ourselves
}

# begin_role NAME HEALTH_PORT ROLES [VARIABLE=VALUE...]
begin_role() {
  local name=$1 port=$2 roles=$3
  shift 3
  begin "$name" "$port" env ROOKERY_METRICS_PORT="$port" "$@" bin/rookery run --config "$folder/rookery.yaml" --role "$roles"
}

# The last started is stopped first: clients' sessions end, then the owners hand on what they have, then what they stand on goes.
stop_all() {
  trap - EXIT INT TERM HUP
  set +e
  [ ${#pids[@]} -eq 0 ] && return
  echo
  echo 'cluster: stopping'
  local n tick
  for ((n = ${#pids[@]} - 1; n >= 0; n--)); do
    kill -TERM "${pids[n]}" 2> /dev/null || continue
    for ((tick = 0; tick < 250; tick++)); do
      kill -0 "${pids[n]}" 2> /dev/null || break
      sleep 0.1
    done
    kill -KILL "${pids[n]}" 2> /dev/null
  done
  echo "cluster: stopped; the logs are in $folder/logs"
}

is_ready() {
  "$node" -e 'fetch(`http://127.0.0.1:${process.argv[1]}/ready`).then(({ ok }) => process.exit(ok ? 0 : 1), () => process.exit(1))' "$1"
}

await() {
  local n=$1 deadline=$((SECONDS + ready_within_s))
  until is_ready "${health[n]}"; do
    kill -0 "${pids[n]}" 2> /dev/null || { tail -5 "$folder/logs/${names[n]}.log" >&2; fail "${names[n]} has ended; its log is $folder/logs/${names[n]}.log"; }
    [ "$SECONDS" -lt "$deadline" ] || fail "${names[n]} is not ready after $ready_within_s s: http://127.0.0.1:${health[n]}/ready says why"
    sleep 0.2
  done
  printf '  %-11s pid %-7s http://127.0.0.1:%s/ready   %s\n' "${names[n]}" "${pids[n]}" "${health[n]}" "$folder/logs/${names[n]}.log"
}

await_all() {
  local n
  for n in "${!names[@]}"; do
    [ "${health[n]}" = 0 ] || [ "$n" -lt "$1" ] || await "$n"
  done
}

# For people who try things out, as without a file: but a file it needs, since this is a cluster.
write_config() {
  cat > "$folder/rookery.yaml" << EOF
# Written by scripts/cluster.sh: every process of the cluster has this, and ports of its own in its environment.
domains: [localhost]
listen: 127.0.0.1
data: $folder
registration: open
c2s: { port: $c2s, tlsPort: $tls, requireTls: false, allowPlainOnLoopback: true, proxyProtocol: true }
websocket: { port: $websocket }
http: { port: $http }
trustedProxies: [127.0.0.1]
limits: { registrationsPerHourPerAddress: 0 }
bus: { driver: nats, servers: ['nats://127.0.0.1:$inner'] }
table: { driver: dynamodb, endpoint: 'http://127.0.0.1:$((inner + 1))', region: local, accessKeyId: local, secretAccessKey: local }
log: { pretty: false }
EOF
}

# begin_edge N: the first makes the certificate that the second shows, too
begin_edge() {
  local base=$((inner + 20 + 10 * $1))
  begin_role "edge-$1" $((base + 9)) edge ROOKERY_C2S_PORT=$((base)) ROOKERY_C2S_TLS_PORT=$((base + 1)) ROOKERY_WEBSOCKET_PORT=$((base + 2))
  await $((${#names[@]} - 1))
}

begin_balancer() {
  local one=$((inner + 30)) two=$((inner + 40))
  if command -v haproxy > /dev/null; then
    begin balancer 0 env BIND=127.0.0.1 C2S_PORT="$c2s" TLS_PORT="$tls" WEBSOCKET_PORT="$websocket" HTTP_PORT="$http" \
      EDGE1=127.0.0.1 EDGE1_C2S=$one EDGE1_TLS=$((one + 1)) EDGE1_WEBSOCKET=$((one + 2)) EDGE1_HEALTH=$((one + 9)) \
      EDGE2=127.0.0.1 EDGE2_C2S=$two EDGE2_TLS=$((two + 1)) EDGE2_WEBSOCKET=$((two + 2)) EDGE2_HEALTH=$((two + 9)) \
      WEB=127.0.0.1 WEB_HTTP=$((inner + 12)) WEB_HEALTH=$((inner + 10)) \
      haproxy -db -f infra/haproxy/haproxy.cfg
  else
    begin balancer 0 "$node" test/cluster/balancer.ts "proxy:$c2s=$one,$two" "proxy:$tls=$((one + 1)),$((two + 1))" \
      "http:$websocket=$((one + 2)),$((two + 2))" "plain:$http=$((inner + 12))"
  fi
}

as_processes() {
  scripts/setup.sh
  . scripts/node.sh
  node=$(find_node "$root")
  local nats dynamodb
  nats=$(scripts/nats-server.sh)
  dynamodb=$(scripts/dynamodb-local.sh)
  rm -rf "$folder"
  mkdir -p "$folder/logs"
  folder=$(cd "$folder" && pwd -P)
  write_config

  trap stop_all EXIT
  trap 'exit 130' INT TERM HUP
  echo "cluster: starting; the logs are in $folder/logs"
  begin nats 0 "$nats" -a 127.0.0.1 -p "$inner"
  # It writes a file into the folder that it runs in.
  begin dynamodb 0 sh -c 'cd "$0" && exec "$@"' "$folder" java -Xmx512m "-Djava.library.path=$dynamodb/DynamoDBLocal_lib" \
    -jar "$dynamodb/DynamoDBLocal.jar" -inMemory -disableTelemetry -port $((inner + 1))
  await_port nats "$inner"
  await_port dynamodb $((inner + 1))
  begin_role router-1 $((inner + 10)) router,web ROOKERY_HTTP_PORT=$((inner + 12))
  begin_role router-2 $((inner + 11)) router
  begin_role presence-1 $((inner + 13)) presence
  begin_role presence-2 $((inner + 14)) presence
  await_all 2
  begin_edge 1
  begin_edge 2
  begin_balancer
  await_port balancer "$c2s"
  how_to_connect
  echo "  Commands bin/rookery user list --config $folder/rookery.yaml"
  echo '  Try      kill -9 one of the pids above, or kill it gently: the others go on'
  echo '  Ctrl-C   stops all of it'
  tell_ends
}

# A port that somebody listens on; the process that should is known by its name.
await_port() {
  local name=$1 port=$2 n deadline=$((SECONDS + ready_within_s))
  n=$((${#names[@]} - 1))
  while [ "${names[n]}" != "$name" ]; do n=$((n - 1)); done
  until (exec 3<> "/dev/tcp/127.0.0.1/$port") 2> /dev/null; do
    kill -0 "${pids[n]}" 2> /dev/null || { tail -5 "$folder/logs/$name.log" >&2; fail "$name has ended; its log is $folder/logs/$name.log"; }
    [ "$SECONDS" -lt "$deadline" ] || fail "$name does not listen on port $port; its log is $folder/logs/$name.log"
    sleep 0.2
  done
}

# Until Ctrl-C: says who has ended.
tell_ends() {
  local n stopped= told=()
  set +m
  trap 'stopped=yes' INT TERM HUP
  for n in "${!names[@]}"; do told[n]=; done
  while [ -z "$stopped" ]; do
    for n in "${!names[@]}"; do
      [ -z "${told[n]}" ] && ! kill -0 "${pids[n]}" 2> /dev/null || continue
      echo "cluster: ${names[n]} (pid ${pids[n]}) has ended"
      told[n]=yes
    done
    sleep 1
  done
}

case ${1:-} in
  docker)
    has_docker || fail 'no Docker engine answers, or it has no compose (docker compose version)'
    in_docker
    ;;
  processes) as_processes ;;
  '') if has_docker; then in_docker; else as_processes; fi ;;
  *) fail "usage: scripts/cluster.sh [docker|processes]" ;;
esac
