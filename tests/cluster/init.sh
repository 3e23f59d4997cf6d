#!/bin/bash
# The first process of a cluster's namespaces. Lays the cluster's own /var, /tmp, /run, /proc and
# control groups over the machine's and then waits: when it is killed, everything goes with it.
set -euo pipefail

# shellcheck source=/dev/null
. "$(dirname "${BASH_SOURCE[0]}")/cgroups.sh"

cache=$1 cluster=$2 cgroup=$3

# /proc is still the machine's here, so this is the number the machine knows the process by.
read -r pid _ </proc/self/stat

hide_control_groups() {
	local hierarchy
	for hierarchy in $(cgroup_hierarchies); do
		mount --bind "$hierarchy/$cgroup" "$hierarchy"
		# v2 wants no process beside child groups.
		echo 0 >"$hierarchy/node/cgroup.procs"
	done
}

lay_directories() {
	local state=/mnt/clusters/$cluster
	mount --bind "$cache" /mnt
	mount --bind "$state/var" /var
	mount --bind "$state/tmp" /tmp
	mount -t tmpfs -o mode=0755 tmpfs /run
	mkdir -p /run/lock /run/netns
	mount -t proc proc /proc
}

hostname "$cluster"
hide_control_groups
lay_directories
echo "$pid" >"/mnt/clusters/$cluster/init.pid.new"
mv "/mnt/clusters/$cluster/init.pid.new" "/mnt/clusters/$cluster/init.pid"
exec catatonit -P
