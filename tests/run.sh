#!/bin/bash
# Everything that is checked, tier by tier. A tier that fails doesn't keep the next from running; one that
# can't run fails too, unless VMAIL_ALLOW_MISSING_TIERS=1. The last line counts the tests of all tiers.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
project=$(cd "$here/.." && pwd)
for part in steps paths packages binaries; do
	# shellcheck source=/dev/null
	. "$here/cluster/$part.sh"
done
# shellcheck source=/dev/null
. "$project/deploy/images/names.sh"
# shellcheck source=tests/databases.sh
. "$here/databases.sh"
# shellcheck source=tests/chart.sh
. "$here/chart.sh"

PASSED=0
FAILED=0
FAILED_TIERS=()
MISSING_TIERS=()
# Tiers that run beside others: the process of each.
declare -A BESIDE=()
# A snapshot that differs fails; nothing is written beside it.
export INSTA_UPDATE=no
# Three times what the slowest tier takes: one that hangs fails, and tells where.
LIMITED=(timeout --foreground --verbose 15m)
# The command that runs another one on the cluster's node, and those that restart a daemon and send it a signal.
ON_NODE=
RESTART=
SIGNAL=

# tier NAME COMMAND...: every `test result:` line of its output is counted.
tier() {
	local name=$1
	shift
	run_logged "$(log_of "$name")" "tier: $name" without_lock "$@"
	count_tier "$name"
}

# tier_beside NAME COMMAND...: a tier beside the ones that follow, until join_tiers.
tier_beside() {
	local name=$1
	shift
	say "tier: $name: beside the next"
	without_lock "$@" >"$(log_of "$name")" 2>&1 </dev/null &
	BESIDE[$name]=$!
}

join_tiers() {
	local name
	for name in "${!BESIDE[@]}"; do
		run_logged /dev/null "tier: $name: to its end" ended "${BESIDE[$name]}"
		LAST_STATUS=0
		wait "${BESIDE[$name]}" || LAST_STATUS=$?
		unset "BESIDE[$name]"
		count_tier "$name"
	done
}

ended() {
	while kill -0 "$1" 2>/dev/null; do
		sleep 0.2
	done
}

log_of() {
	echo "$LOGS/test-${1//[^a-z0-9]/-}.log"
}

# count_tier NAME: one that ended with LAST_STATUS.
count_tier() {
	local log
	log=$(log_of "$1")
	count_results "$log"
	[ "$LAST_STATUS" -eq 0 ] || tier_failed "$1" "$log"
}

# One run at a time: the cluster `test` and the tiers' logs are its own.
take_lock() {
	exec 8>"$CACHE/test-run.lock"
	flock --nonblock 8 && return 0
	say "another make test is at work: waiting for its end"
	flock --wait 3600 8 || fail "it has been at work for an hour"
}

# A process that a test forgot must not hold the next run up.
without_lock() {
	"$@" 8>&-
}

tier_failed() {
	FAILED_TIERS+=("$1")
	show_end_of "$2" 60
	say "    FAILED: $1"
}

count_results() {
	local log=$1 passed failed
	passed=$(sum_of passed "$log")
	failed=$(sum_of failed "$log")
	PASSED=$((PASSED + passed))
	FAILED=$((FAILED + failed))
	if [ $((passed + failed)) -gt 0 ]; then
		say "    $passed tests passed, $failed failed"
	fi
}

# Cargo's line: `test result: ok. 12 passed; 0 failed; 0 ignored; ...`
sum_of() {
	sed -n "s/^test result:.* \([0-9]*\) $1;.*/\1/p" "$2" | awk '{ sum += $1 } END { print sum + 0 }'
}

missing() {
	say "tier: $1: CAN'T RUN: $2"
	MISSING_TIERS+=("$1")
}

check_toolchain() {
	local component
	find_on_path cargo "$HOME/.cargo/bin" "Rust 1.94 or later"
	for component in fmt clippy; do
		cargo "$component" --version >/dev/null 2>&1 ||
			fail "cargo $component is missing: rustup component add rustfmt clippy"
	done
}

format() {
	cargo fmt --check -- --color never
}

clippy() {
	cargo clippy --locked --all-targets -- -D warnings
}

generated_files() {
	local fresh=$LOGS/generated path
	rm -rf "$fresh"
	"$project/deploy/generate.sh" "$fresh"
	echo "If they differ: make generate"
	for path in crds docs/api.md charts/vmail-operator/README.md charts/vmail-operator/files/crds \
		deploy/kustomize/base/{crds,operator}.yaml; do
		diff -r "$fresh/$path" "$project/$path"
	done
}

unit_tests() {
	cargo test --locked --lib --bins
}

# Each module of tests/integration that has tests is a tier.
integration_tests() {
	local module
	tier "integration tests compile" cargo test --locked --no-run --test integration
	[ "$LAST_STATUS" -eq 0 ] || return 0
	for module in $(integration_modules); do
		if [ -z "$ON_NODE" ] && needs_own_cluster "$module"; then
			missing "integration tests: $module" "it kills processes of the cluster, which only a cluster of its own allows"
		elif ! waits "$module"; then
			tier "integration tests: $module" env VMAIL_BIN_DIR="$BIN" VMAIL_HELM_ARGUMENTS="$(image_values)" VMAIL_ON_NODE="$ON_NODE" VMAIL_RESTART="$RESTART" VMAIL_SIGNAL="$SIGNAL" \
				"${LIMITED[@]}" cargo test --locked --test integration -- "$module::"
		fi
	done
	if [ "$(id -u)" -eq 0 ]; then
		other_databases
	else
		missing "integration tests: store on other servers" "they are in directories that only root can enter (chroot)"
	fi
	tier "integration tests: store_faults" waiting_tests store_faults::
	join_tiers
}

# Its tests wait for what a server or a network does within a minute.
waits() {
	[ "$1" = store_faults ]
}

# More at once than there are processors.
waiting_tests() {
	"${LIMITED[@]}" cargo test --locked --test integration -- --test-threads=4 "$@"
}

# The store's tests once more, on the other servers that people have.
other_databases() {
	store_on mariadb-11.8 trixie mariadb-server-core,mariadb-client-core
	store_on mysql-9 sid mysql-server
}

# store_on NAME SUITE PACKAGES
store_on() {
	tier "database server $1 (Debian $2)" make_database "$@"
	[ "$LAST_STATUS" -eq 0 ] || return 0
	tier_beside "integration tests: store on $1" with_database "$1" waiting_tests \
		store:: store_admins:: postfixadmin:: store_faults:: stateful:: queries::
}

# with_database NAME COMMAND...
with_database() {
	export VMAIL_DATABASE_ROOT=$DATABASES/$1
	shift
	"$@"
}

needs_own_cluster() {
	[[ "$1" =~ ^(api_server|files|load|mail|matrix|pod|replicas|settings|tls_database)$ ]]
}

integration_modules() {
	cargo test --quiet --locked --test integration -- --list --format terse |
		sed -n 's/^\([a-z_]*\)::.*: test$/\1/p' | sort -u
}

on_own_cluster() {
	use_cluster test
	trap 'cluster down test' EXIT
	if start_cluster; then
		export KUBECONFIG=$KUBECONFIG_FILE
		ON_NODE="$here/cluster/cluster enter test"
		RESTART="$here/cluster/cluster restart test"
		SIGNAL="$here/cluster/cluster signal test"
		integration_tests
	else
		FAILED_TIERS+=("cluster")
	fi
	trap - EXIT
	cluster down test || FAILED_TIERS+=("cluster down")
}

start_cluster() {
	"$project/deploy/images/build.sh" &&
		cluster up test &&
		cluster load test "$IMAGES"/vmail-{operator,postfix,mariadb}.tar
}

cluster() {
	"$here/cluster/cluster" "$@"
}

totals() {
	local status=0
	if [ "${#FAILED_TIERS[@]}" -gt 0 ]; then
		say "failed tiers: $(join_names "${FAILED_TIERS[@]}")"
		status=1
	fi
	if [ "${#MISSING_TIERS[@]}" -gt 0 ]; then
		say "tiers that could not run: $(join_names "${MISSING_TIERS[@]}")"
		[ "${VMAIL_ALLOW_MISSING_TIERS:-}" = 1 ] || status=1
	fi
	say "all of it took $(($(date +%s) - VMAIL_STARTED)) s"
	echo "$PASSED passed, $FAILED failed"
	return "$status"
}

join_names() {
	local IFS=,
	echo "$*"
}

main() {
	cd "$project"
	take_lock
	install_packages
	check_toolchain
	build_binaries
	PATH=$BIN:$PATH
	tier "format" format
	tier "clippy" clippy
	tier "generated files" generated_files
	tier "chart" chart
	tier "unit and property tests" unit_tests
	if [ "${VMAIL_CLUSTER:-}" = existing ] && [ -n "${KUBECONFIG:-}" ]; then
		integration_tests
	elif [ "$(id -u)" -eq 0 ]; then
		on_own_cluster
	else
		missing "integration tests" "they need root, or VMAIL_CLUSTER=existing and KUBECONFIG"
	fi
	totals
}

main "$@"
