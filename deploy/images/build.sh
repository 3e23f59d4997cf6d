#!/bin/bash
# Builds the images into the cache, as docker archives that `tests/cluster/cluster load` and
# `kind load image-archive` take. What has not changed is not built again.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
project=$(cd "$here/../.." && pwd)
for part in steps paths packages binaries; do
	# shellcheck source=/dev/null
	. "$project/tests/cluster/$part.sh"
done

BASE=docker.io/library/debian:trixie-slim
BINARY=${CARGO_TARGET_DIR:-$project/target}/release/vmail-operator

usage() {
	echo "usage: build.sh [operator|postfix|mariadb|pause]...   (without a name: all)"
}

# Its own storage, and chroot isolation: works without systemd, in a container, beside any other buildah.
image_tool() {
	BUILDAH_ISOLATION=chroot timeout 1200 buildah --root "$IMAGES/storage" --runroot "$IMAGES/run" "$@"
}

build_binary() {
	find_on_path cargo "$HOME/.cargo/bin" "Rust 1.94 or later"
	step "$LOGS/cargo-release.log" "vmail-operator (cargo build --release)" \
		cargo build --release --manifest-path "$project/Cargo.toml"
}

make_base() {
	! image_tool inspect --type image "$BASE" >/dev/null 2>&1 || return 0
	step "$LOGS/image-base.log" "image base $BASE: from its registry, or from Debian's packages" with_lock "$CACHE/images.lock" make_base_now
}

make_base_now() {
	if image_tool pull --quiet "$BASE"; then
		return 0
	fi
	echo "no registry answers: making $BASE from Debian's packages"
	local context=$IMAGES/context/base
	rm -rf "$context"
	mkdir -p "$context"
	TMPDIR=$context mmdebstrap --variant=minbase --include=ca-certificates \
		--dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
		--dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
		trixie "$context/base.tar"
	image_tool build --pull=never --tag "$BASE" --file "$here/base/Containerfile" "$context"
	rm -rf "$context"
}

needs_binary() {
	grep -q '^COPY vmail-operator' "$here/$1/Containerfile"
}

needs_base() {
	grep -q '^FROM debian:' "$here/$1/Containerfile"
}

# Everything an image is made of.
image_stamp() {
	local image=$1
	{
		cat "$here/$image/Containerfile"
		! needs_base "$image" || image_tool inspect --type image --format '{{.FromImageID}}' "$BASE"
		! needs_binary "$image" || cat "$BINARY"
		[ "$image" != pause ] || cat "$(command -v catatonit)"
	} | sha256sum | cut -d ' ' -f 1
}

build_image() {
	local image=$1 archive=$IMAGES/vmail-$1.tar stamp
	stamp=$(image_stamp "$image")
	if [ -s "$archive" ] && [ "$(cat "$archive.stamp" 2>/dev/null)" = "$stamp" ]; then
		return 0
	fi
	step "$LOGS/image-$image.log" "image localhost/vmail-$image:dev" with_lock "$CACHE/images.lock" build_image_now "$image" "$archive" "$stamp"
}

build_image_now() {
	local image=$1 archive=$2 stamp=$3 context=$IMAGES/context/$1 name=localhost/vmail-$1:dev
	rm -rf "$context" "$archive.stamp"
	mkdir -p "$context"
	! needs_binary "$image" || cp "$BINARY" "$context/vmail-operator"
	[ "$image" != pause ] || cp "$(command -v catatonit)" "$context/catatonit"
	image_tool build --pull=never --layers --network host --tag "$name" --file "$here/$image/Containerfile" "$context"
	# What earlier builds, finished or killed, left in the storage.
	image_tool rm --all >/dev/null
	image_tool rmi --prune >/dev/null
	rm -f "$archive.new"
	image_tool push "$name" "docker-archive:$archive.new:$name"
	mv "$archive.new" "$archive"
	echo "$stamp" >"$archive.stamp"
	rm -rf "$context"
}

main() {
	local image wanted=("$@")
	[ "${#wanted[@]}" -gt 0 ] || wanted=(pause mariadb postfix operator)
	[ "$(id -u)" -eq 0 ] || fail "building images needs root"
	mkdir -p "$IMAGES"
	install_packages
	for image in "${wanted[@]}"; do
		[ -f "$here/$image/Containerfile" ] || { usage >&2; fail "no image is called '$image'"; }
		! needs_base "$image" || make_base
	done
	for image in "${wanted[@]}"; do
		if needs_binary "$image"; then
			build_binary
			break
		fi
	done
	for image in "${wanted[@]}"; do
		build_image "$image"
	done
}

main "$@"
