//! A database server for as long as a test needs it: Debian's `mariadb-server-core`, or, with `VMAIL_DATABASE_ROOT`, what is
//! installed in that directory (another MariaDB, or MySQL).

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection, MySqlSslMode};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};
use tempfile::TempDir;
use vmail_operator::store::Access;

/// A running server; it ends when the last test lets go of it.
pub struct MariaDb {
    server: Child,
    program: Program,
    address: &'static str,
    port: u16,
    directory: TempDir,
}

/// What is run, and where it is installed.
struct Program {
    root: Option<PathBuf>,
}

impl Program {
    fn chosen() -> Self {
        Self { root: std::env::var_os("VMAIL_DATABASE_ROOT").map(PathBuf::from) }
    }

    /// MySQL, which comes without MariaDB's programs.
    fn is_mysql(&self) -> bool {
        self.root.as_ref().is_some_and(|root| !root.join("usr/sbin/mariadbd").exists())
    }

    fn directory(&self) -> TempDir {
        match &self.root {
            Some(root) => TempDir::new_in(root.join("tmp")).unwrap(),
            None => TempDir::new().unwrap(),
        }
    }

    /// A path as the program sees it.
    fn inside(&self, path: &Path) -> String {
        let root = self.root.as_deref().unwrap_or(Path::new("/"));
        Path::new("/").join(path.strip_prefix(root).unwrap()).display().to_string()
    }

    fn command(&self, name: &str) -> Command {
        let mut command = match &self.root {
            Some(root) => {
                let mut command = Command::new("chroot");
                command.arg(root).arg(name);
                command
            }
            None => Command::new(name),
        };
        command.arg("--no-defaults").arg("--user=root").stdin(Stdio::null());
        command
    }

    fn install(&self, directory: &Path) {
        let data = format!("--datadir={}", self.inside(&directory.join("data")));
        let mut command = if self.is_mysql() {
            let mut command = self.command("mysqld");
            command.arg("--initialize-insecure");
            command
        } else {
            let mut command = self.command("mariadb-install-db");
            // A directory without a network configuration doesn't know its host name, and need not.
            command.args(["--skip-test-db", "--auth-root-authentication-method=normal", "--force"]);
            command.arg(format!("--tmpdir={}", self.inside(directory)));
            command
        };
        let install = command.arg(data).output().expect("`make test` installs the database servers");
        assert!(install.status.success(), "{}", String::from_utf8_lossy(&install.stderr));
        let root = "CREATE USER IF NOT EXISTS root@'127.0.0.1'; GRANT ALL ON *.* TO root@'127.0.0.1' WITH GRANT OPTION;";
        std::fs::write(directory.join("init.sql"), root.replace("; ", ";\n")).unwrap();
    }

    fn spawn(&self, directory: &Path, address: &str, port: u16) -> Child {
        let file = |name: &str| self.inside(&directory.join(name));
        let mut command = self.command(if self.is_mysql() { "mysqld" } else { "mariadbd" });
        if self.is_mysql() {
            command.args(["--mysqlx=0", &format!("--init-file={}", file("init.sql"))]);
        }
        command
            .arg(format!("--bind-address={address}"))
            .args(["--skip-name-resolve", "--innodb-flush-log-at-trx-commit=2"])
            .arg("--sql-mode=STRICT_ALL_TABLES,ONLY_FULL_GROUP_BY")
            .arg(format!("--datadir={}", file("data")))
            .arg(format!("--tmpdir={}", file("data")))
            .arg(format!("--socket={}", file("data/socket")))
            .arg(format!("--pid-file={}", file("data/pid")))
            .arg(format!("--port={port}"))
            .arg(format!("--ssl-ca={}", file("ca.crt")))
            .arg(format!("--ssl-cert={}", file("server.crt")))
            .arg(format!("--ssl-key={}", file("server.key")))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("`make test` installs the database servers")
    }
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
        Self::start_at("127.0.0.1", "IP:127.0.0.1")
    }

    /// One that pods reach too, with a certificate for `name`.
    pub fn start_for_pods(name: &str) -> Self {
        Self::start_at("0.0.0.0", &format!("DNS:{name}"))
    }

    fn start_at(address: &'static str, certified: &str) -> Self {
        let program = Program::chosen();
        let directory = program.directory();
        program.install(directory.path());
        certificates(directory.path(), certified);
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let server = program.spawn(directory.path(), address, port);
        let server = Self { server, program, address, port, directory };
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

    /// Stops the server where it is, its connections open, until [`MariaDb::resume`].
    pub fn pause(&self) {
        self.signal(Signal::STOP);
        // A thread that runs at that moment may answer one more question.
        let started = Instant::now();
        while !self.is_stopped() {
            assert!(started.elapsed() < Duration::from_secs(10), "the server is not stopped");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Whether all of its threads are stopped: the state in proc(5) stat is after the name.
    fn is_stopped(&self) -> bool {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.server.id())).unwrap().flatten();
        let states =
            threads.map(|thread| std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default());
        states.into_iter().all(|stat| stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T')))
    }

    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        rustix::process::kill_process(Pid::from_child(&self.server), signal).unwrap();
    }

    /// Starts a stopped server again on the same data.
    pub fn restart(&mut self) {
        self.server = self.program.spawn(self.directory.path(), self.address, self.port);
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
            format!("DROP USER IF EXISTS {name}_writer@'%', {name}_reader@'%'"),
            format!("CREATE USER {name}_writer@'%' IDENTIFIED BY 'writes'"),
            format!("CREATE USER {name}_reader@'%' IDENTIFIED BY 'reads'"),
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

/// The server's table of its connections. MySQL's older one can't be read while any of them asks for a text with, say, an emoji.
pub fn connections() -> &'static str {
    if Program::chosen().is_mysql() {
        "performance_schema.processlist"
    } else {
        "information_schema.processlist"
    }
}

impl Drop for MariaDb {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// An authority, and a certificate of it for `name`, as OpenSSL writes alternative names.
fn certificates(directory: &Path, name: &str) {
    let script = "
        openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.crt -days 2 -subj /CN=authority
        openssl req -newkey rsa:2048 -nodes -keyout server.key -out server.csr -subj /CN=database
        printf 'subjectAltName=%s' \"$1\" >san
        openssl x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile san -out server.crt";
    let made = Command::new("sh").args(["-ec", script, "sh", name]).current_dir(directory).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}
