# shellcheck shell=bash
# Every process of a cluster is in the control group of its name, whatever else became of it:
# that is how `down` finds them all. Works with cgroup v1, hybrid and v2.

cgroup_hierarchies() {
	awk '$3 == "cgroup" || $3 == "cgroup2" { print $2 }' /proc/mounts | sort -u
}

make_cgroups() {
	local hierarchy
	for hierarchy in $(cgroup_hierarchies); do
		make_cgroup "$hierarchy" "$CGROUP"
		make_cgroup "$hierarchy" "$CGROUP/node"
	done
}

make_cgroup() {
	local directory=$1/$2 file
	mkdir -p "$directory"
	# A new v1 cpuset is empty and takes no process.
	for file in cpuset.cpus cpuset.mems; do
		if [ -e "$directory/$file" ] && [ ! -e "$directory/cgroup.controllers" ]; then
			cat "$directory/../$file" >"$directory/$file"
		fi
	done
}

# join_cgroup PATH: the calling shell moves.
join_cgroup() {
	local hierarchy
	for hierarchy in $(cgroup_hierarchies); do
		echo 0 >"$hierarchy/$1/cgroup.procs"
	done
}

cluster_processes() {
	local hierarchy
	for hierarchy in $(cgroup_hierarchies); do
		find "$hierarchy/$CGROUP" -name cgroup.procs -exec cat {} + 2>/dev/null || true
	done | sort -un
}

# A group whose last process has just died may still be busy for a moment.
remove_cgroups() {
	local hierarchy
	for hierarchy in $(cgroup_hierarchies); do
		[ ! -d "$hierarchy/$CGROUP" ] || find "$hierarchy/$CGROUP" -depth -type d -exec rmdir {} +
	done
	[ -z "$(cgroups_left)" ]
}

cgroups_left() {
	local hierarchy
	for hierarchy in $(cgroup_hierarchies); do
		[ ! -d "$hierarchy/$CGROUP" ] || echo "$hierarchy/$CGROUP"
	done
}
