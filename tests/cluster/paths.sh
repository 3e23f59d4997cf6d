# shellcheck shell=bash
# shellcheck disable=SC2034 # the scripts that source this file read what it sets
# Where things are kept. The cache holds what is slow to make and safe to share between clusters.

CLUSTER_SOURCE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
CACHE=${VMAIL_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/vmail-operator}
BIN=$CACHE/bin
LOGS=$CACHE/logs
IMAGES=$CACHE/images

mkdir -p "$CACHE" "$LOGS"

# use_cluster NAME: sets everything that differs between the clusters, so that they run side by side.
use_cluster() {
	CLUSTER=$1
	case $CLUSTER in
	demo) CLUSTER_INDEX=0 ;;
	test) CLUSTER_INDEX=1 ;;
	bench) CLUSTER_INDEX=2 ;;
	*) fail "no cluster is called '$CLUSTER': use demo, test or bench" ;;
	esac
	STATE=$CACHE/clusters/$CLUSTER
	# The same directory seen from the node, where init.sh binds the cache to /mnt.
	NODE_STATE=/mnt/clusters/$CLUSTER
	CLUSTER_LOGS=$STATE/logs
	KUBECONFIG_FILE=$STATE/kubeconfig
	CGROUP=vmail-$CLUSTER
	HOST_LINK=vmail-$CLUSTER
	HOST_ADDRESS=192.168.240.$((4 * CLUSTER_INDEX + 1))
	NODE_ADDRESS=192.168.240.$((4 * CLUSTER_INDEX + 2))
	POD_CIDR=10.244.$CLUSTER_INDEX.0/24
	SERVICE_CIDR=10.96.$CLUSTER_INDEX.0/24
	API_SERVICE_ADDRESS=10.96.$CLUSTER_INDEX.1
}

# with_lock FILE COMMAND...: one at a time; a second one waits.
with_lock() {
	local file=$1
	shift
	mkdir -p "$(dirname "$file")"
	(
		flock --wait 1800 9 || fail "somebody has held $file for half an hour"
		"$@"
	) 9>"$file"
}
