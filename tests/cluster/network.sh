# shellcheck shell=bash
# The cluster's network namespace hangs on one pair of virtual links; from the machine,
# the addresses of pods and Services are reached over routes through it.

make_network() {
	local init
	init=$(<"$STATE/init.pid")
	ip link add "$HOST_LINK" type veth peer name eth0 netns "$init"
	ip address add "$HOST_ADDRESS/30" dev "$HOST_LINK"
	ip link set "$HOST_LINK" up
	enter ip link set lo up
	enter ip address add "$NODE_ADDRESS/30" dev eth0
	enter ip link set eth0 up
	enter ip route add default via "$HOST_ADDRESS"
	ip route replace "$POD_CIDR" via "$NODE_ADDRESS"
	ip route replace "$SERVICE_CIDR" via "$NODE_ADDRESS"
	enter sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward'
	# Pod to pod by a Service's address passes the bridge; without this the answer skips iptables.
	local filter_bridge=/proc/sys/net/bridge/bridge-nf-call-iptables
	! enter test -e $filter_bridge || enter sh -c "echo 1 >$filter_bridge"
}

# The routes go with the link, and the link with the network namespace, but in the kernel's own time.
remove_network() {
	ip link delete "$HOST_LINK" 2>/dev/null || true
	wait_for 10 "the end of link $HOST_LINK" link_is_gone
}

link_is_gone() {
	! ip link show "$HOST_LINK" 2>/dev/null
}

network_left() {
	ip -oneline link show "$HOST_LINK" 2>/dev/null || true
	ip route show | grep -F -e "$POD_CIDR" -e "$SERVICE_CIDR" -e "$NODE_ADDRESS" || true
}
