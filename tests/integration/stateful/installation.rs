//! The operator, the API server and the database that it lives with.

use std::time::{Duration, Instant};

use serde_json::json;
use sqlx::mysql::MySqlConnection;
use vmail_operator::api::Reason;
use vmail_operator::index::rows::RELEASE_ANNOTATION;
use vmail_operator::report::ServerReport;

use super::api_server::ApiServer;
use super::operator::Operator;
use super::relay::Relay;
use super::world::server;
use crate::mariadb::{MariaDb, connections};

/// Longest time until the operator is done with what is declared.
const LIMIT: Duration = Duration::from_mins(1);

/// How long between two looks whether it is.
const LOOK: Duration = Duration::from_millis(1);

/// So many looks in a row at an operator that does nothing: between two of them it could have gone on.
const IDLE_LOOKS: usize = 3;

/// What the `MailServer` says.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub adopts: bool,
    /// Deletions that the brake always allows.
    pub minimum: u32,
    /// Share of the rows, in percent, that it allows to be deleted.
    pub percent: u32,
}

pub struct Installation {
    pub api: ApiServer,
    pub root: MySqlConnection,
    /// `None` between the end of one and the start of the next.
    operator: Option<Operator>,
    relay: Relay,
    database: String,
    comparisons: u32,
}

impl Installation {
    /// A server that nothing is declared for, and tables without rows.
    pub async fn begin(mariadb: &MariaDb, database: &str, settings: Settings) -> Self {
        let access = mariadb.database(database).await;
        let (api, relay) = (ApiServer::default(), Relay::to(access.port).await);
        api.put_secret("writer", [("username", access.username), ("password", access.password)]);
        let root = mariadb.root(Some(database)).await;
        let mut installation =
            Self { api, root, operator: None, relay, database: database.to_owned(), comparisons: 0 };
        installation.set(settings);
        installation.start();
        installation.idle().await;
        installation
    }

    pub fn operator(&self) -> &Operator {
        self.operator.as_ref().unwrap()
    }

    pub fn start(&mut self) {
        self.operator = Some(Operator::start(self.api.client()));
    }

    /// Ends the operator in order.
    pub async fn stop(&mut self) {
        self.operator.take().unwrap().stop().await;
    }

    /// Kills the operator while it works: its connection brings it something this often before. Waits until the database has
    /// noticed.
    pub async fn kill(&mut self, after: u8) {
        self.relay.stop_after(after);
        while !self.relay.has_stopped() {
            self.compare();
            while !self.relay.has_stopped() && self.idle_at().await.is_none() {
                tokio::time::sleep(LOOK).await;
            }
        }
        self.operator.take().unwrap().kill().await;
        self.until_writers("TRUE", false).await;
    }

    pub fn set(&self, Settings { adopts, minimum, percent }: Settings) {
        let external = json!({
            "host": "127.0.0.1", "port": self.relay.port, "name": self.database,
            "writerSecretRef": {"name": "writer"}, "readerSecretRef": {"name": "reader"},
        });
        let spec = json!({
            "hostname": "myhost.example.org", "database": {"external": external},
            "existingRows": if adopts { "Adopt" } else { "Fail" },
            "massDeletion": {"minimum": minimum, "maxPercent": percent},
        });
        self.api.put_server("myhost", spec);
    }

    /// Has everything compared, without waiting for it: an annotation that releases nothing is a change like any other.
    pub fn compare(&mut self) {
        self.comparisons += 1;
        self.release(&format!("nothing-{}", self.comparisons));
    }

    /// What an administrator does who means the deletions with this hash.
    pub fn release(&self, hash: &str) {
        self.api.annotate_server("myhost", RELEASE_ANNOTATION, hash);
    }

    /// Waits until everything has been compared once more, and nothing is left to do.
    pub async fn compared(&mut self) {
        let passes = self.passes();
        self.compare();
        self.idle().await;
        assert!(self.passes() > passes, "nothing was compared");
    }

    fn passes(&self) -> u64 {
        self.operator().metric("vmail_passes_total{outcome=\"success\"}")
    }

    /// Waits until the operator has heard of everything.
    pub async fn seen(&mut self) {
        let limit = Instant::now() + LIMIT;
        while !self.api.is_seen_by(&self.operator().context.index.read()) {
            assert!(Instant::now() < limit, "it doesn't hear of everything");
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until the operator has done all that there is to do.
    pub async fn idle(&mut self) {
        let limit = Instant::now() + LIMIT;
        let (mut looks, mut before) = (0, None);
        while looks < IDLE_LOOKS {
            assert!(self.operator().is_running(), "the operator ended");
            assert!(Instant::now() < limit, "it doesn't come to rest, {:?}", self.operator().report());
            tokio::time::sleep(LOOK).await;
            let now = self.idle_at().await;
            looks = if now.is_some() && now == before { looks + 1 } else { 0 };
            before = now;
        }
    }

    /// What was asked of the database and told to objects until now, where nothing is to be done and nothing under way.
    async fn idle_at(&mut self) -> Option<(u64, u64)> {
        let is_asked = self.writers("command <> 'Sleep'").await > 0 || self.relay.is_asked();
        let index = self.operator().context.index.read();
        let is_connected = |report: ServerReport| report.database.is_some_and(|database| database.ok);
        let is_idle = !is_asked
            && !index.has_work(&server())
            && !index.has_unserved()
            && self.api.is_seen_by(&index)
            && self.operator().report().is_some_and(is_connected);
        is_idle.then(|| (self.relay.passed(), self.api.patches()))
    }

    /// How many connections of the operator the server knows, those that `filter` leaves.
    pub async fn writers(&mut self, filter: &str) -> i64 {
        let sql = format!(
            "SELECT COUNT(*) FROM {} WHERE user = '{}_writer' AND {filter}",
            connections(),
            self.database
        );
        sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(&mut self.root).await.unwrap()
    }

    /// Waits until some connections of the operator are there, or none.
    pub async fn until_writers(&mut self, filter: &str, are_there: bool) {
        let limit = Instant::now() + LIMIT;
        while (self.writers(filter).await > 0) != are_there {
            assert!(Instant::now() < limit, "connections where {filter}: never {are_there}");
            tokio::time::sleep(LOOK).await;
        }
    }

    /// The hash of the deletions that are held back, and how many these are.
    pub fn held(&self) -> Option<(String, usize)> {
        let report = self.operator().report().unwrap();
        let message = &report.tables.message;
        let held = self.operator().metric("vmail_deletions_held{namespace=\"mail\",mail_server=\"myhost\"}");
        if report.tables.reason != Reason::DeletionsHeld {
            assert!(report.tables.ok, "{message}");
            assert_eq!(held, 0);
            return None;
        }
        let (_, hash) = message.split_once(&format!("{RELEASE_ANNOTATION}=")).unwrap();
        let count = message.split_once(' ').unwrap().0.parse().unwrap();
        assert_eq!(u64::try_from(count).unwrap(), held);
        Some((hash.to_owned(), count))
    }
}
