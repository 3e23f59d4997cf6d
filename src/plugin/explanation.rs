//! An explanation as data, and as text for people.

use std::fmt;

use serde::Serialize;

use super::declared::Status;
use super::rows::ToldRow;

/// What happens to mail for an address, and why.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Explanation {
    /// The address, lower-cased.
    pub address: String,
    /// How Postfix gets to the verdict.
    pub steps: Vec<Step>,
    /// What happens in the end.
    pub verdict: Verdict,
    /// Why the verdict may be wrong; empty where it is sure.
    pub doubts: Vec<String>,
}

/// One step on the way.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Step {
    /// What is looked at or done.
    pub title: String,
    /// The objects behind it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub objects: Vec<Status>,
    /// The rows behind it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rows: Vec<ToldRow>,
    /// What else there is to say.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub facts: Vec<String>,
}

/// What happens in the end.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Verdict {
    /// In one word.
    pub outcome: Outcome,
    /// Postfix's reply to RCPT TO, where it is not 250.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply: Option<String>,
    /// Why, where the mail does not arrive.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Where the mail goes.
    pub destinations: Vec<Destination>,
}

/// What happens in one word.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub enum Outcome {
    /// Every recipient's mail is delivered here or handed on.
    Accepted,
    /// Postfix refuses it at RCPT TO.
    Refused,
    /// Postfix keeps it in the queue and tries again.
    Deferred,
    /// Postfix accepts it, and the sender gets a report that some of it could not be delivered.
    Bounced,
}

/// Where one recipient's mail goes.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Destination {
    /// The recipient after all aliases.
    pub recipient: String,
    /// What is done with it.
    pub way: Way,
    /// A path, a transport, a next hop, or why it bounces.
    pub place: String,
}

/// What is done with one recipient's mail.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub enum Way {
    /// Into a mailbox of this server.
    Delivered,
    /// To another server.
    Forwarded,
    /// Back to the sender.
    Bounced,
}

impl Verdict {
    pub(super) fn refused(reply: String, reason: String) -> Self {
        Self { outcome: Outcome::Refused, reply: Some(reply), reason, destinations: Vec::new() }
    }

    pub(super) fn deferred(reply: String, reason: String) -> Self {
        Self { outcome: Outcome::Deferred, ..Self::refused(reply, reason) }
    }

    pub(super) fn accepted(destinations: Vec<Destination>) -> Self {
        let bounces = destinations.iter().any(|destination| destination.way == Way::Bounced);
        let outcome = if bounces { Outcome::Bounced } else { Outcome::Accepted };
        Self { outcome, reply: None, reason: String::new(), destinations }
    }
}

impl Explanation {
    /// 0 where all of the mail arrives or is handed on, 1 where it is refused, deferred or bounces, 3 where that can't
    /// be told.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self.verdict.outcome {
            _ if !self.doubts.is_empty() => 3,
            Outcome::Accepted => 0,
            Outcome::Refused | Outcome::Deferred | Outcome::Bounced => 1,
        }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.address)?;
        for (number, step) in (1..).zip(&self.steps) {
            writeln!(f, "\n{number}. {}", step.title)?;
            for object in &step.objects {
                writeln!(f, "     {}", told(object))?;
            }
            for row in &step.rows {
                writeln!(f, "     row in {row}")?;
            }
            for fact in &step.facts {
                writeln!(f, "     {fact}")?;
            }
        }
        writeln!(f)?;
        if !self.doubts.is_empty() {
            writeln!(f, "can't tell for sure:")?;
            for doubt in &self.doubts {
                writeln!(f, "     {doubt}")?;
            }
            writeln!(f, "as far as it is known:")?;
        }
        write!(f, "{}", self.verdict)
    }
}

/// An object with its conditions: `Mailbox mail/alfred: Synced`.
fn told(object: &Status) -> String {
    let conditions = object.conditions.iter().map(|condition| match condition.status.as_str() {
        "True" if condition.type_ == "Ready" => condition.reason.clone(),
        _ => format!("{}={} {}: {}", condition.type_, condition.status, condition.reason, condition.message),
    });
    let conditions: Vec<String> = conditions.collect();
    if conditions.is_empty() {
        return format!("{}: no status yet", object.object);
    }
    format!("{}: {}", object.object, conditions.join("; "))
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.outcome {
            Outcome::Refused => write!(f, "refused")?,
            Outcome::Deferred => write!(f, "deferred")?,
            Outcome::Accepted | Outcome::Bounced => {}
        }
        if let Some(reply) = &self.reply {
            write!(f, " with {reply}")?;
        }
        if !self.reason.is_empty() {
            writeln!(f, "\n     {}", self.reason)?;
        }
        for Destination { recipient, way, place } in &self.destinations {
            match way {
                Way::Delivered => writeln!(f, "delivered to {recipient}, in {place}")?,
                Way::Forwarded => writeln!(f, "forwarded to {recipient}, through {place}")?,
                Way::Bounced => writeln!(f, "accepted, then bounced to the sender for {recipient}: {place}")?,
            }
        }
        Ok(())
    }
}
