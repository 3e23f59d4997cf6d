# shellcheck shell=bash
# The kubelet and kube-proxy.

start_node() {
	local pki=$NODE_STATE/pki
	echo "nameserver $NODE_ADDRESS" >"$STATE/resolv.conf"
	cat >"$STATE/kubelet.yaml" <<-YAML
		apiVersion: kubelet.config.k8s.io/v1beta1
		kind: KubeletConfiguration
		authentication: {anonymous: {enabled: false}, x509: {clientCAFile: $pki/ca.crt}, webhook: {enabled: true}}
		authorization: {mode: Webhook}
		tlsCertFile: $pki/kubelet.crt
		tlsPrivateKeyFile: $pki/kubelet.key
		containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
		clusterDomain: cluster.local
		clusterDNS: [$NODE_ADDRESS]
		resolvConf: $NODE_STATE/resolv.conf
		# The cgroup tree is made by hand here and has no systemd in it.
		cgroupDriver: cgroupfs
		cgroupsPerQOS: false
		enforceNodeAllocatable: []
		failCgroupV1: false
		failSwapOn: false
		# The disk is the whole machine's: how full it is says nothing about this node.
		imageGCHighThresholdPercent: 100
		evictionHard: {memory.available: "0%", nodefs.available: "0%", nodefs.inodesFree: "0%", imagefs.available: "0%"}
		# A changed ConfigMap or Secret reaches its pod soon.
		syncFrequency: 5s
		nodeStatusUpdateFrequency: 5s
	YAML
	start_daemon kubelet /mnt/bin/kubelet --config "$NODE_STATE/kubelet.yaml" --kubeconfig "$pki/kubelet.kubeconfig" \
		--hostname-override "$CLUSTER" --node-ip "$NODE_ADDRESS"
	start_daemon kube-proxy /mnt/bin/kube-proxy --kubeconfig "$pki/proxy.kubeconfig" --hostname-override "$CLUSTER" \
		--cluster-cidr "$POD_CIDR" --proxy-mode iptables --conntrack-max-per-core 0
	wait_for_daemon kubelet 90 node_is_ready
}

node_is_ready() {
	"$BIN/kubectl" --kubeconfig "$KUBECONFIG_FILE" wait --for=condition=Ready "node/$CLUSTER" --timeout=2s
}
