use std::sync::{Arc, Mutex, MutexGuard};

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use k8s_openapi::api::coordination::v1::LeaseSpec;
use serde_json::Value;

use super::*;
use crate::testing::failure;

/// One Lease in an API server, in the version that its number of writes is.
#[derive(Clone, Default)]
struct Leases(Arc<Mutex<(Option<Lease>, u64)>>);

type Answer = (StatusCode, Json<Value>);

impl Leases {
    fn stored(&self) -> MutexGuard<'_, (Option<Lease>, u64)> {
        self.0.lock().unwrap()
    }

    fn replica(&self, name: &str) -> Leadership {
        let leases = "/apis/coordination.k8s.io/v1/namespaces/mail/leases";
        let routes = Router::new()
            .route(leases, post(create))
            .route(&format!("{leases}/{{name}}"), get(read).put(replace))
            .with_state(self.clone());
        Leadership::new(Client::new(routes, "mail"), "mail", "vmail", name)
    }

    fn spec(&self) -> LeaseSpec {
        self.stored().0.as_ref().unwrap().spec.clone().unwrap()
    }

    fn writes(&self) -> u64 {
        self.stored().1
    }

    fn write(&self, mut lease: Lease) -> Answer {
        let mut stored = self.stored();
        stored.1 += 1;
        lease.metadata.resource_version = Some(stored.1.to_string());
        stored.0 = Some(lease.clone());
        (StatusCode::OK, Json(serde_json::to_value(lease).unwrap()))
    }
}

fn refused(code: u16, reason: &str) -> Answer {
    let (code, answer) = failure(code, reason, "no");
    (StatusCode::from_u16(code).unwrap(), Json(answer))
}

async fn read(State(leases): State<Leases>, Path(_): Path<String>) -> Answer {
    let found = leases.stored().0.clone();
    found.map_or_else(
        || refused(404, "NotFound"),
        |lease| (StatusCode::OK, Json(serde_json::to_value(lease).unwrap())),
    )
}

async fn create(State(leases): State<Leases>, Json(lease): Json<Lease>) -> Answer {
    if leases.stored().0.is_some() { refused(409, "AlreadyExists") } else { leases.write(lease) }
}

async fn replace(State(leases): State<Leases>, Path(_): Path<String>, Json(lease): Json<Lease>) -> Answer {
    let stored = leases.stored().0.clone();
    match stored {
        None => refused(404, "NotFound"),
        Some(stored) if stored.metadata.resource_version != lease.metadata.resource_version => {
            refused(409, "Conflict")
        }
        Some(_) => leases.write(lease),
    }
}

#[tokio::test]
async fn who_comes_first_holds_it_and_the_other_is_told_who() {
    let leases = Leases::default();
    let (mut first, mut second) = (leases.replica("a"), leases.replica("b"));
    first.gained().await.unwrap();
    assert_eq!(second.attempt().await.unwrap().as_deref(), Some("a"));
    let spec = leases.spec();
    assert_eq!((spec.lease_duration_seconds, spec.lease_transitions), (Some(15), Some(1)));
    assert!(spec.acquire_time.is_some() && spec.acquire_time == spec.renew_time);
}

#[tokio::test]
async fn a_renewal_is_one_write_and_tells_nothing_but_the_time() {
    let leases = Leases::default();
    let mut holder = leases.replica("a");
    holder.gained().await.unwrap();
    let (before, writes) = (leases.spec(), leases.writes());
    holder.renew().await.unwrap();
    let after = leases.spec();
    assert!(after.renew_time > before.renew_time);
    assert_eq!(LeaseSpec { renew_time: before.renew_time.clone(), ..after }, before);
    assert_eq!(leases.writes(), writes + 1);
}

#[tokio::test]
async fn of_two_that_saw_the_same_lease_one_gets_it() {
    let leases = Leases::default();
    let (mut first, mut second) = (leases.replica("a"), leases.replica("b"));
    first.gained().await.unwrap();
    first.give_back().await;
    let seen = second.get().await.unwrap().unwrap();
    first.gained().await.unwrap();
    let late = second.replace(taken(seen, "b", Timestamp::now())).await;
    assert!(late.unwrap_err().is_conflict());
    assert_eq!(leases.spec().holder_identity.as_deref(), Some("a"));
}

#[tokio::test]
async fn who_gives_it_back_leaves_nothing_to_wait_for() {
    let leases = Leases::default();
    let (mut first, mut second) = (leases.replica("a"), leases.replica("b"));
    first.gained().await.unwrap();
    // As where the process ends in the middle of a renewal.
    first.held = None;
    first.give_back().await;
    assert_eq!(leases.spec(), LeaseSpec { lease_transitions: Some(1), ..LeaseSpec::default() });
    assert_eq!(second.attempt().await.unwrap(), None);
    assert_eq!(leases.spec().lease_transitions, Some(2));
    first.give_back().await;
    assert_eq!(leases.spec().holder_identity.as_deref(), Some("b"));
}

#[tokio::test]
async fn a_replica_that_starts_again_takes_its_own_lease_at_once() {
    let leases = Leases::default();
    leases.replica("a").gained().await.unwrap();
    let acquired = leases.spec().acquire_time;
    leases.replica("a").gained().await.unwrap();
    assert_eq!((leases.spec().lease_transitions, leases.spec().acquire_time), (Some(1), acquired));
}

#[tokio::test]
async fn a_lease_that_somebody_took_is_lost_and_one_that_was_removed_is_made_anew() {
    let leases = Leases::default();
    let mut holder = leases.replica("a");
    holder.gained().await.unwrap();
    leases.stored().0 = None;
    holder.renew().await.unwrap();
    assert_eq!(leases.spec().holder_identity.as_deref(), Some("a"));
    let stolen = taken(holder.get().await.unwrap().unwrap(), "b", Timestamp::now());
    holder.replace(stolen).await.unwrap();
    assert!(matches!(holder.renew().await, Err(Error::Lost)));
}

#[tokio::test]
async fn who_may_not_ask_is_told_at_once() {
    let routes = Router::new().fallback(async || refused(403, "Forbidden"));
    let mut replica = Leadership::new(Client::new(routes, "mail"), "mail", "vmail", "a");
    assert!(matches!(replica.gained().await, Err(Error::Api(error)) if error.is_forbidden()));
}

/// Whatever its own clock says: that of another node may be minutes off.
#[test]
fn a_lease_is_over_when_nobody_renews_it() {
    let (mut observed, start) = (Observed::default(), Instant::now());
    let mut is_over_at = |seconds, version: &str| {
        let mut lease = new("vmail", "a", Timestamp::UNIX_EPOCH);
        lease.metadata.resource_version = Some(version.to_owned());
        let asked = start + Duration::from_secs(seconds);
        observed.is_over(&lease, asked, asked + Duration::from_secs(1))
    };
    assert!(!is_over_at(0, "1"));
    assert!(!is_over_at(16, "1"));
    assert!(!is_over_at(17, "2"));
    assert!(!is_over_at(33, "2"));
    assert!(is_over_at(34, "2"));
}

#[tokio::test]
async fn a_lease_that_nobody_renews_is_taken() {
    let leases = Leases::default();
    let (mut first, mut second) = (leases.replica("a"), leases.replica("b"));
    first.gained().await.unwrap();
    let version = leases.writes().to_string();
    second.observed = Observed::since(version, Instant::now().checked_sub(Duration::from_secs(16)).unwrap());
    assert_eq!(second.attempt().await.unwrap(), None);
    assert_eq!(leases.spec().holder_identity.as_deref(), Some("b"));
    assert!(matches!(first.renew().await, Err(Error::Lost)));
}

#[tokio::test]
async fn who_never_had_it_leaves_it_alone() {
    let leases = Leases::default();
    leases.replica("a").gained().await.unwrap();
    let writes = leases.writes();
    leases.replica("a").give_back().await;
    assert_eq!(leases.writes(), writes);
}

#[tokio::test]
async fn a_lease_that_can_not_be_renewed_is_given_up_before_it_ends() {
    let leases = Leases::default();
    let mut holder = leases.replica("a");
    holder.gained().await.unwrap();
    let never = Router::new().fallback(std::future::pending::<Answer>);
    holder.api = Api::namespaced(Client::new(never, "mail"), "mail");
    holder.renewed = Instant::now().checked_sub(RENEWAL_LIMIT).unwrap();
    assert!(matches!(holder.renew().await, Err(Error::NotRenewed)));
}
