//! A test bed: the operator's process over a namespace of the real API server, and a database of a real MariaDB. No node.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::core::{DynamicObject, NamespaceResourceScope};
use kube::{Api, Resource};
use rustix::process::{Pid, Signal};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sqlx::mysql::MySqlDatabaseError;
use tempfile::NamedTempFile;
use vmail_operator::api::{FIELD_MANAGER, MailDomain, MailServer, Mailbox};
use vmail_operator::store::Access;

use crate::cluster::{Namespace, eventually};
use crate::mariadb::MariaDb;

/// How long anything may take.
pub const LIMIT: Duration = Duration::from_secs(30);

/// One operator over one namespace, and its database.
pub struct Bed {
    pub namespace: Namespace,
    operator: Option<Child>,
    log: NamedTempFile,
    pub access: Access,
}

impl Bed {
    pub async fn new(name: &str, mariadb: &MariaDb) -> Self {
        let namespace = Namespace::create(&name.replace('_', "-")).await;
        let access = mariadb.database(name).await;
        let log = NamedTempFile::new().unwrap();
        let mut bed = Self { namespace, operator: None, log, access };
        bed.account("writer", &bed.access.username.clone(), "writes").await;
        bed.account("reader", &format!("{name}_reader"), "reads").await;
        bed.create::<MailServer>("myhost", &bed.server_spec(bed.access.port)).await;
        bed.start();
        bed
    }

    pub fn server_spec(&self, port: u16) -> Value {
        json!({
            "hostname": "myhost.example.org",
            "database": {"external": {
                "host": "127.0.0.1", "port": port, "name": self.access.database,
                "writerSecretRef": {"name": "writer"}, "readerSecretRef": {"name": "reader"},
            }},
        })
    }

    pub async fn account(&self, name: &str, username: &str, password: &str) {
        self.secret(name, &[("username", username), ("password", password)]).await;
    }

    pub async fn secret(&self, name: &str, data: &[(&str, &str)]) {
        let data: serde_json::Map<_, _> =
            data.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
        let secret =
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data});
        let api = self.api::<Secret>();
        api.patch(name, &PatchParams::apply("test").force(), &Patch::Apply(secret)).await.unwrap();
    }

    pub fn api<K: Resource<DynamicType = (), Scope = NamespaceResourceScope>>(&self) -> Api<K> {
        Api::namespaced(self.namespace.client.clone(), &self.namespace.name)
    }

    pub async fn create<K>(&self, name: &str, spec: &Value)
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Serialize
            + DeserializeOwned
            + std::fmt::Debug,
    {
        let object = json!({
            "apiVersion": K::api_version(&()), "kind": K::kind(&()), "metadata": {"name": name}, "spec": spec,
        });
        let object: K = serde_json::from_value(object).unwrap();
        self.api::<K>().create(&PostParams::default(), &object).await.unwrap();
    }

    pub async fn delete<K>(&self, name: &str)
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + std::fmt::Debug,
    {
        self.api::<K>().delete(name, &DeleteParams::default()).await.unwrap();
    }

    pub async fn domain(&self) {
        self.create::<MailDomain>(
            "alpha",
            &json!({"serverRef": {"name": "myhost"}, "domain": "alpha.example.org"}),
        )
        .await;
    }

    pub async fn mailboxes(&self, numbers: std::ops::Range<usize>) {
        for number in numbers {
            create_mailbox(self.api(), number).await;
        }
    }

    pub fn start(&mut self) {
        let operator = self.operator(FIELD_MANAGER).stdout(self.log.reopen().unwrap()).spawn();
        self.operator = Some(operator.unwrap());
    }

    /// Another operator over the same namespace, with this Lease; its log says more than that of the first.
    pub fn replica(&self, name: &str, lease: &str) -> Replica {
        let log = NamedTempFile::new().unwrap();
        let mut command = self.operator(lease);
        command.args(["--pod-name", name]).env("RUST_LOG", "info").stdout(log.reopen().unwrap());
        Replica { operator: command.spawn().unwrap(), log }
    }

    fn operator(&self, lease: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vmail-operator"));
        command
            .args([
                "run",
                "--postfix-image=none",
                "--mariadb-image=none",
                "--listen=127.0.0.1:0",
                "--drift-check-seconds=2",
            ])
            .args(["--lease", lease, "--lease-namespace", &self.namespace.name])
            .args(["--watch-namespace", &self.namespace.name])
            .env("RUST_LOG", std::env::var("RUST_LOG").unwrap_or_else(|_| "warn".into()))
            .stdin(Stdio::null());
        command
    }

    /// What the operator wrote to its log.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log.path()).unwrap()
    }

    /// Whether the process that was started last is still there.
    pub fn is_running(&mut self) -> bool {
        self.operator.as_mut().is_some_and(|operator| operator.try_wait().unwrap().is_none())
    }

    /// Stops the operator where it is, until [`Bed::resume`].
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let operator = self.operator.as_ref().expect("an operator runs");
        rustix::process::kill_process(Pid::from_child(operator), signal).unwrap();
    }

    pub fn kill(&mut self) {
        if let Some(mut operator) = self.operator.take() {
            operator.kill().unwrap();
            operator.wait().unwrap();
        }
    }

    /// Asks the operator to end and waits until it has; its exit code, none where it could not listen yet.
    pub async fn terminate(&mut self) -> Option<i32> {
        self.signal(Signal::TERM);
        let asked = Instant::now();
        while self.is_running() {
            assert!(asked.elapsed() < LIMIT, "asked to end, the operator goes on: {}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.operator.take().and_then(|mut operator| operator.wait().unwrap().code())
    }

    pub async fn numbers(&self, mariadb: &MariaDb, sql: &str) -> i64 {
        const NO_SUCH_TABLE: u16 = 1146;
        let mut root = mariadb.root(Some(&self.access.database)).await;
        match sqlx::query_scalar(sqlx::AssertSqlSafe(sql.to_owned())).fetch_one(&mut root).await {
            // Until the operator has made the tables there is nothing.
            Err(sqlx::Error::Database(error))
                if error.downcast_ref::<MySqlDatabaseError>().number() == NO_SUCH_TABLE =>
            {
                0
            }
            number => number.unwrap(),
        }
    }

    pub async fn rows(&self, mariadb: &MariaDb, table: &str, expected: i64) -> Duration {
        self.rows_within(LIMIT, mariadb, table, expected).await
    }

    pub async fn rows_within(
        &self,
        limit: Duration,
        mariadb: &MariaDb,
        table: &str,
        expected: i64,
    ) -> Duration {
        let sql = format!("SELECT COUNT(*) FROM {table}");
        let what = format!("{expected} rows in {table}");
        eventually(limit, &what, || async { self.numbers(mariadb, &sql).await == expected }).await
    }

    /// A condition of an object as it is now.
    pub async fn condition<K>(&self, name: &str, type_: &str) -> Option<Value>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        let resource = kube::core::ApiResource::erase::<K>(&());
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.namespace.client.clone(), &self.namespace.name, &resource);
        let object = api.get(name).await.ok()?;
        let conditions = object.data["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions.into_iter().find(|condition| condition["type"] == type_)
    }

    /// Waits for a condition's reason; gives its message.
    pub async fn says<K>(&self, name: &str, type_: &str, reason: &str) -> String
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        self.says_within::<K>(LIMIT, name, type_, reason).await
    }

    pub async fn says_within<K>(&self, limit: Duration, name: &str, type_: &str, reason: &str) -> String
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        let what = format!("{} {name}: {type_} because of {reason}", K::kind(&()));
        eventually(limit, &what, || async {
            self.condition::<K>(name, type_).await.is_some_and(|condition| condition["reason"] == reason)
        })
        .await;
        let condition = self.condition::<K>(name, type_).await.unwrap_or_default();
        condition["message"].as_str().unwrap_or_default().to_owned()
    }

    /// Merges fields into an object's spec.
    pub async fn change<K>(&self, name: &str, spec: Value)
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + std::fmt::Debug,
    {
        let patch = Patch::Merge(json!({"spec": spec}));
        self.api::<K>().patch(name, &PatchParams::default(), &patch).await.unwrap();
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("the operator's log:\n{}", self.log());
        }
        self.kill();
    }
}

/// Another operator; it ends when it is dropped.
pub struct Replica {
    operator: Child,
    log: NamedTempFile,
}

impl Replica {
    /// What it wrote to its log.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log.path()).unwrap()
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("the other operator's log:\n{}", self.log());
        }
        let _ = self.operator.kill();
        let _ = self.operator.wait();
    }
}

/// The mailbox `u<number>` of alpha.example.org.
pub async fn create_mailbox(api: Api<Mailbox>, number: usize) {
    let spec = json!({"address": format!("u{number}@alpha.example.org")});
    let mailbox = Mailbox::new(&format!("u{number}"), serde_json::from_value(spec).unwrap());
    api.create(&PostParams::default(), &mailbox).await.unwrap();
}

/// Runs SQL as somebody else.
pub async fn execute(bed: &Bed, mariadb: &MariaDb, sql: &str) {
    let mut root = mariadb.root(Some(&bed.access.database)).await;
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned())).execute(&mut root).await.unwrap();
}
