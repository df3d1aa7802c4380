# What a developer does with Meterline. `make help` lists it.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

# Which packages: make test PKG=./store/... Those that take longest begin, or the last of them runs alone.
PKG ?= ./testkit/faults ./store ./cmd/backend ./...
# One PostgreSQL and one Redis for all packages: half a second once, not two seconds for each.
SERVERS := go run ./testkit/cmd/servers --
REPORT := go run ./testkit/cmd/report
FUZZ := go run ./testkit/cmd/fuzz
# Collecting garbage is a third of what tests with the race detector do, and there is memory.
test: export GOGC ?= 400
# CPU time that each fuzz target is to have had, over all runs of make fuzz.
FUZZTIME ?= 30m

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## compile everything
	go build ./...

.PHONY: test
test: ## all tests with the race detector and real servers (installed on Debian when missing); nothing may be skipped
	.ci/need-servers
	METERLINE_TEST_REQUIRE_SERVERS=1 $(SERVERS) $(REPORT) -- go test -race -json -timeout 15m $(PKG)

.PHONY: test-short
test-short: ## tests with what is installed; lists what was skipped
	$(REPORT) -allow-skips -- go test -json -timeout 10m $(PKG)

# How many schedules of the simulation, and from which seed on: make simulate SCHEDULES=1000000 FROM=100001
SCHEDULES ?= 100000
FROM ?= 1

.PHONY: simulate
simulate: ## play the worker in schedules drawn from seeds (docs/simulation.md); FROM goes on where another run ended
	GOGC=1000 GOMEMLIMIT=2GiB go test ./command -run 'TestSimulation$$' -v -timeout 2h -schedules=$(SCHEDULES) -from=$(FROM)

# A bug that may take more schedules than this is not planted.
BUGS_WITHIN ?= 5000

.PHONY: bugs
bugs: ## plant bugs in the worker, each must be found; BUGS_WITHIN=20000 plants those that are rarely met, too
	GOGC=1000 GOMEMLIMIT=2GiB go test -tags faults ./command -run PlantedBugs -v -timeout 1h -schedules=$(BUGS_WITHIN)

.PHONY: bench-parts
bench-parts: ## benchmarks of the parts (go test -bench), with real servers
	METERLINE_TEST_REQUIRE_SERVERS=1 $(SERVERS) go test -run '^$$' -bench . -benchmem $(PKG)

.PHONY: fuzz
fuzz: ## fuzz each target until it has had FUZZTIME of CPU; goes on where it was interrupted, totals in .cache/fuzz/totals.json
	$(FUZZ) -cpu $(FUZZTIME)

.PHONY: fuzz-short
fuzz-short: ## fuzz each target for two seconds, from the committed inputs
	rm -rf .cache/fuzz-short/corpus
	$(FUZZ) -time 2s -cache .cache/fuzz-short

.PHONY: fuzz-cover
fuzz-cover: ## how much of the decoders the committed inputs reach; fails below 90 %
	$(FUZZ) -cover

.PHONY: fuzz-distil
fuzz-distil: ## copy inputs that make fuzz found to testdata/fuzz, where they reach more
	$(FUZZ) -distil

# Which case: make edge CASE=flood FLAGS=--json=flood.json; make bench CASE=direct,ipc FLAGS='-runs 3 -json before.json'
CASE ?= all
FLAGS ?=

.PHONY: bench
bench: ## measure the whole: rates, and what each process pays; FLAGS=-small only shows that it works (docs/benchmarks/speed.md)
	@go run ./testkit/cmd/bench $(CASE) $(FLAGS)

.PHONY: edge
edge: ## measure gateway and plain mochi under bad clients, tables in Markdown; all cases take half an hour
	@go run ./testkit/cmd/edge $(CASE) $(FLAGS)

.PHONY: lint
lint: ## golangci-lint, in the version that .ci/lint pins
	.ci/lint

.PHONY: fmt
fmt: ## gofmt all Go files
	find . -name '*.go' -not -path './.cache/*' -not -path '*/node_modules/*' -print0 | xargs -0 gofmt -w

.PHONY: demo
demo: ## everything in one process with simulated meters; Ctrl-C ends it
	go run ./cmd/backend demo

# How many seeds: make faults SEEDS=20 FLAGS=-long
SEEDS ?= 20

.PHONY: faults
faults: ## break a cluster under load by seeds, four faults each, and check that nothing is lost, twice or hanging; goes on where it was interrupted
	go run ./testkit/cmd/faults -seeds $(SEEDS) $(FLAGS)

.PHONY: faults-short
faults-short: ## the same for a few minutes: two seeds and what a flush loses
	rm -rf .cache/faults-short
	go run ./testkit/cmd/faults -seeds 2 -dir .cache/faults-short

# What is done to which server: make outage WHAT=postgres FLAGS='-how pause -for 30s'
WHAT ?= redis

.PHONY: outage
outage: ## take redis or postgres away from a cluster under load for a minute, or flush: what users and devices see, second by second
	go run ./testkit/cmd/outage -what $(WHAT) $(FLAGS)

.PHONY: faults-bugs
faults-bugs: ## plant bugs outside the worker in real processes: the checker must find each
	METERLINE_TEST_REQUIRE_SERVERS=1 $(SERVERS) go test -tags faults ./testkit/checker -run Planted -v -timeout 1h

# How many of each: make cluster FLAGS='--gateways 3 --simulate 100'
.PHONY: cluster
cluster: ## PostgreSQL, Redis, two gateways and two backends; takes orders such as "kill gateway 1"; Ctrl-C ends all
	@go run ./testkit/cmd/cluster $(FLAGS)

.PHONY: console
console: ## bundle console/src into console/dist, which is committed and embedded; needs no Node.js
	go run ./console/build

.PHONY: screenshots
screenshots: ## write docs/screenshots: every page, light and dark, wide and narrow (docs/console.md)
	.ci/need-servers
	rm -rf docs/screenshots
	$(SERVERS) go test -count=1 -v -run 'TestBrowser$$' ./console -screenshots $(CURDIR)/docs/screenshots

.PHONY: openapi
openapi: ## write docs/openapi.yaml from the code
	go run ./cmd/backend openapi > docs/openapi.yaml.new
	mv docs/openapi.yaml.new docs/openapi.yaml

.PHONY: ci
ci: ## what CI runs: format, build, vet, lint, test, fuzz
	.ci/run
