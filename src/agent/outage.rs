//! The end of a database outage.
//!
//! smtpd(8) remembers a look-up that failed for as long as it lives, and the pod's own probe keeps it alive: mail for
//! such an address would be deferred long after the database is back. So Postfix is reloaded once when it is.

use std::path::Path;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

/// How often the database is asked while it is away.
const ASK_INTERVAL: Duration = Duration::from_millis(500);

/// How long one attempt to connect may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(1);

/// Shortest time between two reloads.
pub(super) const REST: Duration = Duration::from_secs(2);

/// Whether a line of the log tells that the database can't be reached. It is Postfix's own sentence at the place where
/// a message begins, which no client can write to.
pub(super) fn is_sign(line: &str) -> bool {
    line.split_once("]: ").is_some_and(|(_, message)| message.starts_with("warning: connect to mysql server"))
}

/// Returns when the database that the look-ups in `config` name takes connections.
pub(super) async fn end(config: &Path) {
    loop {
        let server =
            std::fs::read_to_string(config.join("alias_maps.cf")).ok().and_then(|text| server(&text));
        // Without a server to ask there is nothing to wait for.
        let Some(server) = server else { return };
        if timeout(CONNECT_LIMIT, TcpStream::connect(server)).await.is_ok_and(|connected| connected.is_ok()) {
            return;
        }
        sleep(ASK_INTERVAL).await;
    }
}

/// The first of a look-up file's hosts.
fn server(text: &str) -> Option<String> {
    let hosts = text.lines().find_map(|line| line.strip_prefix("hosts = "))?;
    hosts.split_whitespace().next().map(|host| host.trim_start_matches("inet:").to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_postfixs_own_words_are_a_sign() {
        let line = "Nov 23 05:13:29 myhost postfix/proxymap[225]: warning: connect to mysql server db:3306: Can't connect";
        assert!(is_sign(line));
        let line = "Nov 23 05:13:29 myhost postfix/smtpd[9]: NOQUEUE: reject: helo=<]: warning: connect to mysql server>";
        assert!(!is_sign(line));
    }

    #[tokio::test]
    async fn an_outage_ends_when_the_database_takes_connections() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let config = tempfile::TempDir::new().unwrap();
        std::fs::write(config.path().join("alias_maps.cf"), format!("hosts = {address} {address}\n"))
            .unwrap();
        drop(listener);
        assert!(timeout(Duration::from_millis(100), end(config.path())).await.is_err());
        let _listener = std::net::TcpListener::bind(address).unwrap();
        timeout(Duration::from_secs(10), end(config.path())).await.unwrap();
    }
}
