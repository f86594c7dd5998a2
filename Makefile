SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

VERSION ?= 4.0.0-dev
COMPOSE_VERSION := v5.6.0
MODULE := github.com/docker-secret-operator/dso

# Every main package of this module. A folder with a go.mod of its own is another
# module, and is built by its own rule.
MAINS := $(filter-out $(patsubst %/go.mod,./%,$(wildcard cmd/*/go.mod)),$(patsubst %/,./%,$(dir $(wildcard cmd/*/main.go test/cmd/*/main.go))))
# otel: an agent that sends traces of rotations (docs/operations.md).
TAGS ?=
LDFLAGS := -s -w -X $(MODULE)/internal/version.Version=$(VERSION)

export DSO_DOCKER_COMPOSE := $(CURDIR)/tools/bin/docker-compose
export DSO_BAO := $(CURDIR)/tools/bin/bao
export DSO_KUMO := $(CURDIR)/tools/bin/kumo

# PKG narrows unit, e2e and leak down; RUN picks tests by name.
PKG ?=
RUN ?= .

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z][a-z0-9_-]*:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## Build the programs and the test applications into bin/
	@mkdir -p bin
	CGO_ENABLED=0 go build -trimpath -tags '$(TAGS)' -ldflags "$(LDFLAGS)" -o bin/ $(MAINS)
	@ln -sf docker-dso bin/dso

.PHONY: sizes
sizes: ## Print the size of dso-agent, without and with what is optional
	@for tags in '' otel; do \
		CGO_ENABLED=0 go build -trimpath -tags "$$tags" -ldflags "$(LDFLAGS)" -o bin/.sized ./cmd/dso-agent; \
		stat -c "dso-agent tags=$$tags bytes=%s" bin/.sized; \
	done; rm bin/.sized

# Provider programs: modules of their own, because each links more than the agent does.
PROGRAMS := $(patsubst cmd/%/go.mod,%,$(wildcard cmd/*/go.mod))
.PHONY: programs
programs: ## Build the provider programs (sops, huawei) into bin/
	@mkdir -p bin
	@for p in $(PROGRAMS); do \
		echo "building bin/dso-$$p"; \
		(cd cmd/$$p && CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o ../../bin/dso-$$p .); \
	done

PREFIX ?= /usr/local
.PHONY: install
install: build ## Install the programs and the plugin below PREFIX (DESTDIR goes in front)
	install -D -t $(DESTDIR)$(PREFIX)/bin bin/dso-agent bin/dso-runtime bin/dso-front
	install -D -t $(DESTDIR)$(PREFIX)/lib/docker/cli-plugins bin/docker-dso
	ln -sf ../lib/docker/cli-plugins/docker-dso $(DESTDIR)$(PREFIX)/bin/dso

.PHONY: tools
tools: tools/bin/docker-compose tools/bin/golangci-lint ## Build docker-compose and golangci-lint into tools/bin/

tools/bin/docker-compose: tools/compose/go.mod tools/compose/go.sum
	cd tools/compose && CGO_ENABLED=0 go build -trimpath \
		-ldflags "-s -w -X github.com/docker/compose/v5/internal.Version=$(COMPOSE_VERSION)" \
		-o ../bin/docker-compose github.com/docker/compose/v5/cmd
	@touch $@

tools/bin/golangci-lint: tools/lint/go.mod tools/lint/go.sum
	cd tools/lint && CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" \
		-o ../bin/golangci-lint github.com/golangci/golangci-lint/v2/cmd/golangci-lint
	@touch $@

# Minutes when cold, and only make providers needs it: not among the tools of CI.
tools/bin/bao: tools/bao/go.mod tools/bao/go.sum
	cd tools/bao && CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o ../bin/bao github.com/openbao/openbao
	@touch $@

tools/bin/kumo: tools/kumo/go.mod tools/kumo/go.sum
	cd tools/kumo && CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o ../bin/kumo github.com/sivchari/kumo/cmd/kumo
	@touch $@

tools/bin/nfpm: tools/nfpm/go.mod tools/nfpm/go.sum
	cd tools/nfpm && CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o ../bin/nfpm github.com/goreleaser/nfpm/v2/cmd/nfpm
	@touch $@

tools/bin/cyclonedx-gomod: tools/sbom/go.mod tools/sbom/go.sum
	cd tools/sbom && CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o ../bin/cyclonedx-gomod github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod
	@touch $@

# A Debian system with systemd and Docker, what a test host boots from. Nothing of DSO is
# in it.
BASE_PACKAGES := systemd,systemd-sysv,dbus,docker.io,iptables,nftables,procps,iproute2,ca-certificates,bash-completion,man-db,jq,rpm
tools/bin/bookworm/.made: Makefile
	@command -v debootstrap >/dev/null || { apt-get update -qq >/dev/null && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends debootstrap >/dev/null; }
	rm -rf $(@D)
	debootstrap --variant=minbase --include=$(BASE_PACKAGES) bookworm $(@D) $(DEBIAN_MIRROR) >$(@D).log 2>&1 || { tail -5 $(@D).log >&2; exit 1; }
	touch $@

# What the examples run, without the images that the registries have: one root with all of it. Django
# keeps old keys (SECRET_KEY_FALLBACKS) in trixie, not in bookworm yet.
APP_PACKAGES := postgresql,mariadb-server,redis-server,nodejs,python3-django,python3-psycopg2,gunicorn
tools/bin/apps/.made: Makefile
	@command -v debootstrap >/dev/null || { apt-get update -qq >/dev/null && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends debootstrap >/dev/null; }
	rm -rf $(@D)
	debootstrap --variant=minbase --include=$(APP_PACKAGES) trixie $(@D) $(DEBIAN_MIRROR) >$(@D).log 2>&1 || { tail -5 $(@D).log >&2; exit 1; }
	@# Also the databases that the packages made: a new volume would begin with them.
	rm -rf $(@D)/var/cache/apt/archives/*.deb $(@D)/var/lib/apt/lists/* $(@D)/usr/share/{doc,man,locale} $(@D)/var/lib/{mysql,postgresql}/*
	touch $@

# Docker itself is a prerequisite: a machine without it gets a sentence, not a
# package of our choice.
DEBIAN_MIRROR ?= http://deb.debian.org/debian
DEBIAN_PACKAGES := iproute2 iptables nftables conntrack busybox-static jq curl openssl
.PHONY: deps
deps: ## Install the Debian packages the tests need, where they are missing (as root)
	@for program in docker dockerd containerd runc; do \
		command -v $$program >/dev/null || { echo "make deps: $$program is missing: install Docker Engine and its CLI" >&2; exit 1; }; \
	done
	@missing=; for package in $(DEBIAN_PACKAGES); do \
		dpkg-query -W -f '$${Status}' $$package 2>/dev/null | grep -q '^install ok' || missing+=" $$package"; \
	done; \
	[ -z "$$missing" ] || { echo "installing$$missing"; \
		apt-get update -qq >/dev/null && \
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; }

.PHONY: lint
lint: tools/bin/golangci-lint ## Check style, layers and dead code
	tools/bin/golangci-lint run --allow-parallel-runners ./...
	tools/bin/golangci-lint run --allow-parallel-runners --build-tags otel ./internal/trace/
	@for p in $(PROGRAMS); do (cd cmd/$$p && ../../tools/bin/golangci-lint run --allow-parallel-runners ./...); done

.PHONY: unit
unit: tools/bin/docker-compose ## Run the tests that need no engine, with the race detector
	go test -race -run '$(RUN)' $(or $(PKG),$(patsubst %,./%/...,$(wildcard internal cmd)) ./test/load/... ./test/cmd/... ./test/deps/...)
	$(if $(PKG),,go test -race -tags otel -run '$(RUN)' ./internal/trace/)
	@# The loops over every point: one case in so many under the race detector, all of them without.
	$(if $(PKG),,go test -run '$(RUN)' ./internal/rotation/ ./internal/reconcile/)

.PHONY: postgresql
postgresql:
	@ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || { echo "installing postgresql"; \
		apt-get update -qq >/dev/null && \
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postgresql >/dev/null; }

.PHONY: providers
providers: tools/bin/bao tools/bin/kumo postgresql ## Run the providers against real stores (builds OpenBao and kumo, minutes when cold)
	go test -race -count=1 -run '$(RUN)' ./test/providers/...
	@for p in $(PROGRAMS); do (cd cmd/$$p && go test -race -count=1 -run '$(RUN)' ./...); done

# promtool alone, out of Debian's package: nothing is installed and no service is started.
tools/bin/promtool:
	@mkdir -p tools/bin && cd $$(mktemp -d) && apt-get update -qq >/dev/null && apt-get download -qq prometheus >/dev/null && \
		dpkg-deb --fsys-tarfile prometheus_*.deb | tar -x ./usr/bin/promtool && mv usr/bin/promtool $(CURDIR)/$@

.PHONY: alerts
alerts: tools/bin/promtool ## Test the alert rules with promtool
	cd packaging/prometheus && $(CURDIR)/tools/bin/promtool test rules alerts_test.yml

.PHONY: check
check: lint unit ## Run lint and unit

# One package at a time: each starts engines and load, and the machine is small.
ENGINE_TEST := go test -count=1 -p 1 -timeout 30m -run '$(RUN)'

# Those that need a host of their own are e2e-host's.
E2E := $(patsubst %/,./%/...,$(filter-out test/e2e/host/,$(wildcard test/e2e/*/)))

.PHONY: e2e
e2e: deps build tools/bin/docker-compose ## Run the tests against a private Docker engine (as root)
	$(ENGINE_TEST) $(or $(PKG),./test/engine/... ./test/e2e $(E2E) ./test/docs/...)

.PHONY: e2e-host
e2e-host: deps build package tools/bin/bookworm/.made tools/bin/docker-compose ## Run the tests on a Debian host with systemd that is booted for it (as root)
	$(ENGINE_TEST) -v $(or $(PKG),./test/e2e/host/...)

.PHONY: examples
examples: deps build tools/bin/apps/.made tools/bin/docker-compose ## Run the examples with the software from Debian's packages (as root)
	$(ENGINE_TEST) -parallel 3 ./test/examples/...

.PHONY: package
package: tools/bin/nfpm tools/bin/cyclonedx-gomod ## Build the packages for this machine into bin/package
	@VERSION=$(VERSION) MODULE=$(MODULE) ARCHES=$$(go env GOARCH) DIST=bin/package packaging/dist.sh >/dev/null

.PHONY: dist
dist: tools/bin/nfpm tools/bin/cyclonedx-gomod ## Build packages and archives for amd64 and arm64 into bin/dist, with checksums and bills of materials
	VERSION=$(VERSION) MODULE=$(MODULE) packaging/dist.sh

.PHONY: leak
leak: deps build tools/bin/docker-compose ## Look for secrets where none may be (as root)
	$(ENGINE_TEST) $(or $(PKG),./test/leak/...)

.PHONY: bench-start
bench-start: deps build ## Measure what a start costs, and hold it to its limits (as root)
	go test -count=1 -timeout 10m -v -run TestStart ./test/bench/

.PHONY: bench
bench: deps build ## Measure an agent at rest, a change, and many starts at once, and hold them to their limits (as root)
	go test -count=1 -timeout 40m -v -run 'TestIdle|TestChange|TestMany' ./test/bench/ | grep --line-buffered -v '^=== '

.PHONY: demo
demo: deps build tools/bin/docker-compose ## Show a rotation under load on a private Docker engine (as root)
	bin/demo

.PHONY: bench-address
bench-address: DEBIAN_PACKAGES += nginx-light wrk
bench-address: deps build tools/bin/docker-compose ## Rotate a service 50 times under clients of every kind, and time the ways to it (as root)
	bin/address

.PHONY: crash
crash: deps build tools/bin/docker-compose ## Kill the agent at every point of every rotation; writes docs/reference/crash-matrix.md (as root)
	bin/crash

SOAK ?= 1m
.PHONY: soak
soak: deps build tools/bin/docker-compose ## Rotate, kill and meddle at random, SOAK=10m for longer (as root)
	bin/soak -for $(SOAK)

.PHONY: lab
lab: deps build tools/bin/docker-compose ## Open a shell in a private engine with an agent in it (as root)
	bin/lab

.PHONY: test
test: deps ## Run everything: check, alerts, e2e, leak
	@$(MAKE) --no-print-directory check
	@$(MAKE) --no-print-directory alerts
	@$(MAKE) --no-print-directory e2e
	@$(MAKE) --no-print-directory leak

.PHONY: clean
clean: ## Remove what was built, except the tools
	rm -rf bin
