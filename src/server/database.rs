//! Which database a `MailServer` uses, as the set loop and the workloads need to know it. Pure.

use crate::api::SecretKeyReference;
use crate::index::rows::ServerRow;
use crate::object::ObjectName;
use crate::postfix::DatabaseEndpoint;
use crate::server::build::names;

/// Default port of `MariaDB` and `MySQL`.
pub const DEFAULT_PORT: u16 = 3306;

/// Default name of the database.
pub const DEFAULT_DATABASE: &str = "mail";

/// Where a server's database is, and which Secrets hold its accounts.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Endpoint {
    /// Host name or address, as seen from any pod of the cluster.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Name of the database.
    pub database: String,
    /// What stands before the name of each table.
    pub table_prefix: String,
    /// Secret with `username` and `password` of the account that writes.
    pub writer_secret: String,
    /// Secret with `username` and `password` of the account that Postfix reads with.
    pub reader_secret: String,
    /// Where the certificate of the authority is that signed the server's; `None`: no TLS.
    pub tls: Option<SecretKeyReference>,
    /// Whether the operator runs the database.
    pub embedded: bool,
}

impl Endpoint {
    /// What of it the renderer of Postfix's configuration needs.
    #[must_use]
    pub fn for_postfix(&self) -> DatabaseEndpoint<'_> {
        DatabaseEndpoint {
            host: &self.host,
            port: self.port,
            name: &self.database,
            tls: self.tls.is_some(),
            table_prefix: &self.table_prefix,
        }
    }
}

/// The database of a `MailServer`; `None`: it looks accounts up in files.
#[must_use]
pub fn endpoint(server: &ObjectName, row: &ServerRow) -> Option<Endpoint> {
    let ObjectName { namespace, name } = server;
    if row.files {
        return None;
    }
    Some(match &row.external {
        Some(external) => Endpoint {
            host: external.host.clone(),
            port: external.port.and_then(|port| u16::try_from(port).ok()).unwrap_or(DEFAULT_PORT),
            database: external.name.clone().unwrap_or_else(|| DEFAULT_DATABASE.to_owned()),
            table_prefix: external.table_prefix.clone().unwrap_or_default(),
            writer_secret: external.writer_secret_ref.name.clone(),
            reader_secret: external.reader_secret_ref.name.clone(),
            tls: external.tls.as_ref().map(|tls| tls.ca_secret_ref.clone()),
            embedded: false,
        },
        None => Endpoint {
            host: names::database_host(name, namespace),
            port: DEFAULT_PORT,
            database: DEFAULT_DATABASE.to_owned(),
            table_prefix: String::new(),
            writer_secret: names::writer_secret(name),
            reader_secret: names::reader_secret(name),
            tls: None,
            embedded: true,
        },
    })
}
