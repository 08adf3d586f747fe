# `make` lists what there is. Each target is a line or two that anyone could type.
.DEFAULT_GOAL := help
HOST = $(shell rustc -vV | sed -n 's/^host: //p')
MUSL = $(subst gnu,musl,$(HOST))
.PHONY: help build check test coverage e2e browser conformance fuzz bench bench-smoke attacks fmt lint deny release release-glibc chroot clean

help: ## List the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

build: ## Build the program, optimised: target/release/openmcpauthproxy
	cargo build --release --locked

check: ## Everything that must hold before a change lands, as CI runs it
	.ci/run

test: ## Run the tests
	cargo test --locked

coverage: ## Which lines the tests reach; needs cargo-llvm-cov
	cargo llvm-cov --locked --summary-only

e2e: ## Official SDK clients, four identity providers and three MCP servers of others; needs Node 20 and Python 3.11
	tests/e2e/run

browser: ## The MCP Inspector in a real browser, login and consent included; needs Node 20, Python 3.11 and chromium
	tests/e2e/browser/run

conformance: ## The official MCP conformance suite, directly and through the proxy; needs npm
	tests/conformance/run

fuzz: ## Every fuzz target for a minute (FUZZ_SECONDS=60); needs a nightly toolchain
	fuzz/run

bench: release ## Ours beside HAProxy, nginx and two bridges, 13 minutes (ARGS="--only load"); docs/performance.md says what it needs
	cargo bench --locked --bench rig -- $(ARGS)

bench-smoke: release ## A part of it in under a minute
	cargo bench --locked --bench rig -- --smoke

attacks: ## What each attack costs and what a normal client feels of it, six minutes (ARGS="--quick", or words of a name)
	cargo build --release --locked --example scripted-child
	cargo bench --locked --bench attacks -- $(ARGS)

fmt: ## Put the code in its form
	cargo fmt

lint: ## Form and clippy, with warnings as errors
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings

deny: ## The dependency rules; needs cargo-deny
	cargo deny --locked check

release: ## The program that is shipped, linked statically with musl: target/<target>/dist/openmcpauthproxy
	[ -d "$$(rustc --print target-libdir --target $(MUSL))" ] || rustup target add $(MUSL)
	CC_$(subst -,_,$(MUSL))=$${CC:-cc} RUSTFLAGS="-C target-feature=+crt-static -C link-arg=-Wl,-z,pack-relative-relocs" \
		cargo build --locked --profile dist --target $(MUSL)

release-glibc: ## The same with glibc, where there is no musl for Rust; larger
	RUSTFLAGS="-C target-feature=+crt-static" cargo build --locked --profile dist --target $(HOST)

chroot: release ## That program in an empty root directory with a CA file and a config, as a container has it; needs root
	tests/chroot/run target/$(MUSL)/dist/openmcpauthproxy

clean: ## Remove what was built
	cargo clean
