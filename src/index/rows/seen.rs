//! What an object's status says, as far as a patch depends on it.

use std::hash::{DefaultHasher, Hash, Hasher};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

/// The condition that every account object carries.
pub const READY: &str = "Ready";

/// The condition of an object that is in order and probably not as it was meant; it is there only while it is `True`.
pub const WARNING: &str = "Warning";

/// What an object's status said when it was last seen.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct SeenStatus {
    /// Version of the object that said so ([`version_of`]).
    pub version: u64,
    /// Hash of everything in the status but its times; 0 where there is none.
    pub fingerprint: u64,
    /// Hash of the conditions alone, without their times.
    pub told: u64,
    /// Transition time of `Ready`, needed to keep it when another field changes.
    pub ready_since: Option<(bool, jiff::Timestamp)>,
    /// Transition time of `Warning`, if the object carries one.
    pub warning_since: Option<jiff::Timestamp>,
}

impl SeenStatus {
    /// Whether the object has no status yet.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.fingerprint == 0
    }

    pub(super) fn of(observed_generation: Option<i64>, conditions: &[Condition], fields: impl Hash) -> Self {
        let of_type = |type_: &str| conditions.iter().find(|condition| condition.type_ == type_);
        Self {
            version: 0,
            fingerprint: status_fingerprint(observed_generation, conditions, fields),
            told: status_fingerprint(observed_generation, conditions, ()),
            ready_since: of_type(READY)
                .map(|condition| (condition.status == "True", condition.last_transition_time.0)),
            warning_since: of_type(WARNING).map(|condition| condition.last_transition_time.0),
        }
    }
}

/// The number that a `resourceVersion` is (as etcd counts, and Kubernetes compares them since 1.35), which takes less room than
/// its text; 0 where it is none.
#[must_use]
pub fn version_of(resource_version: Option<&str>) -> u64 {
    // What is not written as it was read could not be given back.
    let plain = resource_version.filter(|text| !text.starts_with(['+', '0']));
    plain.and_then(|text| text.parse().ok()).unwrap_or_default()
}

/// Hash of a status without its times: equal for two statuses that need no patch between them.
#[must_use]
pub fn status_fingerprint(
    observed_generation: Option<i64>,
    conditions: &[Condition],
    fields: impl Hash,
) -> u64 {
    let mut hasher = DefaultHasher::new();
    observed_generation.hash(&mut hasher);
    for condition in conditions {
        (
            &condition.type_,
            &condition.status,
            &condition.reason,
            &condition.message,
            condition.observed_generation,
        )
            .hash(&mut hasher);
    }
    fields.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_a_number_that_is_written_as_it_was_read() {
        assert_eq!(version_of(Some("4711")), 4711);
        for other in [None, Some(""), Some("0"), Some("007"), Some("+7"), Some("-7"), Some("7a")] {
            assert_eq!(version_of(other), 0, "{other:?}");
        }
    }
}
