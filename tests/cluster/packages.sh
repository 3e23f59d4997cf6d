# shellcheck shell=bash
# What the clusters, the images, the demo and the tests need from Debian.

PACKAGES=(
	# the node
	containerd runc containernetworking-plugins iptables conntrack iproute2 procps catatonit openssl socat
	# the images
	buildah mmdebstrap
	# Rust's linker and ring's C code
	gcc libc6-dev
	# mail by hand, JSON by hand
	swaks jq
	# the store's tests run a database server of their own
	mariadb-server-core mariadb-client-core
)

missing_packages() {
	local package
	for package in "${PACKAGES[@]}"; do
		dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed || echo "$package"
	done
}

install_packages() {
	local missing
	mapfile -t missing < <(missing_packages)
	[ "${#missing[@]}" -gt 0 ] || return 0
	[ "$(id -u)" -eq 0 ] || fail "these Debian packages are missing and only root can install them: ${missing[*]}"
	step "$LOGS/packages.log" "Debian packages: ${missing[*]}" with_lock "$CACHE/packages.lock" install_now
}

install_now() {
	local missing policy=/usr/sbin/policy-rc.d own_policy=no
	mapfile -t missing < <(missing_packages)
	[ "${#missing[@]}" -gt 0 ] || return 0
	if [ ! -e "$policy" ]; then
		# Debian asks this file before a package starts its daemon: none shall.
		printf '#!/bin/sh\nexit 101\n' >"$policy"
		chmod 0755 "$policy"
		own_policy=yes
		trap 'rm -f "$policy"' EXIT
	fi
	apt_install "${missing[@]}" || {
		apt-get update
		apt_install "${missing[@]}"
	}
	if [ "$own_policy" = yes ]; then
		rm -f "$policy"
		trap - EXIT
	fi
}

apt_install() {
	DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
		-o DPkg::Lock::Timeout=600 -o Dpkg::Options::=--force-confold "$@"
}
