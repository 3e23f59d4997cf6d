# shellcheck shell=bash
# Other database servers than the machine's own, each in a directory of the cache: what Debian 13 has, and the MySQL of
# Debian's unstable, where alone there is one.

DATABASES=$CACHE/databases

# make_database NAME SUITE PACKAGES: unpacks them, if they are not there.
make_database() {
	with_lock "$CACHE/databases.lock" make_database_now "$@"
}

make_database_now() {
	local root=$DATABASES/$1
	[ ! -e "$root/complete" ] || return 0
	rm -rf "$root"
	mkdir -p "$DATABASES"
	mmdebstrap --variant=minbase --aptopt='Acquire::Check-Valid-Until "false"' --include="$3" "$2" "$root"
	touch "$root/complete"
}
