# The front door: every task is one line here and one script in scripts/.
# It needs npm on PATH; Node 24 is fetched by `setup` where the machine's own is older.

CONFIG ?=
RUNS ?= 1
MINUTES ?= 60
SEED ?=
export CONFIG

.DEFAULT_GOAL := help
.PHONY: help setup run cluster test check bench soak

help:
	@echo 'make run                  install what is missing, then serve on loopback with settings to try things out'
	@echo 'make run CONFIG=FILE      the same with your rookery.yaml'
	@echo 'make cluster              a cluster to try out: two of each role, NATS, DynamoDB Local, a balancer; in Docker, or as processes'
	@echo 'make setup                Node 24 (where the one on PATH is older) and the dependencies'
	@echo 'make check                types, formatting, and who imports whom'
	@echo 'make test                 check, then every test'
	@echo 'make bench                a short load test beside the XMPP servers that are installed here'
	@echo 'make bench GROUPS="chat presence" RUNS=3   (groups: idle chat muc websocket mam storm presence)'
	@echo 'make soak                 random faults of a cluster under load, for an hour (MINUTES=5 SEED=7); needs NATS and DynamoDB Local'

setup:
	@scripts/setup.sh

run: setup
	@if [ -n "$$CONFIG" ]; then exec bin/rookery run --config "$$CONFIG"; else exec bin/rookery run; fi

cluster:
	@scripts/cluster.sh

test:
	@scripts/test.sh

check:
	@scripts/check.sh

bench:
	@scripts/bench.sh --runs $(RUNS) $(GROUPS)

soak: setup
	@. scripts/node.sh; "$$(find_node "$$PWD")" test/faults/cluster/soak.ts --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))
