#!/bin/bash
# Measures the set loop on a cluster of its own, with nothing else running. N= and ONLY= choose sizes and parts.
set -euo pipefail

project=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cluster() { "$project/tests/cluster/cluster" "$@"; }

cd "$project"
# A benchmark's cargo process ends with the program; its output is the figures alone.
trap 'cluster down bench >&2' EXIT
cluster up bench >&2
KUBECONFIG=$(cluster kubeconfig bench) cargo bench --quiet --locked --bench set_loop
