//! An API server that goes away: the operator goes on by itself when it is back, and misses nothing.
//!
//! A tier of its own: the tests of the others need the API server all the time.

use std::process::Command;
use std::time::Duration;

use kube::Api;
use kube::api::DeleteParams;
use vmail_operator::api::{MailServer, Mailbox};

use crate::bed::Bed;
use crate::cluster::eventually;
use crate::mariadb::MariaDb;

const LIMIT: Duration = Duration::from_mins(2);

fn restart_api_server() {
    let command = std::env::var("VMAIL_RESTART").expect("VMAIL_RESTART is not set: `make test` sets it");
    let mut words = command.split_whitespace();
    let restarted = Command::new(words.next().unwrap())
        .args(words)
        .arg("kube-apiserver")
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(restarted.status.success(), "{}", String::from_utf8_lossy(&restarted.stderr));
}

#[tokio::test]
async fn after_a_restart_nothing_is_missed_and_nothing_is_deleted() {
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
