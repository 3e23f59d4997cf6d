# shellcheck shell=bash
# What to look at when something in the cluster is not as it should be.

diagnose() {
	echo "--- pods"
	kubectl get pods --all-namespaces --output wide || true
	echo "--- mail objects"
	kubectl --namespace "$MAIL_NAMESPACE" get mailservers,maildomains,mailboxes,mailaliases,mailadmins || true
	echo "--- conditions of the MailServer"
	kubectl --namespace "$MAIL_NAMESPACE" get mailserver myhost \
		-o jsonpath='{range .status.conditions[*]}{.type}={.status} {.reason}: {.message}{"\n"}{end}' || true
	echo "--- events"
	kubectl get events --all-namespaces --sort-by=.lastTimestamp | tail -n 15 || true
	echo "--- end of the operator's log"
	kubectl --namespace "$SYSTEM_NAMESPACE" logs deployment/vmail-operator --tail=25 || true
	echo "--- end of Postfix's log"
	kubectl --namespace "$MAIL_NAMESPACE" logs myhost-postfix-0 --all-containers --tail=25 || true
}
