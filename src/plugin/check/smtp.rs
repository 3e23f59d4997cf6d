//! An SMTP dialogue up to RCPT TO, with recipients whose answers are known. No mail is sent.

use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};

use super::report::Check;
use crate::api::Address;
use crate::plugin::declared::Declared;
use crate::plugin::explain::explain;
use crate::plugin::explanation::Outcome;

/// How long Postfix may take for a reply: a session of a stranger's may hold it up.
const LIMIT: Duration = Duration::from_secs(20);

/// A local part that nobody declares.
const NOBODY: &str = "nobody-declares-this-address";

/// A domain that nobody has (RFC 6761).
const FOREIGN: &str = "someone@kubectl-vmail.invalid";

/// A recipient, and whether Postfix has to take it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Question {
    recipient: String,
    is_taken: bool,
    /// What is asked with it.
    what: &'static str,
}

/// A declared address, one that nobody declares in the same domain, and one of a foreign domain: that one only where no
/// network may relay, because the dialogue comes from the pod itself.
pub(super) fn questions(
    declared: &Declared,
    sample: Option<&Address>,
    trusts_networks: bool,
) -> Vec<Question> {
    let mut questions = Vec::new();
    if let Some(address) = sample {
        questions.push(Question {
            recipient: address.to_string(),
            is_taken: true,
            what: "a declared address",
        });
        if let Ok(nobody) = Address::parse(&format!("{NOBODY}@{}", address.domain())) {
            let is_taken = explain(declared, &nobody).verdict.outcome != Outcome::Refused;
            let what = if is_taken {
                "an undeclared address that a catch-all takes"
            } else {
                "an undeclared address"
            };
            questions.push(Question { recipient: nobody.to_string(), is_taken, what });
        }
    }
    if !trusts_networks {
        questions.push(Question { recipient: FOREIGN.to_owned(), is_taken: false, what: "a foreign domain" });
    }
    questions
}

/// Holds the dialogue; where it breaks off, the last check says so.
pub(super) async fn ask(stream: impl AsyncRead + AsyncWrite + Unpin, questions: &[Question]) -> Vec<Check> {
    let mut checks = Vec::new();
    if let Err(error) = converse(stream, questions, &mut checks).await {
        checks.push(Check::failed(
            "smtp",
            format!("the dialogue broke off: {error}: see `kubectl logs` of the pod"),
        ));
    }
    checks
}

async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    questions: &[Question],
    checks: &mut Vec<Check>,
) -> std::io::Result<()> {
    let mut session = Session(BufReader::new(stream));
    let greeting = session.reply().await?;
    if !greeting.starts_with("220") {
        checks.push(Check::failed(
            "smtp",
            format!("Postfix greets with {}: see `kubectl logs` of the pod", last_line(&greeting)),
        ));
        return Ok(());
    }
    checks.push(Check::ok("smtp", last_line(&greeting)));
    let offered = session.say("EHLO kubectl-vmail.invalid").await?;
    // The null sender, which every server has to take (RFC 5321 section 6.1).
    let sender = session.say("MAIL FROM:<>").await?;
    if !sender.starts_with('2') {
        let reply = last_line(&sender);
        checks.push(if sender.starts_with("530") { without_tls(&offered, reply) } else { no_mail(reply) });
        session.say("QUIT").await?;
        return Ok(());
    }
    for question in questions {
        let reply = session.say(&format!("RCPT TO:<{}>", question.recipient)).await?;
        checks.push(question.judge(last_line(&reply)));
    }
    session.say("RSET").await?;
    session.say("QUIT").await?;
    Ok(())
}

/// A server that is told to take mail with TLS only (`smtpd_tls_security_level = encrypt`).
fn without_tls(offered: &str, reply: &str) -> Check {
    if offered.lines().any(|line| line.get(4..).is_some_and(|word| word.trim() == "STARTTLS")) {
        let told = "Postfix takes mail with TLS only, which is not tried here: no recipient is asked";
        Check::ok("smtp", format!("{told}: {reply}"))
    } else {
        let told = "Postfix takes mail with TLS only and offers none, so it takes no mail";
        Check::failed("smtp", format!("{told}: {reply}: see the condition ConfigValid and postfix.tls"))
    }
}

/// A queue that is nearly full (452), say: no recipient would be taken either.
fn no_mail(reply: &str) -> Check {
    Check::failed("smtp", format!("Postfix takes no mail now: {reply}: see `kubectl logs` of the pod"))
}

fn last_line(reply: &str) -> &str {
    reply.lines().last().unwrap_or_default()
}

impl Question {
    fn judge(&self, reply: &str) -> Check {
        let Self { recipient, is_taken, what } = self;
        let told = format!("{what}, {recipient}: {reply}");
        let (as_it_should, should) =
            if *is_taken { (reply.starts_with('2'), "taken") } else { (reply.starts_with('5'), "refused") };
        if as_it_should {
            Check::ok("smtp", told)
        } else {
            let message = format!(
                "{told}: it should be {should}: see `kubectl vmail explain {recipient}` and the mail log"
            );
            Check::failed("smtp", message)
        }
    }
}

/// An SMTP session, line by line.
struct Session<S>(BufReader<S>);

impl<S: AsyncRead + AsyncWrite + Unpin> Session<S> {
    async fn say(&mut self, line: &str) -> std::io::Result<String> {
        self.0.write_all(format!("{line}\r\n").as_bytes()).await?;
        self.0.flush().await?;
        self.reply().await
    }

    /// The lines of a reply.
    async fn reply(&mut self) -> std::io::Result<String> {
        let mut reply = String::new();
        loop {
            let mut line = String::new();
            let read = tokio::time::timeout(LIMIT, self.0.read_line(&mut line)).await;
            if read.map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))?? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            reply.push_str(&line);
            if line.as_bytes().get(3) != Some(&b'-') {
                return Ok(reply.trim_end().to_owned());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that says these lines, one after each line that it hears.
    async fn against(lines: &'static [&'static str]) -> Vec<Check> {
        let (near, far) = tokio::io::duplex(1024);
        tokio::spawn(async move {
            let mut far = BufReader::new(far);
            for line in lines {
                far.write_all(format!("{line}\r\n").as_bytes()).await.unwrap();
                far.read_line(&mut String::new()).await.unwrap();
            }
        });
        let question =
            |recipient: &str, is_taken| Question { recipient: recipient.to_owned(), is_taken, what: "x" };
        ask(near, &[question("a@alpha.example.org", true), question("b@alpha.example.org", false)]).await
    }

    fn oks(checks: &[Check]) -> Vec<bool> {
        checks.iter().map(|check| check.ok).collect()
    }

    #[tokio::test]
    async fn replies_are_judged_one_by_one() {
        let good = against(&[
            "220 a",
            "250-a\r\n250 DSN",
            "250 Ok",
            "250 Ok",
            "550 5.1.1 unknown",
            "250 Ok",
            "221 Bye",
        ]);
        assert_eq!(oks(&good.await), [true; 3]);
        let open = against(&["220 a", "250 a", "250 Ok", "451 later", "250 Ok", "250 Ok", "221 Bye"]).await;
        assert_eq!(oks(&open), [true, false, false]);
        assert!(open[2].message.contains("it should be refused"));
    }

    #[tokio::test]
    async fn a_server_that_wants_tls_is_well_if_it_offers_it() {
        const REPLY: &str = "530 5.7.0 Must issue a STARTTLS command first";
        let offered = against(&["220 a", "250-a\r\n250-STARTTLS\r\n250 DSN", REPLY, "221 Bye"]).await;
        assert_eq!(oks(&offered), [true, true]);
        assert!(offered[1].message.contains("no recipient is asked"));
        let missing = against(&["220 a", "250-STARTTLS.example.org\r\n250 DSN", REPLY, "221 Bye"]).await;
        assert_eq!(oks(&missing), [true, false]);
    }

    #[tokio::test]
    async fn a_server_that_takes_no_mail_is_asked_for_no_recipient() {
        let full = against(&["220 a", "250 a", "452 4.3.1 Insufficient system storage", "221 Bye"]).await;
        assert_eq!(oks(&full), [true, false]);
        let told = "Postfix takes no mail now: 452 4.3.1 Insufficient system storage";
        assert!(full[1].message.starts_with(told), "{}", full[1].message);
    }

    #[tokio::test]
    async fn a_server_that_does_not_greet_or_goes_away_is_a_failure() {
        assert_eq!(oks(&against(&["421 busy"]).await), [false]);
        let gone = against(&["220 a", "250 a"]).await;
        assert_eq!(oks(&gone), [true, false]);
        assert!(gone[1].message.starts_with("the dialogue broke off"));
    }
}
