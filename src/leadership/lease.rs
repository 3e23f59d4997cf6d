//! What a Lease says, and what is written into it. Pure.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::ObjectMeta;
use tokio::time::Instant;

use super::DURATION;

/// The version of a Lease that was seen last, and since when. The clocks of two nodes need not agree: that nobody renews a Lease
/// is seen by its not changing.
#[derive(Default)]
pub(super) struct Observed(Option<(String, Instant)>);

impl Observed {
    #[cfg(test)]
    pub(super) fn since(version: String, since: Instant) -> Self {
        Self(Some((version, since)))
    }

    /// Whether a Lease that was read between two moments has not been renewed for as long as it lasts.
    pub(super) fn is_over(&mut self, lease: &Lease, asked: Instant, answered: Instant) -> bool {
        let version = lease.metadata.resource_version.as_deref().unwrap_or_default();
        match &self.0 {
            Some((seen, since)) if seen == version => asked.duration_since(*since) > duration(lease),
            _ => {
                self.0 = Some((version.to_owned(), answered));
                false
            }
        }
    }
}

/// Who holds a Lease; nobody, where it was given back.
pub(super) fn holder(lease: &Lease) -> Option<&str> {
    lease.spec.as_ref()?.holder_identity.as_deref().filter(|holder| !holder.is_empty())
}

fn duration(lease: &Lease) -> Duration {
    let seconds = lease.spec.as_ref().and_then(|spec| spec.lease_duration_seconds);
    seconds.and_then(|seconds| u64::try_from(seconds).ok()).map_or(DURATION, Duration::from_secs)
}

/// A Lease that nobody had before.
pub(super) fn new(name: &str, replica: &str, now: Timestamp) -> Lease {
    let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
    taken(Lease { metadata, spec: None }, replica, now)
}

/// A Lease that `replica` takes.
pub(super) fn taken(lease: Lease, replica: &str, now: Timestamp) -> Lease {
    let changes_hands = holder(&lease) != Some(replica);
    let spec = lease.spec.unwrap_or_default();
    let spec = LeaseSpec {
        holder_identity: Some(replica.to_owned()),
        lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
        acquire_time: if changes_hands { Some(MicroTime(now)) } else { spec.acquire_time },
        renew_time: Some(MicroTime(now)),
        lease_transitions: Some(spec.lease_transitions.unwrap_or(0) + i32::from(changes_hands)),
        ..spec
    };
    Lease { spec: Some(spec), ..lease }
}

/// The same Lease for another while.
pub(super) fn renewed(lease: Lease, now: Timestamp) -> Lease {
    let spec = lease.spec.map(|spec| LeaseSpec { renew_time: Some(MicroTime(now)), ..spec });
    Lease { spec, ..lease }
}

/// A Lease that its holder gives back.
pub(super) fn free(lease: Lease) -> Lease {
    let spec = lease
        .spec
        .map(|spec| LeaseSpec { lease_transitions: spec.lease_transitions, ..LeaseSpec::default() });
    Lease { spec, ..lease }
}
