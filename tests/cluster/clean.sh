# shellcheck shell=bash
# Taking a cluster down, and the proof that nothing of it is left.

# The images stay: they are what a next run need not do again.
remove_cluster() {
	kill_cluster
	remove_network
	wait_for 10 "the end of the control groups" remove_cgroups
	[ ! -d "$STATE" ] || find "$STATE" -mindepth 1 -maxdepth 1 ! -name var ! -name logs -exec rm -rf {} +
	[ ! -d "$STATE/var" ] || find "$STATE/var" -mindepth 1 -maxdepth 2 ! -path "$STATE/var/lib" ! -path "$STATE/var/lib/containerd" -exec rm -rf {} +
}

mounts_left() {
	grep -h -F "/clusters/$CLUSTER/" /proc/[0-9]*/mountinfo 2>/dev/null | sort -u || true
}

check_clean() {
	local left
	left=$(
		cluster_processes | sed 's/^/process /'
		cgroups_left | sed 's/^/control group /'
		mounts_left | sed 's/^/mount /'
		network_left | sed 's/^/network /'
	)
	[ -z "$left" ] || fail "of cluster $CLUSTER $(wc -l <<<"$left") things are left, such as:"$'\n'"$(head -n 20 <<<"$left")"
	say "nothing of cluster $CLUSTER is left"
}
