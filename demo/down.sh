#!/bin/bash
# Removes everything that demo/up.sh made.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
project=$(cd "$here/.." && pwd)
for part in "$project"/tests/cluster/{steps,paths}.sh "$here/place.sh"; do
	# shellcheck source=/dev/null
	. "$part"
done

leave_cluster() {
	refuse_foreign_namespace "$MAIL_NAMESPACE"
	refuse_foreign_namespace "$SYSTEM_NAMESPACE"
	kubectl delete namespace "$MAIL_NAMESPACE" --ignore-not-found --timeout=180s
	helm uninstall vmail-operator --namespace "$SYSTEM_NAMESPACE" --ignore-not-found --wait
	kubectl delete namespace "$SYSTEM_NAMESPACE" --ignore-not-found --timeout=180s
	# The chart keeps the definitions, because every object goes with them.
	if [ -z "$(kubectl get mailservers,maildomains,mailboxes,mailaliases --all-namespaces --ignore-not-found -o name)" ]; then
		kubectl delete --ignore-not-found -f "$project/crds"
	fi
}

use_place
if cluster_is_ours; then
	"$project/tests/cluster/cluster" down demo
else
	step "$LOGS/demo-down.log" "removing the demo from the cluster of $KUBECONFIG" leave_cluster
fi
