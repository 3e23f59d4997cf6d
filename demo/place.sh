# shellcheck shell=bash
# shellcheck disable=SC2034 # the scripts that source this file read what it sets
# Where the demo runs: in a cluster of its own, or in the user's (VMAIL_CLUSTER=existing and KUBECONFIG).

MAIL_NAMESPACE=mail
SYSTEM_NAMESPACE=vmail-system
# Marks the namespaces that the demo made, so that it never touches somebody's own.
DEMO_LABEL=vmail.dev/demo

cluster_is_ours() {
	[ "${VMAIL_CLUSTER:-}" != existing ]
}

use_place() {
	use_cluster demo
	if cluster_is_ours; then
		export KUBECONFIG=$KUBECONFIG_FILE
	elif [ -z "${KUBECONFIG:-}" ]; then
		fail "VMAIL_CLUSTER=existing needs KUBECONFIG"
	fi
	PATH=$BIN:$PATH
}

namespace_exists() {
	kubectl get namespace "$1" >/dev/null 2>&1
}

refuse_foreign_namespace() {
	! namespace_exists "$1" || [ -n "$(kubectl get namespace "$1" -o "jsonpath={.metadata.labels['${DEMO_LABEL//./\\.}']}")" ] ||
		fail "namespace $1 is there already and not the demo's: the demo would replace what is in it"
}

# Everything that the demo made in the user's cluster, also when it was interrupted.
leave_cluster() {
	refuse_foreign_namespace "$MAIL_NAMESPACE"
	refuse_foreign_namespace "$SYSTEM_NAMESPACE"
	kubectl delete namespace "$MAIL_NAMESPACE" --ignore-not-found --timeout=180s
	helm uninstall vmail-operator --namespace "$SYSTEM_NAMESPACE" --ignore-not-found --wait
	kubectl delete namespace "$SYSTEM_NAMESPACE" --ignore-not-found --timeout=180s
	# The chart keeps the definitions, because every object goes with them.
	# shellcheck disable=SC2154 # the project is where the script that sources this file is
	if [ -z "$(kubectl get mail --all-namespaces --ignore-not-found -o name)" ]; then
		kubectl delete --ignore-not-found -f "$project/crds"
	fi
}

make_namespace() {
	namespace_exists "$1" || kubectl create namespace "$1"
	kubectl label --overwrite namespace "$1" "$DEMO_LABEL=true"
}
