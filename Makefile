# Two commands do all the set-up: `make demo` and `make test`.
.DEFAULT_GOAL := help
.PHONY: help setup demo test lint doc check release smoke bench bench-counts allocations ci

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

setup:
	@bash scripts/setup.sh

demo: setup ## See a protected API answer 401 without lanyard and 200 with it
	cargo run --locked --quiet -- demo $(if $(ONCE),--once)

test: setup ## Run all tests
	cargo test --locked

lint: setup ## Formatting, clippy and documentation, warnings are errors
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --quiet

check: setup ## Run `lanyard check` on every configuration that is shipped
	cargo build --locked --quiet
	@for file in proxy.toml docs/profiles.toml; do ./target/debug/lanyard check --config "$$file" || exit 1; done

release: setup ## Build the optimised binary: target/release/lanyard
	cargo build --locked --release

smoke: release ## Run the demo with the optimised binary
	./target/release/lanyard demo --once

bench-counts: release ## Compare instructions a request with the baseline (WRITE=1: write it anew)
	@bash scripts/counts.sh $(if $(WRITE),write)

allocations: setup ## Show where the allocations of a request come from
	ALLOCATION_SITES=1 cargo test --locked --test allocations --config 'profile.dev.package."*".debug="line-tables-only"' \
	  -- --nocapture

bench: release ## Compare with Envoy, nginx and HAProxy (ARGS="keepalive-reverse --rounds 5"; WRITE=1: docs/performance.md too)
	@bash scripts/peers.sh "$${CARGO_TARGET_DIR:-target}/peers"
	cargo bench --locked --profile counts --bench peers -- --peers "$${CARGO_TARGET_DIR:-target}/peers" \
	  $(if $(findstring --lanyard,$(ARGS)),,--lanyard "$${CARGO_TARGET_DIR:-target}/release/lanyard") \
	  $(if $(WRITE),--write) $(ARGS)

ci: lint test check smoke bench-counts ## All that CI runs
