//! What the checks found, as data and as lines.

use std::fmt;

use serde::Serialize;

/// All checks of a `MailServer`.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Report {
    /// The `MailServer`, as namespace/name.
    pub server: String,
    /// One line each.
    pub checks: Vec<Check>,
}

/// One check.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Check {
    /// The pod that was asked, where it was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// What was checked.
    pub name: String,
    /// Whether it is as it should be.
    pub ok: bool,
    /// What was found and, where it is not as it should be, what to do.
    pub message: String,
}

impl Check {
    pub(super) fn ok(name: &str, message: impl Into<String>) -> Self {
        Self { pod: None, name: name.to_owned(), ok: true, message: message.into() }
    }

    pub(super) fn failed(name: &str, message: impl Into<String>) -> Self {
        Self { ok: false, ..Self::ok(name, message) }
    }

    pub(super) fn of(self, pod: &str) -> Self {
        Self { pod: Some(pod.to_owned()), ..self }
    }
}

impl Report {
    /// 0 where every check is ok, else 1.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        u8::from(self.checks.iter().any(|check| !check.ok))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Check { pod, name, ok, message } in &self.checks {
            let verdict = if *ok { "ok" } else { "FAILED" };
            let pod = pod.as_deref().unwrap_or("-");
            // A message may be another program's; each check stays one line.
            let message = message.split_whitespace().collect::<Vec<_>>().join(" ");
            writeln!(f, "{verdict:<6}  {pod:<18}  {name:<12}  {message}")?;
        }
        Ok(())
    }
}
