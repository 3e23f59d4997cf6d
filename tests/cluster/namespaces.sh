# shellcheck shell=bash
# A cluster lives in its own process, mount, network and control group namespaces.

start_namespaces() {
	make_cgroups
	mkdir -p "$STATE/var/log" "$STATE/tmp" "$CLUSTER_LOGS"
	ln -sfn /run "$STATE/var/run"
	rm -f "$STATE/init.pid"
	(
		close_inherited
		join_cgroup "$CGROUP"
		exec unshare --cgroup --mount --net --uts --pid -- \
			setsid --fork "$CLUSTER_SOURCE/init.sh" "$CACHE" "$CLUSTER" "$CGROUP"
	) >"$CLUSTER_LOGS/init.log" 2>&1 </dev/null
	wait_for 10 "the cluster's first process" test -s "$STATE/init.pid" || {
		cat "$CLUSTER_LOGS/init.log" >&2
		return 1
	}
}

# enter COMMAND...: runs it on the node, in the calling shell's control group.
enter() {
	nsenter --target "$(<"$STATE/init.pid")" --pid --mount --net --uts --cgroup -- "$@"
}

# A daemon must not keep open what its starter's caller holds: a lock, or the pipe that somebody reads to its end.
close_inherited() {
	local fd
	for fd in "/proc/$BASHPID/fd"/*; do
		fd=${fd##*/}
		[ "$fd" -le 2 ] || eval "exec $fd>&-"
	done
}

# start_daemon NAME COMMAND...: becomes a child of the cluster's first process, so it outlives the
# shell that started it and is reaped by nobody else.
start_daemon() {
	local name=$1
	shift
	(
		close_inherited
		join_cgroup "$CGROUP/node"
		# The command's $$ is its number inside the process namespace.
		# shellcheck disable=SC2016
		enter setsid --fork sh -c 'echo $$ >"$0"; exec "$@"' "$NODE_STATE/$name.pid" "$@"
	) >"$CLUSTER_LOGS/$name.log" 2>&1 </dev/null
	wait_for 5 "$name's process number" test -s "$STATE/$name.pid"
}

daemon_is_alive() {
	enter kill -0 "$(<"$STATE/$1.pid")" 2>/dev/null
}

# restart_daemon NAME: ends it and starts it again as it was started.
restart_daemon() {
	local name=$1 pid command
	pid=$(<"$STATE/$name.pid")
	mapfile -d '' command < <(enter cat "/proc/$pid/cmdline")
	enter kill -KILL "$pid"
	wait_for 20 "the end of $name" daemon_has_ended "$name"
	start_daemon "$name" "${command[@]}"
}

daemon_has_ended() {
	! daemon_is_alive "$1"
}

# wait_for_daemon NAME SECONDS COMMAND...: until the command succeeds; a daemon that died is not waited for.
wait_for_daemon() {
	local name=$1 limit=$2 deadline complaint=
	shift 2
	deadline=$(($(date +%s) + limit))
	until "$@" >/dev/null 2>&1; do
		if ! daemon_is_alive "$name"; then
			complaint="$name has ended"
		elif [ "$(date +%s)" -ge "$deadline" ]; then
			complaint="$name: not ready within $limit s"
		fi
		if [ -n "$complaint" ]; then
			echo "$complaint; the end of its log:" >&2
			tail -n 20 "$CLUSTER_LOGS/$name.log" >&2
			return 1
		fi
		sleep 0.1
	done
}

# Killing the first process ends every other one in its process namespace, and the kernel then
# takes down mounts and network; the group is asked again for those that were just entering.
kill_cluster() {
	local tries processes
	for tries in $(seq 100); do
		mapfile -t processes < <(cluster_processes)
		[ "${#processes[@]}" -gt 0 ] || return 0
		kill -KILL "${processes[@]}" 2>/dev/null || true
		sleep 0.1
	done
	echo "still there after $tries tries: ${processes[*]}" >&2
	return 1
}
