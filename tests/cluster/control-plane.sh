# shellcheck shell=bash
# etcd, the API server, the controller manager and the scheduler. RBAC, Node authorization and
# Pod Security admission are on, as in a cluster that one is given.

api_is_ready() {
	"$BIN/kubectl" --kubeconfig "$KUBECONFIG_FILE" get --raw /readyz
}

start_control_plane() {
	local pki=$NODE_STATE/pki
	# Nothing here outlives the cluster, so nothing is gained by waiting for the disk.
	start_daemon etcd /mnt/bin/etcd --data-dir /var/lib/etcd --unsafe-no-fsync \
		--listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379
	start_daemon kube-apiserver /mnt/bin/kube-apiserver --etcd-servers http://127.0.0.1:2379 \
		--bind-address 0.0.0.0 --advertise-address "$NODE_ADDRESS" --secure-port 6443 \
		--tls-cert-file "$pki/apiserver.crt" --tls-private-key-file "$pki/apiserver.key" --client-ca-file "$pki/ca.crt" \
		--service-cluster-ip-range "$SERVICE_CIDR" --service-account-issuer https://kubernetes.default.svc \
		--service-account-key-file "$pki/service-account.key" --service-account-signing-key-file "$pki/service-account.key" \
		--authorization-mode Node,RBAC --enable-admission-plugins NodeRestriction --allow-privileged \
		--kubelet-client-certificate "$pki/admin.crt" --kubelet-client-key "$pki/admin.key" \
		--kubelet-certificate-authority "$pki/ca.crt" --kubelet-preferred-address-types InternalIP
	wait_for_daemon kube-apiserver 90 api_is_ready
	start_daemon kube-controller-manager /mnt/bin/kube-controller-manager \
		--kubeconfig "$pki/controller-manager.kubeconfig" --leader-elect=false \
		--service-account-private-key-file "$pki/service-account.key" --root-ca-file "$pki/ca.crt" --use-service-account-credentials \
		--cluster-signing-cert-file "$pki/ca.crt" --cluster-signing-key-file "$pki/ca.key" \
		--allocate-node-cidrs --cluster-cidr "$POD_CIDR" --node-cidr-mask-size 24 --enable-hostpath-provisioner
	start_daemon kube-scheduler /mnt/bin/kube-scheduler --kubeconfig "$pki/scheduler.kubeconfig" --leader-elect=false
}

# Volumes are directories in the node's /tmp/hostpath_pv.
make_storage_class() {
	"$BIN/kubectl" --kubeconfig "$KUBECONFIG_FILE" apply -f - <<-YAML
		apiVersion: storage.k8s.io/v1
		kind: StorageClass
		metadata: {name: standard, annotations: {storageclass.kubernetes.io/is-default-class: "true"}}
		provisioner: kubernetes.io/host-path
	YAML
}
