//! Conditions as kstatus, Argo CD and Flux read them, and the fixed list of reasons.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// Why a condition is as it is. The list is closed: `docs/conditions.md` says of each what it means.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Reason {
    /// What Postfix looks up, rows or lines of files, is as declared.
    Synced,
    /// Something of a `MailServer` is not known yet, or on its way. Accounts never say it: they say what is, or what
    /// stands in the way.
    Pending,
    /// No `MailDomain` declares the domain of the address, or one that an admin is to manage.
    UnknownDomain,
    /// The `MailServer` that `serverRef` names does not exist.
    UnknownServer,
    /// The object's namespace may not use the `MailDomain` or `MailServer` that it needs.
    NotAllowed,
    /// An older object declares the same address or domain.
    Conflict,
    /// The database refused the object's row.
    RowRefused,
    /// A row that nobody declared stands where this object's row would go.
    RowExists,
    /// The object is over a limit of its `MailDomain`; or a `MailServer` has more accounts than look-up files hold.
    LimitExceeded,
    /// The alias would lead back to itself: Postfix would defer every message that reaches it.
    AliasLoop,
    /// The alias expands to more addresses than Postfix takes.
    TooManyTargets,
    /// Mail goes to an address of a served domain that nobody declares, and would bounce (a warning).
    UndeclaredTarget,
    /// Mail goes to a mailbox that is switched off (a warning).
    DisabledMailbox,
    /// The given password hash is of a weak scheme (a warning).
    WeakPassword,
    /// A Secret that is named (a password, an account, a certificate) does not exist.
    SecretNotFound,
    /// The Secret exists and has no such key, or its value can't be stored.
    SecretInvalid,
    /// The database can't be reached or refuses the account.
    DatabaseUnavailable,
    /// The database is reached and is not one that can be used, or not for this object.
    DatabaseInvalid,
    /// Rows that somebody else had changed were corrected (an event, never a condition).
    DriftCorrected,
    /// Rows that somebody else changed are left as they are, as `drift: Report` asks.
    DriftDetected,
    /// More deletions than `massDeletion` allows are held back.
    DeletionsHeld,
    /// Postfix is not running yet.
    PostfixStarting,
    /// Postfix stopped, or did not start.
    PostfixFailed,
    /// The rendered configuration was refused, or waits to be confirmed.
    ConfigInvalid,
    /// The object's spec can't be used as it is.
    Invalid,
    /// Everything that the object needs is in place.
    Ready,
}

impl Reason {
    /// The name as it stands in `reason`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Synced => "Synced",
            Self::Pending => "Pending",
            Self::UnknownDomain => "UnknownDomain",
            Self::UnknownServer => "UnknownServer",
            Self::NotAllowed => "NotAllowed",
            Self::Conflict => "Conflict",
            Self::RowRefused => "RowRefused",
            Self::RowExists => "RowExists",
            Self::LimitExceeded => "LimitExceeded",
            Self::AliasLoop => "AliasLoop",
            Self::TooManyTargets => "TooManyTargets",
            Self::UndeclaredTarget => "UndeclaredTarget",
            Self::DisabledMailbox => "DisabledMailbox",
            Self::WeakPassword => "WeakPassword",
            Self::SecretNotFound => "SecretNotFound",
            Self::SecretInvalid => "SecretInvalid",
            Self::DatabaseUnavailable => "DatabaseUnavailable",
            Self::DatabaseInvalid => "DatabaseInvalid",
            Self::DriftCorrected => "DriftCorrected",
            Self::DriftDetected => "DriftDetected",
            Self::DeletionsHeld => "DeletionsHeld",
            Self::PostfixStarting => "PostfixStarting",
            Self::PostfixFailed => "PostfixFailed",
            Self::ConfigInvalid => "ConfigInvalid",
            Self::Invalid => "Invalid",
            Self::Ready => "Ready",
        }
    }
}

/// A condition of `type_`. Keeps the transition time of `previous` where the status did not change.
#[must_use]
pub fn condition(
    type_: &str,
    (status, reason, message): (bool, Reason, String),
    generation: i64,
    previous: &[Condition],
    now: Timestamp,
) -> Condition {
    let status = if status { "True" } else { "False" };
    let since = previous
        .iter()
        .find(|c| c.type_ == type_ && c.status == status)
        .map(|c| c.last_transition_time.clone());
    Condition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: reason.as_str().to_owned(),
        message,
        observed_generation: Some(generation),
        last_transition_time: since.unwrap_or(Time(now)),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_reason_is_documented() {
        let documentation = include_str!("../../docs/conditions.md");
        let names = include_str!("condition.rs").lines().filter_map(|line| {
            let (variant, name) = line.trim().strip_prefix("Self::")?.split_once(" => \"")?;
            Some((variant, name.strip_suffix("\",")?))
        });
        let mut count = 0;
        for (variant, name) in names {
            assert_eq!(variant, name);
            assert!(documentation.contains(&format!("`{name}`")), "{name} is not in docs/conditions.md");
            count += 1;
        }
        assert!(count > 20, "{count} reasons");
    }
}
