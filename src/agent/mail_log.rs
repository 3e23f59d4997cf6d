//! What a line of Postfix's log says happened to mail. Pure.
//!
//! A line begins with words that no client can write (`... postfix/smtpd[225]: `); what follows may hold addresses and
//! other servers' texts, which never become a label.

/// Something that happened.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Event {
    /// A client connected.
    Connected,
    /// A message is in the queue, from a client or made here (a bounce).
    Received,
    /// A recipient of a message was dealt with.
    Handled(Outcome),
    /// A client, a recipient or a message was refused.
    Rejected(Rejection),
}

/// What became of a message for one recipient.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) enum Outcome {
    /// It is in the mail store, or another server took it.
    Delivered,
    /// It is tried again later.
    Deferred,
    /// It can't be delivered, its sender is told.
    Bounced,
    /// It was tried for too long, its sender is told.
    Expired,
}

/// Why smtpd(8) refused, in words of its own, of cleanup(8) or of a Milter.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) enum Rejection {
    /// The domain is not ours and the client is no trusted one.
    RelayDenied,
    /// Nobody declares the address.
    UnknownRecipient,
    /// The mailbox is switched off.
    MailboxDisabled,
    /// The message is larger than `message_size_limit`.
    TooLarge,
    /// For now: a look-up failed, the queue is full, there are too many clients, a Milter is away.
    Temporary,
    /// Anything else.
    Other,
}

impl Outcome {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Deferred => "deferred",
            Self::Bounced => "bounced",
            Self::Expired => "expired",
        }
    }
}

impl Rejection {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::RelayDenied => "relay_denied",
            Self::UnknownRecipient => "unknown_recipient",
            Self::MailboxDisabled => "mailbox_disabled",
            Self::TooLarge => "too_large",
            Self::Temporary => "temporary",
            Self::Other => "other",
        }
    }
}

/// What comes before ` limit exceeded: ` where smtpd(8) tells of a client that it puts off.
const CLIENT_LIMITS: [&str; 6] = [
    "Connection concurrency",
    "Connection rate",
    "Message delivery request rate",
    "Recipient address rate",
    "New TLS session rate",
    "AUTH command rate",
];

/// What a line tells of, if it is one of these.
pub(super) fn event(line: &str) -> Option<Event> {
    let (head, message) = line.split_once("]: ")?;
    let program = head.rsplit_once("postfix/")?.1.split('[').next()?;
    if program == "smtpd" && message.starts_with("connect from ") {
        return Some(Event::Connected);
    }
    let (id, words) = message.split_once(": ")?;
    if id == "warning" {
        return over_limit(program, words.trim_end()).map(Event::Rejected);
    }
    if !is_queue_id(id) {
        return None;
    }
    match program {
        "smtpd" => smtpd_refusal(words).map(Event::Rejected),
        "cleanup" if words.starts_with("message-id=") => Some(Event::Received),
        "cleanup" => cleanup_refusal(words.trim_end()).map(Event::Rejected),
        "qmgr" => has_expired(words).then_some(Event::Handled(Outcome::Expired)),
        _ => delivery(words).map(Event::Handled),
    }
}

/// A message's, or `NOQUEUE`.
fn is_queue_id(id: &str) -> bool {
    id.bytes().all(|c| c.is_ascii_alphanumeric())
}

/// `3F2504E04F89: queue file size limit exceeded`, or `Connection rate limit exceeded: 11 from host[10.0.0.9] for service
/// smtp`: the answer to the client is not logged.
fn over_limit(program: &str, words: &str) -> Option<Rejection> {
    if !["smtpd", "cleanup"].contains(&program) {
        return None;
    }
    if words.strip_suffix(": queue file size limit exceeded").is_some_and(is_queue_id) {
        return Some(Rejection::TooLarge);
    }
    let (limit, _) = words.split_once(" limit exceeded: ")?;
    CLIENT_LIMITS.contains(&limit).then_some(Rejection::Temporary)
}

/// `reject: RCPT from host[10.0.0.9]: 554 5.7.1 <...`, or what a Milter answered.
fn smtpd_refusal(words: &str) -> Option<Rejection> {
    let Some(words) = words.strip_prefix("reject: ") else { return milter_refusal(words) };
    words.split_once("]: ").map(|(_, answer)| rejection(answer))
}

/// `reject: header Subject: x from host[10.0.0.9]; from=<...> to=<...> proto=ESMTP helo=<z>: 5.7.1 <...`, where what the sender
/// wrote comes before the answer of `header_checks(5)`, or what a Milter answered.
fn cleanup_refusal(words: &str) -> Option<Rejection> {
    let Some(words) = words.strip_prefix("reject: ") else { return milter_refusal(words) };
    // The last of these marks: one that the sender wrote comes before it, and answers hold a colon, too.
    let mut answers = words.rmatch_indices(">: ").filter_map(|(at, mark)| words.get(at + mark.len()..));
    Some(of_milter_or_content(answers.find(|answer| has_status(answer)).unwrap_or_default()))
}

/// Whether words begin with the enhanced status code (RFC 3463) that cleanup(8) has before each answer.
fn has_status(words: &str) -> bool {
    let code = words.split(' ').next().unwrap_or_default();
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|c| c.is_ascii_digit());
    code.split('.').count() == 3 && code.split('.').all(is_number)
}

/// `milter-reject: END-OF-MESSAGE from host[10.0.0.9]: 5.7.1 <...`; smtpd(8) writes the code of SMTP before that.
fn milter_refusal(words: &str) -> Option<Rejection> {
    let (_, answer) = words.strip_prefix("milter-reject: ")?.split_once("]: ")?;
    Some(of_milter_or_content(answer))
}

fn of_milter_or_content(answer: &str) -> Rejection {
    if answer.starts_with('4') { Rejection::Temporary } else { Rejection::Other }
}

/// `from=<...>, status=expired, returned to sender`
fn has_expired(words: &str) -> bool {
    let status = words.strip_prefix("from=<").and_then(after_address);
    status.is_some_and(|status| {
        [", status=expired,", ", status=force-expired,"].iter().any(|sign| status.starts_with(sign))
    })
}

/// What comes after the `>` of an address whose `<` is before `words`. A quoted local part can hold anything.
fn after_address(words: &str) -> Option<&str> {
    let mut in_quotes = false;
    let mut characters = words.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' if in_quotes => {
                characters.next();
            }
            '"' => in_quotes = !in_quotes,
            '>' if !in_quotes => return words.get(at + 1..),
            _ => {}
        }
    }
    None
}

/// `554 5.7.1 <someone@example.net>: Relay access denied; from=<...`
fn rejection(answer: &str) -> Rejection {
    let words = answer.split("; from=<").next().unwrap_or_default();
    let words = words.rsplit_once(">: ").map_or(words, |(_, words)| words);
    if answer.starts_with('4') {
        Rejection::Temporary
    } else if words.starts_with("Relay access denied") {
        Rejection::RelayDenied
    } else if words.contains("User unknown") {
        Rejection::UnknownRecipient
    } else if words.contains("mailbox disabled") {
        Rejection::MailboxDisabled
    } else if words.contains("Message size exceeds") {
        Rejection::TooLarge
    } else {
        Rejection::Other
    }
}

/// `to=<...>, orig_to=<...>, relay=virtual, delay=0.01, delays=..., dsn=2.0.0, status=sent (delivered to maildir)`
fn delivery(words: &str) -> Option<Outcome> {
    let words = after_address(words.strip_prefix("to=<")?)?;
    let words = match words.strip_prefix(", orig_to=<") {
        Some(original) => after_address(original)?,
        None => words,
    };
    let (_, status) = words.strip_prefix(", relay=")?.split_once(", status=")?;
    match status.split(' ').next()? {
        "sent" => Some(Outcome::Delivered),
        "deferred" => Some(Outcome::Deferred),
        "bounced" => Some(Outcome::Bounced),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(program: &str, message: &str) -> Option<Event> {
        event(&format!("Nov 23 05:13:29 myhost postfix/{program}[225]: {message}\n"))
    }

    #[test]
    fn deliveries_are_told_apart() {
        let delivery = |status: &str| {
            let line = format!(
                "3F2504E04F89: to=<alfred@alpha.example.org>, relay=virtual, delay=0.06, delays=0.05/0/0/0.01, dsn=2.0.0, status={status}"
            );
            told("virtual", &line)
        };
        let handled = |outcome| Some(Event::Handled(outcome));
        assert_eq!(delivery("sent (delivered to maildir)"), handled(Outcome::Delivered));
        assert_eq!(delivery("deferred (connect to a: status=sent)"), handled(Outcome::Deferred));
        assert_eq!(delivery("bounced (unknown user: \"x\")"), handled(Outcome::Bounced));
        let aliased = "3F25: to=<a@x.org>, orig_to=<b@x.org>, relay=virtual, delay=0, delays=0/0/0/0, dsn=2.0.0, status=sent (ok)";
        assert_eq!(told("virtual", aliased), handled(Outcome::Delivered));
        let expired = "3F25: from=<a@x.org>, status=expired, returned to sender";
        assert_eq!(told("qmgr", expired), handled(Outcome::Expired));
        let forced = "3F25: from=<a@x.org>, status=force-expired, returned to sender";
        assert_eq!(told("qmgr", forced), handled(Outcome::Expired));
        assert_eq!(told("qmgr", "3F25: from=<a@x.org>, size=321, nrcpt=1 (queue active)"), None);
    }

    #[test]
    fn rejections_have_a_reason_from_a_closed_list() {
        for (words, reason) in [
            ("554 5.7.1 <someone@elsewhere.net>: Relay access denied", Rejection::RelayDenied),
            (
                "550 5.1.1 <nobody@alpha.org>: Recipient address rejected: User unknown in virtual mailbox table",
                Rejection::UnknownRecipient,
            ),
            (
                "550 5.1.1 <off@alpha.org>: Recipient address rejected: mailbox disabled",
                Rejection::MailboxDisabled,
            ),
            ("552 5.3.4 Message size exceeds fixed limit", Rejection::TooLarge),
            ("451 4.3.0 <alfred@alpha.org>: Temporary lookup failure", Rejection::Temporary),
            ("501 5.1.3 <Relay access denied>: Bad recipient address syntax", Rejection::Other),
        ] {
            let line = format!(
                "NOQUEUE: reject: RCPT from unknown[10.0.0.9]: {words}; from=<User unknown@x.org> to=<y> proto=ESMTP helo=<z>"
            );
            assert_eq!(told("smtpd", &line), Some(Event::Rejected(reason)), "{words}");
        }
    }

    #[test]
    fn refusals_that_are_not_smtpds_own_are_counted_too() {
        let after = "from=<a@x.org> to=<b@y.org> proto=ESMTP helo=<4.z>";
        for (program, line, reason) in [
            ("smtpd", "warning: 3F25: queue file size limit exceeded".to_owned(), Rejection::TooLarge),
            ("smtpd", "warning: NOQUEUE: queue file size limit exceeded".to_owned(), Rejection::TooLarge),
            ("cleanup", "warning: 3F25: queue file size limit exceeded".to_owned(), Rejection::TooLarge),
            (
                "smtpd",
                format!(
                    "NOQUEUE: milter-reject: RCPT from x[10.0.0.9]: 451 4.7.1 Service unavailable; {after}"
                ),
                Rejection::Temporary,
            ),
            (
                "smtpd",
                format!("3F25: milter-reject: RCPT from x[10.0.0.9]: 550 5.7.1 User unknown; {after}"),
                Rejection::Other,
            ),
            (
                "cleanup",
                format!("3F25: milter-reject: END-OF-MESSAGE from x[10.0.0.9]: 5.7.1 Spam; {after}"),
                Rejection::Other,
            ),
            (
                "cleanup",
                format!("3F25: milter-reject: END-OF-MESSAGE from x[10.0.0.9]: 4.7.1 Try again; {after}"),
                Rejection::Temporary,
            ),
            (
                "cleanup",
                format!("3F25: reject: header Subject: 4.7.1: x from y[10.0.0.9]; {after}: 5.7.1 no"),
                Rejection::Other,
            ),
            (
                "cleanup",
                format!("3F25: reject: body x from y[10.0.0.9]; {after}: 4.7.1 later"),
                Rejection::Temporary,
            ),
            (
                "cleanup",
                format!(
                    "3F25: reject: header Subject: <>: 5.7.1 x from y[10.0.0.9]; {after}: 4.7.1 Greylisted: later, see <http://z>: yes"
                ),
                Rejection::Temporary,
            ),
        ] {
            assert_eq!(told(program, &line), Some(Event::Rejected(reason)), "{line}");
        }
        for limit in CLIENT_LIMITS {
            let line = format!("warning: {limit} limit exceeded: 51 from x[10.0.0.9] for service smtp");
            assert_eq!(told("smtpd", &line), Some(Event::Rejected(Rejection::Temporary)), "{line}");
        }
        assert_eq!(
            told("cleanup", &format!("3F25: warning: header Subject: x from y[1]; {after}: no")),
            None
        );
        assert_eq!(
            told("cleanup", &format!("3F25: milter-hold: END-OF-MESSAGE from x[1]: no; {after}")),
            None
        );
        assert_eq!(told("virtual", "warning: 3F25: queue file size limit exceeded"), None);
    }

    #[test]
    fn messages_and_clients_are_counted_once() {
        assert_eq!(told("smtpd", "connect from unknown[10.0.0.9]"), Some(Event::Connected));
        assert_eq!(told("smtpd", "disconnect from unknown[10.0.0.9] quit=1 commands=1"), None);
        assert_eq!(told("smtpd", "3F25: client=unknown[10.0.0.9]"), None);
        // Postfix logs the header as it came: not every program puts it into angle brackets.
        for id in ["<a@b>", "abc", "<>"] {
            assert_eq!(told("cleanup", &format!("3F25: message-id={id}")), Some(Event::Received), "{id}");
        }
        assert_eq!(told("cleanup", "3F25: resent-message-id=<a@b>"), None);
        assert_eq!(told("master", "daemon started -- version 3.10.13"), None);
        assert_eq!(event("no line of Postfix"), None);
    }

    #[test]
    fn what_a_client_writes_is_no_event() {
        for (program, line) in [
            ("smtpd", "warning: non-SMTP command from unknown[10.0.0.9]: postfix/smtpd[1]: connect from x"),
            ("smtpd", "warning: non-SMTP command from unknown[10.0.0.9]: GET x: reject: y[1]: 554 z"),
            ("smtpd", "warning: non-SMTP command from unknown[10.0.0.9]: x: queue file size limit exceeded"),
            (
                "smtpd",
                "warning: non-SMTP command from unknown[10.0.0.9]: Connection rate limit exceeded: 1 from x",
            ),
            ("qmgr", "3F25: from=<\"x, status=expired\"@evil.org>, size=321, nrcpt=1 (queue active)"),
            ("qmgr", "3F25: from=<\"x>, status=expired,\"@evil.org>, size=321, nrcpt=1 (queue active)"),
        ] {
            assert_eq!(told(program, line), None, "{line}");
        }
        for to in
            ["\"x>, status=sent\"@alpha.org", "\"x>, relay=y, status=sent z\"@alpha.org", "\"a\\\"b\"@x.org"]
        {
            let line = format!("3F25: to=<{to}>, relay=virtual, dsn=5.1.1, status=bounced (x)");
            assert_eq!(told("virtual", &line), Some(Event::Handled(Outcome::Bounced)), "{line}");
        }
    }
}
