#!/bin/bash
# Removes everything that demo/up.sh made.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
project=$(cd "$here/.." && pwd)
for part in "$project"/tests/cluster/{steps,paths}.sh "$here/place.sh"; do
	# shellcheck source=/dev/null
	. "$part"
done

use_place
if cluster_is_ours; then
	"$project/tests/cluster/cluster" down demo
else
	step "$LOGS/demo-down.log" "removing the demo from the cluster of $KUBECONFIG" leave_cluster
fi
