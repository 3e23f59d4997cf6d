# shellcheck shell=bash
# One authority a cluster, a certificate for each component, and the kubeconfig that holds it.

make_pki() {
	mkdir -p "$STATE/pki"
	cd "$STATE/pki" || return
	openssl ecparam -name prime256v1 -genkey -noout -out ca.key
	openssl req -x509 -new -key ca.key -subj "/CN=vmail-$CLUSTER" -days 3650 -out ca.crt
	# Service account tokens are signed with RS256 or ES256 by this key.
	openssl ecparam -name prime256v1 -genkey -noout -out service-account.key
	certificate apiserver /CN=kube-apiserver \
		"IP:127.0.0.1,IP:$NODE_ADDRESS,IP:$API_SERVICE_ADDRESS,DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc"
	certificate kubelet "/O=system:nodes/CN=system:node:$CLUSTER" "IP:$NODE_ADDRESS,DNS:$CLUSTER"
	certificate admin /O=system:masters/CN=admin
	certificate controller-manager /CN=system:kube-controller-manager
	certificate scheduler /CN=system:kube-scheduler
	certificate proxy /CN=system:kube-proxy
	local user
	for user in kubelet controller-manager scheduler proxy; do
		kubeconfig_of "$user" >"$user.kubeconfig"
	done
	kubeconfig_of admin >"$KUBECONFIG_FILE"
	chmod 0600 "$KUBECONFIG_FILE" ./*.kubeconfig ./*.key
}

# certificate NAME SUBJECT [NAMES]
certificate() {
	local name=$1 subject=$2 names=${3:-}
	openssl ecparam -name prime256v1 -genkey -noout -out "$name.key"
	openssl req -new -key "$name.key" -subj "$subject" -out "$name.csr"
	openssl x509 -req -in "$name.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days 3650 -out "$name.crt" -extfile <(
		echo extendedKeyUsage=clientAuth,serverAuth
		[ -z "$names" ] || echo "subjectAltName=$names"
	)
}

kubeconfig_of() {
	local user=$1
	cat <<-YAML
		apiVersion: v1
		kind: Config
		clusters:
		- name: vmail-$CLUSTER
		  cluster: {server: "https://$NODE_ADDRESS:6443", certificate-authority-data: $(base64 -w0 ca.crt)}
		users:
		- name: $user
		  user: {client-certificate-data: $(base64 -w0 "$user.crt"), client-key-data: $(base64 -w0 "$user.key")}
		contexts:
		- name: vmail-$CLUSTER
		  context: {cluster: vmail-$CLUSTER, user: $user}
		current-context: vmail-$CLUSTER
	YAML
}
