#!/bin/bash
# Writes what is made from other files of the project: the custom resource definitions with their copies in the chart and in
# deploy/kustomize, the API reference, the table of the chart's values, and the operator's objects without Helm.
set -euo pipefail

project=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
for part in steps paths binaries; do
	# shellcheck source=/dev/null
	. "$project/tests/cluster/$part.sh"
done
CHART=charts/vmail-operator

usage() {
	echo "usage: generate.sh [DIRECTORY]   (below which the files are written; without it: the project)" >&2
	exit 2
}

program() {
	cargo run --quiet --locked --manifest-path "$project/Cargo.toml" -- "$@"
}

# split_documents DIRECTORY: one file a definition, called after its resource's plural.
split_documents() {
	awk -v directory="$1" '
		function flush() {
			if (document == "") return
			if (plural == "") { print "a document without metadata.name: vmail.dev" > "/dev/stderr"; exit 1 }
			printf "%s", document > (directory "/" plural ".yaml")
			document = ""; plural = ""
		}
		/^---$/ { flush(); next }
		/^  name: [a-z]+\.vmail\.dev$/ { plural = $2; sub(/\..*/, "", plural) }
		{ document = document $0 "\n" }
		END { flush() }'
}

definitions() {
	local definitions directory
	definitions=$(program crds)
	for directory in crds "$CHART/files/crds"; do
		mkdir -p "$directory"
		rm -f "$directory"/*.yaml
		split_documents "$directory" <<<"$definitions"
	done
	{
		written_by_generate
		echo "$definitions"
	} >deploy/kustomize/base/crds.yaml
}

reference() {
	local reference
	reference=$(program crds --format markdown)
	echo "$reference" >docs/api.md
}

# The chart's README with a new table between its marks.
values_table() {
	local readme
	readme=$(TABLE=$(awk -f "$project/deploy/chart-values.awk" "$project/$CHART/values.yaml") awk '
		/^<!-- \/values -->$/ { inside = 0; print "" }
		!inside { print }
		/^<!-- values: / { inside = 1; print "\n" ENVIRON["TABLE"] }' "$project/$CHART/README.md")
	echo "$readme" >"$CHART/README.md"
}

# The chart's objects without the labels that say that Helm manages them.
operator() {
	if ! PATH=$PATH:$BIN command -v helm >/dev/null; then
		echo "no helm on PATH or in $BIN: deploy/kustomize/base/operator.yaml stays as it is" >&2
		return 0
	fi
	{
		written_by_generate
		PATH=$PATH:$BIN helm template vmail-operator "$project/$CHART" --namespace vmail-system --set crds.install=false \
			--kube-version "$KUBERNETES_VERSION" |
			sed -e '/^# Source: /d' -e '/ helm\.sh\/chart: /d' -e '/ app\.kubernetes\.io\/managed-by: Helm$/d'
	} >deploy/kustomize/base/operator.yaml
}

written_by_generate() {
	echo "# Written by \`make generate\`: changes here are lost."
}

[ "$#" -le 1 ] || usage
root=${1:-$project}
mkdir -p "$root"
cd "$root"
mkdir -p docs deploy/kustomize/base
definitions
reference
values_table
operator
