# The entry points. Everything that they make outside of target/ is in the cache: VMAIL_CACHE, or ~/.cache/vmail-operator.
# VMAIL_CLUSTER=existing and KUBECONFIG: the demo and the tests use that cluster instead of starting one;
# its nodes pull the images from VMAIL_IMAGE_PREFIX (registry and path).

SHELL := /bin/bash
.DEFAULT_GOAL := help
export PATH := $(PATH):$(HOME)/.cargo/bin:/usr/local/go/bin

.PHONY: help
help: ## Lists the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 22

.PHONY: demo
demo: ## A cluster, the operator, a mail system and mail by SMTP: from nothing to delivered messages
	@demo/up.sh

.PHONY: kubeconfig
kubeconfig: ## Prints the path of the demo's kubeconfig
	@if [ "$$VMAIL_CLUSTER" = existing ]; then echo "$$KUBECONFIG"; else tests/cluster/cluster kubeconfig demo; fi

.PHONY: demo-down
demo-down: ## Removes everything that the demo made
	@demo/down.sh

.PHONY: check
check: ## Quick checks while writing: format, clippy, unit tests
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings
	cargo test --lib

.PHONY: test
test: ## Every check and test, also on a cluster of its own
	@tests/run.sh

.PHONY: bench
bench: ## Measures the set loop, each figure beside the raw limit (N=1000,10000 ONLY=pure,database,cluster,files,mail)
	@benches/run.sh

.PHONY: generate
generate: ## Writes what is made from other files: crds/ and its copies, docs/api.md, the chart's table of values
	deploy/generate.sh

.PHONY: images
images: ## Builds the images as docker archives in the cache
	@deploy/images/build.sh
