# shellcheck shell=bash
# Kubernetes' own programs, built from the Go module beside this file, once for all clusters.

KUBERNETES_VERSION=$(sed -n 's/^require k8s.io\/kubernetes \(v[0-9.]*\).*/\1/p' "$CLUSTER_SOURCE/go.mod")
PROGRAMS=(etcd kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy coredns kubectl helm)

# Without the version the kubelet and the API server take themselves for v0.0.0.
linker_flags() {
	local major minor variable=k8s.io/component-base/version
	IFS=. read -r major minor _ <<<"${KUBERNETES_VERSION#v}"
	echo "-s -w -X $variable.gitVersion=$KUBERNETES_VERSION -X $variable.gitMajor=$major -X $variable.gitMinor=$minor -X $variable.gitTreeState=clean"
}

binaries_stamp() {
	{
		cat "$CLUSTER_SOURCE/go.mod" "$CLUSTER_SOURCE/go.sum"
		linker_flags
		go env GOVERSION GOARCH
	} | sha256sum | cut -d ' ' -f 1
}

binaries_are_built() {
	local program
	[ "$(cat "$BIN/.stamp" 2>/dev/null)" = "$(binaries_stamp)" ] || return 1
	for program in "${PROGRAMS[@]}"; do
		[ -x "$BIN/$program" ] || return 1
	done
}

build_binaries() {
	find_on_path go /usr/local/go/bin "Go 1.24 or later"
	! binaries_are_built || return 0
	step "$LOGS/binaries.log" "Kubernetes $KUBERNETES_VERSION's programs (about 6 minutes on two cores, once)" \
		with_lock "$CACHE/binaries.lock" build_binaries_now
}

build_binaries_now() {
	! binaries_are_built || return 0
	rm -f "$BIN/.stamp"
	mkdir -p "$BIN"
	cd "$CLUSTER_SOURCE" || return
	GOBIN=$BIN CGO_ENABLED=0 go install -trimpath -ldflags "$(linker_flags)" tool
	# The program is called after its Go package, go.etcd.io/etcd/server.
	ln -f "$BIN/server" "$BIN/etcd"
	binaries_stamp >"$BIN/.stamp"
}

# find_on_path PROGRAM DIRECTORY NEED: a login shell's PATH is not always root's.
find_on_path() {
	local program=$1 directory=$2 need=$3
	if ! command -v "$program" >/dev/null && [ -x "$directory/$program" ]; then
		PATH=$PATH:$directory
	fi
	command -v "$program" >/dev/null || fail "$need is needed: '$program' is neither on PATH nor in $directory"
}
