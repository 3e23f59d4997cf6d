# shellcheck shell=bash
# CoreDNS beside the kubelet, on the node's address.

start_dns() {
	# Two blocks: in one, `template` comes before `kubernetes` and hides the cluster's names.
	cat >"$STATE/Corefile" <<-EOT
		cluster.local in-addr.arpa {
			bind $NODE_ADDRESS
			errors
			kubernetes {
				kubeconfig $NODE_STATE/kubeconfig
			}
		}
		. {
			bind $NODE_ADDRESS
			template ANY ANY {
				rcode NXDOMAIN
			}
		}
	EOT
	start_daemon coredns /mnt/bin/coredns -conf "$NODE_STATE/Corefile"
	wait_for_daemon coredns 30 grep -q 'CoreDNS-' "$CLUSTER_LOGS/coredns.log"
}
