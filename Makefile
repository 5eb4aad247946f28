# Everything that is built lands in build/, which git ignores.

PREFIX   ?= /usr
FUZZTIME ?= 1m

STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.8.2
PROGRAMS    = $(notdir $(wildcard cmd/*))
SOURCES     = $(shell find . -name '*.go' -not -path './build/*')

# Static and reproducible: the same sources and the same Go give the same bytes,
# wherever the tree lies and whether or not it is a git clone. Without inlining aem is
# 0.4 MB smaller, and with functions at every 16th byte, not 32nd, 0.1 MB; what it waits
# for is the TPM.
GOBUILD = CGO_ENABLED=0 go build -trimpath -buildvcs=false -gcflags=all=-l -ldflags='-s -w -buildid= -funcalign=16'

# An ordinary user's PATH lacks the folders in which Debian keeps mke2fs and others.
export PATH := $(PATH):/usr/sbin:/sbin

# Steps of one target depend on the order in which they stand, so make -j changes nothing.
.NOTPARALLEL:
.PHONY: help build deps kernel check test test-all day maid demo demo-chain demo-xen fuzz bench install deb clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' Makefile

build: $(PROGRAMS:%=build/bin/%) ## the programs, static and stripped, in build/bin

# Go itself knows what is up to date, so each program is always asked for.
.PHONY: $(PROGRAMS:%=build/bin/%)
$(PROGRAMS:%=build/bin/%):
	$(GOBUILD) -o $@ ./cmd/$(@F)

deps: ## install the emulators and tools that tests and demo need (apt-get)
	@scripts/install-deps

kernel: ## fetch Debian's kernel, Xen and its tools for the guests into build
	@scripts/fetch-kernel
	@scripts/fetch-xen
	@scripts/fetch-xen-tools

check: ## formatting, go vet, staticcheck
	@unformatted=$$(gofmt -l $(SOURCES)); \
	if [ -n "$$unformatted" ]; then echo "not formatted by gofmt:"; echo "$$unformatted"; exit 1; fi
	go vet ./...
	go run $(STATICCHECK) ./...

test: check deps kernel ## all checks and all tests; this is what CI runs
	go test -timeout 30m $$(go list ./... | grep -v /internal/maid$$)
	@$(MAKE) --no-print-directory maid
	cd bench && go vet ./... && go test -timeout 10m ./...
	@scripts/fuzz 10s
	@$(MAKE) --no-print-directory day

# The one that goes through everything once; make test-all lives them all.
day: deps kernel ## a day on a real Debian: from nothing to the proof and back; part of make test
	@scripts/install-deps debian
	go vet -tags debian ./internal/debian ./internal/daily
	@scripts/build-debian initramfs-tools
	go test -tags debian -count=1 -timeout 50m -run '^TestFromNothingToTheProofAndBack$$' ./internal/daily

test-all: test ## and all other days on a real Debian; without KVM two hours more
	go test -tags debian -v -p 1 -timeout 300m ./internal/debian ./internal/daily

# Its table is written by the test, so no result of an earlier run will do.
maid: deps ## the evil maid's table: each of her deeds against both TPM families; part of make test
	@rm -f build/evil-maid.txt; go test -count=1 ./internal/maid; result=$$?; cat build/evil-maid.txt; exit $$result

demo: deps kernel build ## a guided tour on an emulated machine; TPM=1.2 for the older family, PLAY=1 to play yourself
	@go run ./internal/demo $(if $(TPM),-tpm=$(TPM)) $(if $(PLAY),-play)

demo-chain: deps kernel build ## the same of a launch that goes on: stage 1, Xen, dom0; TPM=1.2 for the older family
	@go run ./internal/demo -chain $(if $(TPM),-tpm=$(TPM))

demo-xen: deps kernel build ## guests on Xen inherit the trust: vtpmd, two guests with TPMs of their own, and what the evil maid gets
	@go run ./internal/demo -xen

fuzz: ## each fuzz target for FUZZTIME (1m)
	@scripts/fuzz $(FUZZTIME)

bench: deps kernel ## the figures of docs/benchmarks.md, and the benchmarks
	@go run ./internal/figures
	cd bench && go run ./cmd/ratios
	go test -run '^$$' -bench . -benchmem ./...

install: build ## programs, manual pages and shell completions into DESTDIR/PREFIX
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/share/man/man8 $(DESTDIR)$(PREFIX)/share/bash-completion/completions \
		$(DESTDIR)$(PREFIX)/share/zsh/vendor-completions $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d
	install -m 755 $(PROGRAMS:%=build/bin/%) $(DESTDIR)$(PREFIX)/bin
	install -m 644 docs/man/*.8 $(DESTDIR)$(PREFIX)/share/man/man8
	install -D -m 644 dist/systemd/vtpmd.service $(DESTDIR)$(PREFIX)/lib/systemd/system/vtpmd.service
	install -D -m 755 dist/vtpm/vtpm-bootloader $(DESTDIR)$(PREFIX)/lib/vtpmd/vtpm-bootloader
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/doc/aem/vtpm dist/vtpm/*.cfg dist/vtpm/libvirt.xml dist/vtpm/vtpmd.default
	for p in $(PROGRAMS); do \
		build/bin/$$p completion bash >$(DESTDIR)$(PREFIX)/share/bash-completion/completions/$$p && \
		build/bin/$$p completion zsh >$(DESTDIR)$(PREFIX)/share/zsh/vendor-completions/_$$p && \
		build/bin/$$p completion fish >$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/$$p.fish || exit 1; \
	done

deb: build ## a Debian package, in build/
	@scripts/build-deb

clean: ## remove build/
	rm -rf build
