//! Secrets of the embedded database: its accounts, and what it executes at each start.

use k8s_openapi::api::core::v1::Secret;

use super::names::{self, Component};
use super::{owned, short_hash, text_map};
use crate::server::accounts::{Account, Accounts};
use crate::server::database::DEFAULT_DATABASE;
use crate::server::validate::ValidatedServer;

/// Key of an account's name.
pub const USERNAME_KEY: &str = "username";

/// Key of an account's password.
pub const PASSWORD_KEY: &str = "password";

/// Key of the statements that `MariaDB` executes at each start.
pub(super) const INIT_KEY: &str = "init.sql";

/// Key of the option file that the probe logs in with.
pub(super) const PROBE_KEY: &str = "probe.cnf";

/// The Secret of one account, with the password that it is to have.
#[must_use]
pub fn account_secret(server: &ValidatedServer, account: Account, password: &str) -> Secret {
    Secret {
        metadata: owned(server, account.secret(&server.name.name), Component::MariaDb),
        type_: Some("Opaque".to_owned()),
        string_data: Some(text_map([
            (USERNAME_KEY, account.username().to_owned()),
            (PASSWORD_KEY, password.to_owned()),
        ])),
        ..Secret::default()
    }
}

pub(super) fn init_secret(server: &ValidatedServer, accounts: &Accounts) -> Secret {
    let files = text_map([(INIT_KEY, init_sql(accounts)), (PROBE_KEY, probe_options(accounts))]);
    Secret {
        metadata: owned(server, names::init_secret(&server.name.name), Component::MariaDb),
        type_: Some("Opaque".to_owned()),
        data: Some(
            files.into_iter().map(|(key, text)| (key, k8s_openapi::ByteString(text.into_bytes()))).collect(),
        ),
        ..Secret::default()
    }
}

/// Hash of what `MariaDB` executes at a start. It tells nothing of the passwords in it: they are random and long.
pub(super) fn init_hash(accounts: &Accounts) -> String {
    short_hash(init_sql(accounts).as_bytes())
}

/// Run by `mariadbd --init-file` before it accepts connections: one statement a line. Right on a new data directory,
/// which has a root without a password for several hosts, and on one that knows older passwords.
fn init_sql(accounts: &Accounts) -> String {
    let (writer, reader) = (Account::Writer.username(), Account::Reader.username());
    let lines = [
        format!(
            "CREATE DATABASE IF NOT EXISTS {DEFAULT_DATABASE} CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;"
        ),
        "DELETE FROM mysql.global_priv WHERE User = '' OR (User = 'root' AND Host <> 'localhost');"
            .to_owned(),
        "DELETE FROM mysql.proxies_priv WHERE Host <> 'localhost';".to_owned(),
        "FLUSH PRIVILEGES;".to_owned(),
        format!("ALTER USER root@localhost IDENTIFIED BY '{}';", accounts.root),
        format!("CREATE USER IF NOT EXISTS {writer}@'%';"),
        format!("ALTER USER {writer}@'%' IDENTIFIED BY '{}';", accounts.writer),
        // The operator, as this account, makes the tables and lets the reader see single columns of them.
        format!(
            "GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, INDEX, DROP, REFERENCES ON {DEFAULT_DATABASE}.* TO {writer}@'%' WITH GRANT OPTION;"
        ),
        format!("CREATE USER IF NOT EXISTS {reader}@'%';"),
        format!("ALTER USER {reader}@'%' IDENTIFIED BY '{}';", accounts.reader),
    ];
    lines.join("\n") + "\n"
}

fn probe_options(accounts: &Accounts) -> String {
    format!("[client]\nuser = {}\npassword = {}\n", Account::Reader.username(), accounts.reader)
}
