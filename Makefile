# Every target installs what it needs on a bare Debian 12 and says so; what is already there stays as it is.
# `make` alone lists the targets.

.DEFAULT_GOAL := help
.PHONY: help run build web test check e2e interop rlive-smoke bench compose-test clean
SHELL := /bin/bash

# Tools that are installed for this checkout only, and a Rust that rustup has just installed.
export PATH := $(CURDIR)/.cache/tools/bin:$(HOME)/.cargo/bin:$(PATH)

install := deploy/scripts/install

help: ## list the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 22

run: build ## build and run everything on the defaults, with a demo host (DEMO=0: without)
	@deploy/scripts/run

build: web ## the release binaries, target/release/anchornet and anchornet-mixer
	@$(install) build
	cargo build --release -p server -p mixer

web: web/dist/index.html ## the pages, into web/dist

# Only when a source is newer: the binary has the pages inside, and would be built again.
web/dist/index.html: $(shell find web -type f -not -path 'web/node_modules/*' -not -path 'web/dist/*' -not -name '*.test.ts*')
	@$(install) web
	npm run --silent --prefix web build

test: web ## every test: pages, crates, and the whole system with real browsers
	@$(install) test
	npm test --silent --prefix web
	@deploy/scripts/cargo-test

e2e: web ## only the whole-system tests; one of them: make e2e TEST=name
	@$(install) test
	@deploy/scripts/cargo-test -E 'package(e2e)' $(TEST)

interop: web ## tries clients of other makes, and writes docs/interop.md from what they can
	@$(install) interop
	@deploy/scripts/interop

rlive-smoke: web ## a stream through relays that lose datagrams, one of them killed, compared tag by tag with the origin's
	@$(install) test
	@deploy/scripts/cargo-test --success-output immediate --final-status-level none \
	  -E 'package(e2e) and test(a_stream_by_relays_is_the_stream_of_the_origin)'

check: web ## formatting, lints, licences and advisories
	@$(install) check
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	npm run --silent --prefix web check
	cargo deny check bans licenses sources
	@if cargo deny fetch db; then cargo deny check advisories; \
	 else echo "the database of advisories cannot be fetched: they were not looked at" >&2; fi

bench: build ## measurements against peers, as a table and JSON
	@$(install) test
	cargo run --release -p bench -- $(ARGS)

compose-test: ## bring docker-compose.yml up, publish, watch, tear down
	@$(install) compose
	@deploy/scripts/compose-test

clean: ## remove what was built, not what was installed
	cargo clean
	rm -rf web/dist
