#!/bin/bash
# From a bare Debian machine, or somebody's cluster, to delivered mail.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
project=$(cd "$here/.." && pwd)
for part in "$project"/tests/cluster/{steps,paths,packages,binaries}.sh "$project/deploy/images/names.sh" "$here"/{place,smtp,diagnosis}.sh; do
	# shellcheck source=/dev/null
	. "$part"
done

PARTS=6
part=0

begin_part() {
	part=$((part + 1))
	echo
	say "$part/$PARTS $*"
}

images() {
	begin_part "Images"
	if cluster_is_ours; then
		"$project/deploy/images/build.sh"
	else
		say "the cluster pulls $(image_prefix)/vmail-{operator,postfix,mariadb}:dev"
	fi
}

cluster() {
	begin_part "Cluster"
	if cluster_is_ours; then
		"$project/tests/cluster/cluster" up demo
		"$project/tests/cluster/cluster" load demo "$IMAGES"/vmail-{operator,postfix,mariadb}.tar
	else
		install_packages
		build_binaries
		step "$LOGS/demo-reach.log" "reaching the cluster of $KUBECONFIG" kubectl get --raw /readyz
		step "$LOGS/demo-clear.log" "clearing what an earlier demo left" leave_cluster
	fi
}

chart() {
	begin_part "Chart"
	step "$LOGS/demo-helm.log" "helm upgrade --install vmail-operator charts/vmail-operator --namespace $SYSTEM_NAMESPACE" install_chart
}

install_chart() {
	make_namespace "$SYSTEM_NAMESPACE"
	# shellcheck disable=SC2046 # several arguments
	helm upgrade --install vmail-operator "$project/charts/vmail-operator" --namespace "$SYSTEM_NAMESPACE" \
		$(image_values) --wait --timeout 3m
}

objects() {
	begin_part "MailServer, MailDomains, Mailboxes, MailAliases"
	step "$LOGS/demo-objects.log" "kubectl apply -f deploy/samples/seed" apply_objects
	step "$LOGS/demo-ready.log" "waiting until all of them are Ready" wait_until_ready
}

apply_objects() {
	make_namespace "$MAIL_NAMESPACE"
	kubectl apply -f "$project/deploy/samples/seed"
}

wait_until_ready() {
	kubectl --namespace "$MAIL_NAMESPACE" wait --for=condition=Ready mailserver/myhost --timeout=240s
	kubectl --namespace "$MAIL_NAMESPACE" wait --for=condition=Ready maildomains,mailboxes,mailaliases --all --timeout=60s
}

mail() {
	begin_part "Mail by SMTP"
	open_smtp_port
	send charlie@alpha.example.org 250 "a mailbox" alpha.example.org/charlie
	send chou@beta.example.org 250 "a mailbox" beta.example.org/chou
	send cinder@gamma.example.org 250 "a mailbox in a domain with a catch-all" gamma.example.org/cinder
	send info@alpha.example.org 250 "an alias with one target" alpha.example.org/alfred
	send hello@alpha.example.org 250 "an alias of that alias" alpha.example.org/alfred
	send team@beta.example.org 250 "an alias with targets in three domains" \
		alpha.example.org/bob beta.example.org/bill gamma.example.org/ben
	send auntie@beta.example.org 250 "a mailbox that keeps a copy and forwards" beta.example.org/auntie gamma.example.org/alistair
	send whoever@gamma.example.org 250 "the catch-all" gamma.example.org/ben
	send nobody@alpha.example.org 550 "an address that nobody declared"
	send someone@example.net 554 "a domain that is not ours: no open relay"
	check_arrivals
	check_owners
}

results() {
	begin_part "What there is now"
	heading "Postfix's log"
	kubectl --namespace "$MAIL_NAMESPACE" logs myhost-postfix-0 --container postfix | grep -E 'status=|NOQUEUE' || true
	heading "the mail store: owner, mode, file"
	in_postfix find /var/vmail -type f -printf '%U:%G %M %P\n' | sort -k 3
	heading "kubectl get mailservers,maildomains,mailboxes,mailaliases"
	kubectl --namespace "$MAIL_NAMESPACE" get mailservers,maildomains,mailboxes,mailaliases
	if [ "${#FAILURES[@]}" -gt 0 ]; then
		printf 'NOT AS EXPECTED: %s\n' "${FAILURES[@]}" >&2
		fail "${#FAILURES[@]} of the demo's expectations were not met"
	fi
	echo
	say "All ${#MESSAGES[@]} messages were answered and delivered as expected."
}

heading() {
	printf '\n--- %s\n' "$*"
}

what_next() {
	cat <<-TEXT

		What to try next:
		  export KUBECONFIG=\$(make kubeconfig) PATH=$BIN:\$PATH
		  kubectl get mail -n $MAIL_NAMESPACE                     # everything that is declared
		  kubectl describe mailserver myhost -n $MAIL_NAMESPACE   # what the operator says about it
		  kubectl apply -n $MAIL_NAMESPACE -f - <<EOT             # a tenth mailbox: its mail is accepted at once
		  {apiVersion: vmail.dev/v1alpha1, kind: Mailbox, metadata: {name: dora}, spec: {address: dora@alpha.example.org}}
		  EOT
		  kubectl port-forward -n $MAIL_NAMESPACE service/myhost-postfix 2525:25 &
		  swaks --server 127.0.0.1:2525 --to dora@alpha.example.org
		  kubectl delete mailbox dora -n $MAIL_NAMESPACE          # refused again; the files stay
		  kubectl logs -n $SYSTEM_NAMESPACE deployment/vmail-operator
		  make demo-down                              # removes all of it
	TEXT
}

at_exit() {
	local status=$?
	close_smtp_port
	# Not after a signal: whoever stopped it knows why.
	if [ "$status" -ne 0 ] && [ "$status" -lt 128 ] && [ "$part" -ge 3 ]; then
		diagnose >&2
	fi
}

use_place
trap at_exit EXIT
images
cluster
chart
objects
mail
results
what_next
