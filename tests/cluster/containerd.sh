# shellcheck shell=bash
# containerd with its images, which are kept from one run of a cluster to the next.

PAUSE_IMAGE=localhost/vmail-pause:dev

start_containerd() {
	mkdir -p "$STATE/cni"
	cat >"$STATE/cni/10-bridge.conflist" <<-JSON
		{"cniVersion": "1.0.0", "name": "pods", "plugins": [
		  {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": false, "hairpinMode": true,
		   "ipam": {"type": "host-local", "ranges": [[{"subnet": "$POD_CIDR"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
		  {"type": "portmap", "capabilities": {"portMappings": true}}]}
	JSON
	cat >"$STATE/containerd.toml" <<-TOML
		version = 2
		disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.aufs"]
		[plugins."io.containerd.grpc.v1.cri"]
		sandbox_image = "$PAUSE_IMAGE"
		restrict_oom_score_adj = true
		disable_apparmor = true
		[plugins."io.containerd.grpc.v1.cri".cni]
		bin_dir = "/usr/lib/cni"
		conf_dir = "$NODE_STATE/cni"
		[plugins."io.containerd.grpc.v1.cri".containerd]
		snapshotter = "overlayfs"
		default_runtime_name = "runc"
		[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
		runtime_type = "io.containerd.runc.v2"
	TOML
	start_daemon containerd containerd --config "$NODE_STATE/containerd.toml"
	wait_for_daemon containerd 30 containerd_ctl version
	forget_containers
	forget_old_images
}

containerd_ctl() {
	enter ctr --namespace k8s.io "$@"
}

# What is left of the pods of an earlier run is only records: their processes went with the namespaces.
forget_containers() {
	local containers
	mapfile -t containers < <(containerd_ctl containers list --quiet)
	[ "${#containers[@]}" -eq 0 ] || containerd_ctl containers delete "${containers[@]}"
}

# containerd also names each image by its digest, and would keep every image that a tag ever had.
forget_old_images() {
	local images
	mapfile -t images < <(containerd_ctl images list | awk '
		$1 ~ /^sha256:/ { digest[$1] = $3; next }
		NR > 1 { wanted[$3] = 1 }
		END { for (name in digest) if (!(digest[name] in wanted)) print name }')
	[ "${#images[@]}" -eq 0 ] || delete_images "${images[@]}"
}

# Waits for the collection of their layers as garbage: an image that is loaded meanwhile may find one of them, and then not.
delete_images() {
	containerd_ctl images delete --sync "$@"
}

# load_images ARCHIVE...: docker archives, one image each; one that is there already is left alone.
load_images() {
	local archive
	for archive in "$@"; do
		image_is_loaded "$archive" ||
			step "$CLUSTER_LOGS/load-$(basename "$archive").log" "image $(basename "$archive" .tar) into cluster $CLUSTER" load_image "$archive"
	done
}

# The archive's manifest names the image's content by digest.
archive_digest() {
	tar -xOf "$1" manifest.json | sha256sum | cut -d ' ' -f 1
}

loaded_stamp() {
	echo "$STATE/var/lib/containerd/loaded-$(basename "$1")"
}

image_is_loaded() {
	[ "$(cat "$(loaded_stamp "$1")" 2>/dev/null)" = "$(archive_digest "$1")" ]
}

load_image() {
	local name
	name=$(tar -xOf "$1" manifest.json | jq -r '.[0].RepoTags[0]')
	rm -f "$(loaded_stamp "$1")"
	keep_image "$name"
	containerd_ctl images import - <"$1"
	delete_images "$name-before"
	archive_digest "$1" >"$(loaded_stamp "$1")"
}

# Under a second name, until its successor is unpacked: layers that both have would be collected as
# garbage in between, from under the unpacking.
keep_image() {
	if containerd_ctl images list --quiet | grep -qxF "$1"; then
		containerd_ctl images tag --force "$1" "$1-before"
	fi
}

# The process that holds a pod's namespaces: Debian's catatonit is linked statically.
make_pause_archive() {
	local archive=$IMAGES/vmail-pause.tar
	[ ! -s "$archive" ] || return 0
	"$CLUSTER_SOURCE/../../deploy/images/build.sh" pause
}
