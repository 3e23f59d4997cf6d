#!/bin/bash
# Measures the set loop on a cluster of its own, with nothing else running. N= and ONLY= choose sizes and parts.
set -euo pipefail

project=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cluster() { "$project/tests/cluster/cluster" "$@"; }

cd "$project"
# shellcheck source=/dev/null
. "$project/tests/cluster/paths.sh"
# shellcheck source=/dev/null
. "$project/deploy/images/names.sh"

# The parts with a Postfix pod need images.
needs_images() {
	[ -z "${ONLY:-}" ] || [[ "$ONLY" =~ files|mail ]]
}

# A benchmark's cargo process ends with the program; its output is the figures alone.
trap 'cluster down bench >&2' EXIT
cluster up bench >&2
if needs_images; then
	"$project/deploy/images/build.sh" >&2
	cluster load bench "$IMAGES"/vmail-{operator,postfix,mariadb}.tar >&2
fi
export PATH=$BIN:$PATH VMAIL_POSTFIX_IMAGE VMAIL_HELM_ARGUMENTS
VMAIL_POSTFIX_IMAGE=$(image_prefix)/vmail-postfix:dev
VMAIL_HELM_ARGUMENTS=$(image_values)
KUBECONFIG=$(cluster kubeconfig bench) cargo bench --quiet --locked --bench set_loop
