# make help lists the targets. Needs Go and a POSIX shell; make test brings the rest.

PREFIX  ?= /usr/local
DESTDIR ?=
BINDIR   = $(PREFIX)/bin
UNITDIR  = $(PREFIX)/lib/systemd/system
DOCDIR   = $(PREFIX)/share/doc/msgbusd
# Where they stand in the tree, so that their links lead somewhere.
DOCS     = LICENSE $(wildcard *.md docs/*.md docs/*.sh docs/monitoring/*) systemd/msgbusd.env.example systemd/msgbusd.yaml.example
DOCDIRS  = docs/monitoring docs systemd
MANDIR   = $(PREFIX)/share/man/man1
BASHDIR  = $(PREFIX)/share/bash-completion/completions
FISHDIR  = $(PREFIX)/share/fish/vendor_completions.d
ZSHDIR  ?= $(PREFIX)/share/zsh/site-functions

GO ?= go
# Run as tools, so that the linters are not in the product's go.mod.
STATICCHECK = $(GO) run honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOVULNCHECK = golang.org/x/vuln/cmd/govulncheck@v1.9.0

# Without git, or in a checkout without commits, the version is unknown.
VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
REVISION ?= $(shell git rev-parse HEAD 2>/dev/null || echo unknown)
# The time that files and packages say they are of, so that they are the same bytes
# whenever they are built: the commit's.
ifndef SOURCE_DATE_EPOCH
SOURCE_DATE_EPOCH := $(shell git log -1 --format=%ct 2>/dev/null || date -r CHANGELOG.md +%s)
endif
export SOURCE_DATE_EPOCH

BIN = bin/msgbusd
# The program writes its manual and its completion itself. When BIN is for another
# machine, this is one that runs here.
HOSTBIN ?= $(BIN)
# What packages are for, as Go names it, and where they go.
ARCHES ?= amd64 arm64
DIST   ?= dist
# What make install compares the program with: after `make build`, `sudo make install`
# needs no Go. Everything but tests and texts.
SOURCES = go.mod go.sum $(shell find [a-z]*/ -type f ! -path 'bin/*' ! -path 'dist/*' ! -path 'bench/*' ! -path 'test/*' ! -path 'clients/*' ! -path 'examples/*' ! -name '*_test.go' ! -name '*.md')

# How long each fuzz target runs in make fuzz and make test-all.
FUZZTIME ?= 1m
# For one package or one test, such as TESTFLAGS='-run TestName' PKG=./relay
TESTFLAGS ?=
PKG ?= ./...
ARGS ?=
ROW ?= .

.DEFAULT_GOAL = build
.PHONY: help build docs demo test test-all chaos simulation bench bench-compare fuzz lint \
	install uninstall packages release reproducible clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { name[++n] = $$1; text[n] = $$2; if (length($$1) > width) width = length($$1) } \
		END { for (i = 1; i <= n; i++) printf "  make %-" width "s  %s\n", name[i], text[i] }' Makefile

# No path, no build id and nothing that Go asks git for is in the program: the version
# and the revision are given to it, so that every checkout of a commit builds the same.
build: ## build bin/msgbusd, a static program (the default)
	CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false -ldflags '-s -w -buildid= -X main.version=$(VERSION) -X main.revision=$(REVISION)' -o $(BIN) ./cmd/msgbusd

demo: build ## two twins, two relays and a request between them (ARGS=--once: and end)
	@bin/msgbusd demo $(ARGS)

docs: ## write docs/settings.md anew, from the options, and see that the pages do what they say
	scripts/test-deps
	$(GO) test -count=1 ./cmd/msgbusd -run 'TestSettingsPageIsThatOfTheOptions' -update
	$(GO) test -count=1 ./docs

# -count=1: tests start programs that they build and install, and Go's cache of
# results sees no change in those.
test: ## all tests, under the race detector, on real Redis servers
	scripts/test-deps
	CGO_ENABLED=1 $(GO) test -race -count=1 -timeout 9m $(TESTFLAGS) $(PKG)

test-all: test fuzz ## make test, and what takes longer
	$(GO) test -count=1 -timeout 9m ./test/packages -full
	cd test/otlp && $(GO) vet ./... && $(GO) test -count=1 -timeout 9m ./...

chaos: ## every failure that the relay must survive, in full, and a table (two hours; ROW=TestName for one)
	scripts/test-deps
	$(GO) test -count=1 -timeout 3h -v -run '$(ROW)' ./test/chaos -full

simulation: ## one relay and ten thousand twins that come and go, on a fake clock, and what a twin costs
	$(GO) test -count=1 -timeout 2h -v ./test/simulation -full $(ARGS)

bench: build ## round trips/s, and a pair of NATS servers beside it (ARGS='-only PATTERN' for some rows)
	scripts/test-deps
	cd bench && $(GO) run . $(ARGS)

bench-compare: ## Go benchmarks of this tree against those of HEAD~1 (PKG=./msgbus for one package)
	scripts/test-deps
	GO='$(GO)' scripts/bench-compare $(PKG)

fuzz: ## every fuzz target, for FUZZTIME each (1m)
	scripts/fuzz $(FUZZTIME)

lint: ## gofmt, go vet, staticcheck, govulncheck
	@unformatted=$$(gofmt -l .) && if [ -n "$$unformatted" ]; then echo "gofmt would change:"; echo "$$unformatted"; exit 1; fi
	$(GO) vet ./...
	cd bench && $(GO) vet ./...
	$(STATICCHECK) ./...
	cd bench && $(STATICCHECK) ./...
	@GO='$(GO)' scripts/vulncheck $(GOVULNCHECK)

install: $(BIN) ## install under PREFIX (/usr/local), below DESTDIR if that is set
	install -d $(addprefix $(DESTDIR),$(BINDIR) $(UNITDIR) $(DOCDIR) $(MANDIR) $(BASHDIR) $(FISHDIR) $(ZSHDIR))
	install -m 0755 $(BIN) $(DESTDIR)$(BINDIR)/msgbusd
	sed 's|^ExecStart=/usr/local/bin/|ExecStart=$(BINDIR)/|' systemd/msgbusd.service >$(DESTDIR)$(UNITDIR)/msgbusd.service
	$(HOSTBIN) manual >$(DESTDIR)$(MANDIR)/msgbusd.1
	$(HOSTBIN) completion bash >$(DESTDIR)$(BASHDIR)/msgbusd
	$(HOSTBIN) completion fish >$(DESTDIR)$(FISHDIR)/msgbusd.fish
	$(HOSTBIN) completion zsh >$(DESTDIR)$(ZSHDIR)/_msgbusd
	chmod 0644 $(addprefix $(DESTDIR),$(WRITTEN))
	install -d $(addprefix $(DESTDIR)$(DOCDIR)/,$(DOCDIRS))
	for file in $(DOCS); do install -m 0644 $$file $(DESTDIR)$(DOCDIR)/$$file || exit; done

WRITTEN = $(UNITDIR)/msgbusd.service $(MANDIR)/msgbusd.1 $(BASHDIR)/msgbusd $(FISHDIR)/msgbusd.fish $(ZSHDIR)/_msgbusd

uninstall: ## remove what make install put there
	rm -f $(DESTDIR)$(BINDIR)/msgbusd $(addprefix $(DESTDIR),$(WRITTEN))
	rm -f $(addprefix $(DESTDIR)$(DOCDIR)/,$(DOCS))
	for dir in $(addprefix $(DESTDIR)$(DOCDIR)/,$(DOCDIRS)) $(DESTDIR)$(DOCDIR); do test ! -d $$dir || rmdir $$dir || exit; done

packages: ## deb and rpm packages for ARCHES (amd64 and arm64), in DIST (dist)
	GO='$(GO)' DIST='$(DIST)' VERSION='$(VERSION)' REVISION='$(REVISION)' scripts/packages $(ARCHES)

release: packages ## make packages, archives, an SBOM of each program, and SHA256SUMS
	GO='$(GO)' DIST='$(DIST)' VERSION='$(VERSION)' REVISION='$(REVISION)' scripts/release $(ARCHES)

reproducible: ## build the release of HEAD twice and compare every byte
	scripts/reproducible

$(BIN): $(SOURCES)
	$(MAKE) build

clean: ## remove what was built and installed here
	rm -rf bin dist clients/typescript/dist clients/typescript/node_modules test/clients/ts/node_modules test/console/node_modules test/console/screenshots
