//! A MariaDB of Debian's package `mariadb-server-core`, for as long as a test needs it.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use sqlx::mysql::{MySqlConnectOptions, MySqlConnection, MySqlSslMode};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};
use tempfile::TempDir;
use vmail_operator::store::Access;

/// A running server; it ends when the last test lets go of it.
pub struct MariaDb {
    server: Child,
    port: u16,
    directory: TempDir,
}

static RUNNING: Mutex<Weak<MariaDb>> = Mutex::new(Weak::new());

impl MariaDb {
    /// The server that other tests of this run use as well.
    pub fn shared() -> Arc<Self> {
        let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        running.upgrade().unwrap_or_else(|| {
            let server = Arc::new(Self::start());
            *running = Arc::downgrade(&server);
            server
        })
    }

    /// A server of this test's own, to be mistreated.
    pub fn start() -> Self {
        let directory = TempDir::new().unwrap();
        let data = directory.path().join("data");
        let install = Command::new("mariadb-install-db")
            .args([
                "--no-defaults",
                "--user=root",
                "--skip-test-db",
                "--auth-root-authentication-method=normal",
            ])
            .arg(format!("--datadir={}", data.display()))
            .arg(format!("--tmpdir={}", directory.path().display()))
            .stdin(Stdio::null())
            .output()
            .expect("mariadb-install-db: `make test` installs mariadb-server-core");
        assert!(install.status.success(), "{}", String::from_utf8_lossy(&install.stderr));
        certificates(directory.path());
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let server = Self { server: spawn(&data, port), port, directory };
        server.wait();
        server
    }

    fn wait(&self) {
        let limit = Instant::now() + Duration::from_mins(1);
        while std::net::TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(Instant::now() < limit, "mariadbd does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The certificate of the authority that signed the server's, PEM.
    pub fn authority(&self) -> Vec<u8> {
        std::fs::read(self.directory.path().join("ca.crt")).unwrap()
    }

    /// Kills the server without a warning.
    pub fn stop(&mut self) {
        self.server.kill().unwrap();
        self.server.wait().unwrap();
    }

    /// Starts a stopped server again on the same data.
    pub fn restart(&mut self) {
        self.server = spawn(&self.directory.path().join("data"), self.port);
        self.wait();
    }

    /// A connection as root, to `database` where one is named.
    pub async fn root(&self, database: Option<&str>) -> MySqlConnection {
        let options = MySqlConnectOptions::new()
            .host("127.0.0.1")
            .port(self.port)
            .username("root")
            .ssl_mode(MySqlSslMode::Disabled);
        let options = database.into_iter().fold(options, MySqlConnectOptions::database);
        options.disable_statement_logging().connect().await.unwrap()
    }

    /// A new, empty database with an account that writes and one that may log in and nothing else.
    pub async fn database(&self, name: &str) -> Access {
        let mut root = self.root(None).await;
        for sql in [
            format!("DROP DATABASE IF EXISTS {name}"),
            format!("CREATE DATABASE {name} CHARACTER SET latin1"),
            format!("CREATE OR REPLACE USER {name}_writer@'%' IDENTIFIED BY 'writes'"),
            format!("CREATE OR REPLACE USER {name}_reader@'%' IDENTIFIED BY 'reads'"),
            format!("GRANT ALL ON {name}.* TO {name}_writer@'%' WITH GRANT OPTION"),
        ] {
            sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut root).await.unwrap();
        }
        root.close().await.unwrap();
        Access {
            host: "127.0.0.1".into(),
            port: self.port,
            database: name.into(),
            table_prefix: String::new(),
            username: format!("{name}_writer"),
            password: "writes".into(),
            tls: None,
            reader: Some(format!("{name}_reader")),
        }
    }
}

impl Drop for MariaDb {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// An authority, and a certificate of it for 127.0.0.1.
fn certificates(directory: &Path) {
    let script = "
        openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.crt -days 2 -subj /CN=authority
        openssl req -newkey rsa:2048 -nodes -keyout server.key -out server.csr -subj /CN=database
        printf 'subjectAltName=IP:127.0.0.1' >san
        openssl x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile san -out server.crt";
    let made = Command::new("sh").args(["-ec", script]).current_dir(directory).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

fn spawn(data: &Path, port: u16) -> Child {
    let socket = data.join("socket");
    let directory = data.parent().unwrap();
    Command::new("mariadbd")
        .args(["--no-defaults", "--user=root", "--bind-address=127.0.0.1", "--skip-name-resolve"])
        .args(["--innodb-flush-log-at-trx-commit=2", "--sql-mode=STRICT_ALL_TABLES,ONLY_FULL_GROUP_BY"])
        .arg(format!("--datadir={}", data.display()))
        .arg(format!("--tmpdir={}", data.display()))
        .arg(format!("--socket={}", socket.display()))
        .arg(format!("--port={port}"))
        .arg(format!("--ssl-cert={}", directory.join("server.crt").display()))
        .arg(format!("--ssl-key={}", directory.join("server.key").display()))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("mariadbd: `make test` installs mariadb-server-core")
}
