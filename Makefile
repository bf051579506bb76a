# The front door: every task is one line here and one script in scripts/.
# It needs npm on PATH; Node 24 is fetched by `setup` where the machine's own is older.

CONFIG ?=
RUNS ?= 1
export CONFIG

.DEFAULT_GOAL := help
.PHONY: help setup run test check bench

help:
	@echo 'make run                  install what is missing, then serve on loopback with settings to try things out'
	@echo 'make run CONFIG=FILE      the same with your rookery.yaml'
	@echo 'make setup                Node 24 (where the one on PATH is older) and the dependencies'
	@echo 'make check                types, formatting, and who imports whom'
	@echo 'make test                 check, then every test'
	@echo 'make bench                a short load test beside the XMPP servers that are installed here'
	@echo 'make bench GROUPS="chat presence" RUNS=3   (groups: idle chat muc websocket mam storm presence)'

setup:
	@scripts/setup.sh

run: setup
	@if [ -n "$$CONFIG" ]; then exec bin/rookery run --config "$$CONFIG"; else exec bin/rookery run; fi

test:
	@scripts/test.sh

check:
	@scripts/check.sh

bench:
	@scripts/bench.sh --runs $(RUNS) $(GROUPS)
