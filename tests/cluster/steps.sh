# shellcheck shell=bash
# Steps with progress: each says what it does and when, keeps its output in a log,
# and on failure names itself and shows the end of that log.

# One clock for a script and the scripts that it calls.
export VMAIL_STARTED=${VMAIL_STARTED:-$(date +%s)}

say() {
	printf '[%4d s] %s\n' "$(($(date +%s) - VMAIL_STARTED))" "$*"
}

fail() {
	say "FAILED: $*" >&2
	exit 1
}

show_end_of() {
	local log=$1 lines=${2:-25}
	[ -s "$log" ] || return 0
	echo "--- end of $log" >&2
	tail -n "$lines" "$log" | cut -c -400 >&2
	echo "---" >&2
}

# run_logged LOG TEXT COMMAND...: runs the command with its output in LOG; LAST_STATUS is its status. In the
# foreground, so that Ctrl-C reaches it; in a subshell with errexit, so that a function's first failing line ends it.
run_logged() {
	local log=$1 text=$2 began status heartbeat self
	shift 2
	mkdir -p "$(dirname "$log")"
	say "$text"
	began=$(date +%s)
	# Not in the heartbeat's own command line, where it would be the heartbeat's.
	self=$BASHPID
	heartbeat_of "$log" "$self" &
	heartbeat=$!
	set +e
	(
		set -e
		"$@"
	) >"$log" 2>&1 </dev/null
	status=$?
	kill "$heartbeat" 2>/dev/null
	wait "$heartbeat" 2>/dev/null
	set -e
	if [ "$status" -eq 0 ] && [ $(($(date +%s) - began)) -ge 3 ]; then
		say "    done in $(($(date +%s) - began)) s"
	fi
	LAST_STATUS=$status
}

# step LOG TEXT COMMAND...: one that ends everything if it fails.
step() {
	run_logged "$@"
	if [ "$LAST_STATUS" -ne 0 ]; then
		show_end_of "$1"
		fail "$2 (exit status $LAST_STATUS)"
	fi
}

# A line each 20 s, as long as the shell that started it is its parent (`kill -0` would take a zombie
# for one). `read` on a pipe that nobody writes to is a sleep that leaves no process behind when the loop is killed.
heartbeat_of() {
	local log=$1 starter=$2 ticks=0 silence parent
	exec {silence}<> <(:)
	while read -r _ _ _ parent _ <"/proc/$BASHPID/stat" && [ "$parent" -eq "$starter" ]; do
		read -r -t 1 -u "$silence" _ || true
		ticks=$((ticks + 1))
		[ $((ticks % 20)) -ne 0 ] ||
			say "    still at it: $(tail -n 1 "$log" 2>/dev/null | tr -d '\r' | cut -c -100)"
	done
}

# wait_for SECONDS TEXT COMMAND...: until the command succeeds.
wait_for() {
	local limit=$1 text=$2 deadline
	shift 2
	deadline=$(($(date +%s) + limit))
	until "$@" >/dev/null 2>&1; do
		if [ "$(date +%s)" -ge "$deadline" ]; then
			echo "$text: not within $limit s; the last try said:" >&2
			"$@" >&2 || true
			return 1
		fi
		sleep 0.1
	done
}
