//! An API server that goes away: the operator goes on by itself when it is back, and misses nothing.
//!
//! A tier of its own: the tests of the others need the API server all the time.

use std::process::Command;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::Api;
use kube::api::DeleteParams;
use serde_json::json;
use vmail_operator::api::{FIELD_MANAGER, MailServer, Mailbox};

use crate::bed::Bed;
use crate::cluster::eventually;
use crate::mariadb::MariaDb;

const LIMIT: Duration = Duration::from_mins(2);

/// How long after an outage everything is as before.
const SOON: Duration = Duration::from_secs(30);

/// One outage at a time.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Runs a command of the test cluster, which a variable names.
fn cluster(variable: &str, arguments: &[&str]) {
    let command =
        std::env::var(variable).unwrap_or_else(|_| panic!("{variable} is not set: `make test` sets it"));
    let mut words = command.split_whitespace();
    let mut command = Command::new(words.next().unwrap());
    command.args(words).args(arguments).current_dir(env!("CARGO_MANIFEST_DIR"));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn restart_api_server() {
    cluster("VMAIL_RESTART", &["kube-apiserver"]);
}

/// Keeps the API server from answering, until it is dropped.
struct Silence;

impl Silence {
    fn begin() -> Self {
        cluster("VMAIL_SIGNAL", &["kube-apiserver", "STOP"]);
        Self
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        cluster("VMAIL_SIGNAL", &["kube-apiserver", "CONT"]);
    }
}

#[tokio::test]
async fn after_a_restart_nothing_is_missed_and_nothing_is_deleted() {
    let _alone = ALONE.lock().await;
    let mariadb = MariaDb::shared();
    let bed = Bed::new("restarted", &mariadb).await;
    bed.domain().await;
    bed.mailboxes(0..20).await;
    bed.rows(&mariadb, "mailbox", 20).await;

    restart_api_server();
    bed.mailboxes(20..30).await;
    bed.rows_within(LIMIT, &mariadb, "mailbox", 30).await;

    // What happens while it can't look, and then a server that no longer knows the versions that it saw last (410).
    bed.pause();
    bed.mailboxes(30..40).await;
    let api: Api<Mailbox> = bed.api();
    api.delete("u0", &DeleteParams::default()).await.unwrap();
    restart_api_server();
    bed.resume();
    eventually(LIMIT, "what was missed is made up for", || async {
        bed.numbers(&mariadb, "SELECT COUNT(*) FROM mailbox").await == 39
            && bed
                .numbers(&mariadb, "SELECT COUNT(*) FROM mailbox WHERE username = 'u0@alpha.example.org'")
                .await
                == 0
    })
    .await;
    bed.says_within::<Mailbox>(LIMIT, "u39", "Ready", "Synced").await;
    bed.says_within::<MailServer>(LIMIT, "myhost", "TablesSynced", "Synced").await;
    assert!(bed.log().contains("too old resource version"), "the watches met no 410:\n{}", bed.log());
}

/// Each watch fails at each restart, and no failure of one makes the others wait longer.
#[tokio::test]
async fn soon_after_restarts_a_mail_server_is_followed_again() {
    let _alone = ALONE.lock().await;
    let mariadb = MariaDb::shared();
    let bed = Bed::new("followed", &mariadb).await;
    bed.domain().await;
    bed.says::<MailServer>("myhost", "TablesSynced", "Synced").await;
    for _ in 0..3 {
        restart_api_server();
    }
    bed.change::<MailServer>("myhost", json!({"hostname": "mx1.example.org"})).await;
    let generation = bed.api::<MailServer>().get("myhost").await.unwrap().metadata.generation;
    eventually(SOON, "the change is seen", || async {
        let server = bed.api::<MailServer>().get("myhost").await.unwrap();
        server.status.and_then(|status| status.observed_generation) == generation
    })
    .await;
}

/// A renewal of the Lease that falls into a short outage is made up for: the process goes on.
#[tokio::test]
async fn a_short_outage_costs_nobody_the_leadership() {
    let _alone = ALONE.lock().await;
    let mariadb = MariaDb::shared();
    let mut bed = Bed::new("renewed", &mariadb).await;
    bed.domain().await;
    bed.says::<MailServer>("myhost", "TablesSynced", "Synced").await;
    let silence = Silence::begin();
    eventually(LIMIT, "a renewal fails", || async {
        bed.log().contains("the Lease is not renewed, trying again")
    })
    .await;
    drop(silence);
    let before = renewed(&bed).await;
    eventually(LIMIT, "the Lease is renewed", || async { renewed(&bed).await != before }).await;
    bed.mailboxes(0..1).await;
    bed.says_within::<Mailbox>(LIMIT, "u0", "Ready", "Synced").await;
    assert!(bed.is_running(), "the operator ended:\n{}", bed.log());
}

/// When the operator's Lease was renewed last.
async fn renewed(bed: &Bed) -> Option<MicroTime> {
    bed.api::<Lease>().get(FIELD_MANAGER).await.ok()?.spec?.renew_time
}
