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

# measure PARTS: a benchmark's cargo process ends with the program; its output is the figures alone.
measure() {
	ONLY=$1 cargo bench --quiet --locked --bench set_loop
}

parts=${ONLY:-pure,database,cluster,files,mail}
parts=${parts// /}
for part in ${parts//,/ }; do
	if [[ ! "$part" =~ ^(pure|database|cluster|files|mail)$ ]]; then
		echo "ONLY=$part: write some of pure,database,cluster,files,mail" >&2
		exit 2
	fi
done
parts=,$parts,
# The thinking alone comes first: a cluster that has just started is busy with itself.
if [[ "$parts" == *,pure,* ]]; then
	measure pure
	parts=${parts/,pure,/,}
fi
parts=${parts#,}
parts=${parts%,}
[ -n "$parts" ] || exit 0

trap 'cluster down bench >&2' EXIT
cluster up bench >&2
# The parts with a Postfix pod need images.
if [[ "$parts" =~ files|mail ]]; then
	"$project/deploy/images/build.sh" >&2
	cluster load bench "$IMAGES"/vmail-{operator,postfix,mariadb}.tar >&2
fi
export PATH=$BIN:$PATH VMAIL_POSTFIX_IMAGE VMAIL_HELM_ARGUMENTS KUBECONFIG
VMAIL_POSTFIX_IMAGE=$(image_prefix)/vmail-postfix:dev
VMAIL_HELM_ARGUMENTS=$(image_values)
KUBECONFIG=$(cluster kubeconfig bench)
measure "$parts"
