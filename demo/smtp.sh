# shellcheck shell=bash
# Mail by SMTP, and where it arrived. Every message carries a number of its own in its body.

FORWARD_LOG=
FORWARD_PID=
SMTP_PORT=
MESSAGES=()
FAILURES=()

open_smtp_port() {
	FORWARD_LOG=$(mktemp)
	kubectl --namespace "$MAIL_NAMESPACE" port-forward service/myhost-postfix :25 --address 127.0.0.1 >"$FORWARD_LOG" 2>&1 &
	FORWARD_PID=$!
	wait_for 20 "port-forward to Postfix" grep 'Forwarding from' "$FORWARD_LOG" || {
		cat "$FORWARD_LOG" >&2
		fail "no way to Postfix's port 25"
	}
	SMTP_PORT=$(sed -n 's/^Forwarding from 127.0.0.1:\([0-9]*\) .*/\1/p' "$FORWARD_LOG")
}

close_smtp_port() {
	[ -z "$FORWARD_PID" ] || kill "$FORWARD_PID" 2>/dev/null || true
	[ -z "$FORWARD_LOG" ] || rm -f "$FORWARD_LOG"
}

not_as_expected() {
	FAILURES+=("$*")
	echo "NOT AS EXPECTED: $*"
}

# send RECIPIENT CODE WHY [MAILBOX...]: CODE is Postfix's answer that is expected, a MAILBOX is a
# directory of the mail store where the message is to arrive, and nowhere else.
send() {
	local recipient=$1 expected=$2 why=$3 number dialogue answer
	shift 3
	number=demo-$$-${#MESSAGES[@]}
	MESSAGES+=("$number $recipient $*")
	echo
	echo "=== $recipient: $why; expected: $expected"
	dialogue=$(swaks --server 127.0.0.1 --port "$SMTP_PORT" --helo demo.example.com \
		--from sender@example.com --to "$recipient" --header "Subject: $why" --body "$number" 2>&1 | tr -d '\r' || true)
	# The server's capabilities and the message's headers say nothing new each time.
	grep -v -E '^<-  250(-| [A-Z])|^ -> [A-Z][-A-Za-z]+: |^ -> *$|^=== (Trying|Connect)' <<<"$dialogue"
	answer=$(final_answer "$dialogue")
	[ "$answer" = "$expected" ] || not_as_expected "$recipient was answered '$answer' instead of $expected"
}

# The code that decided: of the first refusal, or of the message's end.
final_answer() {
	local refusal
	refusal=$(sed -n 's/^<\*\* *\([45][0-9][0-9]\).*/\1/p' <<<"$1" | head -n 1)
	if [ -n "$refusal" ]; then
		echo "$refusal"
	elif grep -q '^<-  250 .*queued as' <<<"$1"; then
		echo 250
	else
		echo "no answer"
	fi
}

in_postfix() {
	kubectl --namespace "$MAIL_NAMESPACE" exec myhost-postfix-0 --container postfix -- "$@"
}

expected_arrivals() {
	local message number mailboxes mailbox
	for message in "${MESSAGES[@]}"; do
		read -r number _ mailboxes <<<"$message"
		for mailbox in $mailboxes; do
			echo "$number $mailbox"
		done
	done | sort
}

# Lines `NUMBER MAILBOX`: which message is in which mailbox.
arrivals() {
	in_postfix grep -r -o "demo-$$-[0-9]*\$" /var/vmail | sed -n 's|^/var/vmail/\(.*\)/new/[^:]*:\(.*\)|\2 \1|p' | sort
}

everything_arrived() {
	[ "$(arrivals)" = "$(expected_arrivals)" ]
}

check_arrivals() {
	local differences
	if wait_for 20 "the messages in the mail store" everything_arrived 2>/dev/null; then
		return 0
	fi
	differences=$(diff <(expected_arrivals) <(arrivals) | sed -n 's/^< /missing: /p; s/^> /not expected: /p' || true)
	not_as_expected "the mail store differs: $differences"
}

check_owners() {
	local others
	others=$(in_postfix find /var/vmail -mindepth 1 ! \( -uid 901 -gid 901 \))
	[ -z "$others" ] || not_as_expected "these files of the mail store are not 901:901: $others"
}
