//! One mailbox at rest, from the API server's answer to the committed row: by the operator and by bare clients.
//!
//! All are looked at in the same way, by asking for the row until it is there.

use std::time::{Duration, Instant};

use futures::TryStreamExt;
use kube::runtime::watcher;
use kube::{Api, Client, ResourceExt};
use sqlx::AssertSqlSafe;
use sqlx::mysql::MySqlConnection;
use tokio::task::JoinHandle;
use vmail_operator::api::Mailbox;
use vmail_operator::store::Store;

use crate::cluster::{LIMIT, SAMPLES};
use crate::mariadb::MariaDb;
use crate::{Figure, api_server, percentile};

/// One mailbox after another, with everything at rest: by the operator, and in turns with it by bare clients in a namespace
/// that the operator doesn't watch.
pub async fn measure(
    client: &Client,
    (served, bare): (&str, &str),
    mariadb: &MariaDb,
    root: &mut MySqlConnection,
    n: usize,
) {
    let mut one = BareClient::start(client, bare, mariadb, "raw", one_row).await;
    let mut floor = BareClient::start(client, bare, mariadb, "floor", all_of_one).await;
    let (mut raw, mut samples, mut floors) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0..SAMPLES {
        raw.push(sample(client, bare, &mut one.root, "raw", number).await);
        samples.push(sample(client, served, root, "one", number).await);
        floors.push(sample(client, bare, &mut floor.root, "floor", number).await);
    }
    one.writing.abort();
    floor.writing.abort();
    for (name, samples) in [("one_mailbox", &mut samples), ("one_mailbox_floor", &mut floors)] {
        for percent in [50, 99] {
            let (value, limit) = (percentile(samples, percent), percentile(&mut raw, percent));
            Figure { name: &format!("{name}_p{percent}"), value, unit: "ms", limit, n }.print();
        }
    }
}

/// A bare client: a watch, and rows of each mailbox that it brings whose name begins with the client's.
struct BareClient {
    /// A third connection to its database, which sees what is committed there.
    root: MySqlConnection,
    writing: JoinHandle<()>,
}

impl BareClient {
    async fn start(
        client: &Client,
        namespace: &str,
        mariadb: &MariaDb,
        name: &'static str,
        write: fn(&str) -> String,
    ) -> Self {
        let access = mariadb.database(name).await;
        Store::open(&access, "bench").await.unwrap().close().await;
        let root = mariadb.root(Some(name)).await;
        let mut writer = mariadb.root(Some(name)).await;
        let api: Api<Mailbox> = Api::namespaced(client.clone(), namespace);
        let (listed, listing) = tokio::sync::oneshot::channel();
        let writing = tokio::spawn(async move {
            let mut listed = Some(listed);
            let mut events = std::pin::pin!(watcher(api, watcher::Config::default().any_semantic()));
            while let Some(event) = events.try_next().await.unwrap() {
                match event {
                    watcher::Event::InitDone => listed.take().unwrap().send(()).unwrap(),
                    watcher::Event::Apply(mailbox) if mailbox.name_any().starts_with(name) => {
                        let packet = write(mailbox.spec.address.as_str());
                        sqlx::raw_sql(AssertSqlSafe(packet)).execute(&mut writer).await.unwrap();
                    }
                    _ => {}
                }
            }
        });
        listing.await.unwrap();
        Self { root, writing }
    }
}

/// One row in one statement.
fn one_row(address: &str) -> String {
    format!(
        "INSERT INTO mailbox (username, password, name, maildir, local_part, domain) VALUES ('{address}', '!', '', '', '', '')"
    )
}

/// All that the operator writes of new mailboxes: each mailbox, its alias, their owners and the log, in one transaction.
pub fn all_rows(addresses: &[&str]) -> String {
    let each = |values: &dyn Fn(&str) -> String| {
        addresses.iter().map(|address| values(address)).collect::<Vec<_>>().join(",")
    };
    let owner = |table: &str| {
        each(&|address| {
            format!(
                "('{address}','{table}','bench/bench/myhost','00000000-0000-0000-0000-000000000000','Mailbox bench/one','Delete','0123456789abcdef','','','')"
            )
        })
    };
    let mailboxes = each(&|address| {
        format!("('{address}','!','Somebody','d0.example.org/one/',0,'one','d0.example.org',1)")
    });
    let aliases = each(&|address| format!("('{address}','{address}','d0.example.org',1)"));
    let log = each(&|address| format!("(NOW(),'operator','d0.example.org','create_mailbox','{address}')"));
    format!(
        "START TRANSACTION; INSERT INTO mailbox (username,password,name,maildir,quota,local_part,domain,active) VALUES {mailboxes}; \
         INSERT INTO alias (address,goto,domain,active) VALUES {aliases}; INSERT INTO vmail_owner VALUES {},{}; \
         INSERT INTO log (timestamp,username,domain,action,data) VALUES {log},{log}; COMMIT",
        owner("mailbox"),
        owner("alias")
    )
}

fn all_of_one(address: &str) -> String {
    all_rows(&[address])
}

/// API answer to committed row, of one mailbox, in milliseconds.
async fn sample(
    client: &Client,
    namespace: &str,
    root: &mut MySqlConnection,
    name: &str,
    number: usize,
) -> f64 {
    // At rest: what the mailbox before it brought about is done.
    tokio::time::sleep(Duration::from_millis(50)).await;
    let address = format!("{name}{number}@d0.example.org");
    let answered = api_server::create_named(client, namespace, &format!("{name}{number}"), &address).await;
    await_row(root, &address).await;
    answered.elapsed().as_secs_f64() * 1000.0
}

async fn await_row(root: &mut MySqlConnection, username: &str) {
    let started = Instant::now();
    loop {
        let found: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM mailbox WHERE username = ?")
            .bind(username)
            .fetch_one(&mut *root)
            .await
            .unwrap();
        if found == 1 {
            return;
        }
        assert!(started.elapsed() < LIMIT, "{username} never came");
        // Asking without a pause would take a processor from those who are measured.
        std::thread::sleep(Duration::from_micros(100));
    }
}
