#!/bin/bash
# Writes the custom resource definitions, one file a kind, as the program prints them.
set -euo pipefail

project=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

usage() {
	echo "usage: generate-crds.sh DIRECTORY..." >&2
	exit 2
}

# split_documents DIRECTORY: a document's name is its resource's plural.
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

[ "$#" -gt 0 ] || usage
definitions=$(cargo run --quiet --locked --manifest-path "$project/Cargo.toml" -- crds)
for directory in "$@"; do
	mkdir -p "$directory"
	rm -f "$directory"/*.yaml
	split_documents "$directory" <<<"$definitions"
done
