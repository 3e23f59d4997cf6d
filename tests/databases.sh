# shellcheck shell=bash
# Other database servers than the machine's own, each in a directory of the cache: what Debian 13 has, and the MySQL of
# Debian's unstable, where alone there is one.

DATABASES=$CACHE/databases

# make_database NAME SUITE PACKAGE: unpacks it, if it is not there.
make_database() {
	local name=$1
	[ -e "$DATABASES/$name/complete" ] ||
		step "$LOGS/database-$name.log" "database server $name (Debian $2)" with_lock "$CACHE/databases.lock" make_database_now "$@"
}

make_database_now() {
	local root=$DATABASES/$1
	[ ! -e "$root/complete" ] || return 0
	rm -rf "$root"
	mkdir -p "$DATABASES"
	mmdebstrap --variant=minbase --aptopt='Acquire::Check-Valid-Until "false"' --include="$3" "$2" "$root"
	touch "$root/complete"
}
