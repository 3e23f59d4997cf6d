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

/// Shortest and longest time between two reloads; it doubles while the database is told to be away again at once.
const REST: (Duration, Duration) = (Duration::from_secs(2), Duration::from_mins(1));

/// How the words begin that the client libraries of MariaDB and MySQL have for a database that is away. All others, as
/// `Access denied` and `Too many connections`, are those of one that is there: no reload would change its mind.
const AWAY: [&str; 7] = [
    "Can't connect to ",
    "Lost connection to ",
    "Unknown server host ",
    "Unknown MySQL server host ",
    "Server has gone away",
    "MySQL server has gone away",
    "Server shutdown in progress",
];

/// Whether a line of the log tells that the database can't be reached. It is Postfix's own sentence at the place where
/// a message begins, which no client can write to.
pub(super) fn is_sign(line: &str) -> bool {
    let message = line.split_once("]: ").map(|(_, message)| message);
    let told = message.and_then(|message| message.strip_prefix("warning: connect to mysql server "));
    told.and_then(|told| told.split_once(": "))
        .is_some_and(|(_, words)| AWAY.iter().any(|away| words.starts_with(away)))
}

/// How long to rest after a reload; `before`: the rest before it, if the database was told to be away again during that.
pub(super) fn rest(before: Option<Duration>) -> Duration {
    before.map_or(REST.0, |rest| (rest * 2).min(REST.1))
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
    fn a_database_that_is_away_is_told_from_one_that_refuses() {
        let told = |words: &str| {
            let line =
                "Nov 23 05:13:29 myhost postfix/proxymap[225]: warning: connect to mysql server db:3306:";
            is_sign(&format!("{line} {words}\n"))
        };
        for words in [
            "Can't connect to server on 'db' (111)",
            "Can't connect to MySQL server on 'db:3306' (110)",
            "Unknown server host 'db' (-3)",
            "Unknown MySQL server host 'db' (-2)",
            "Lost connection to server at 'handshake: reading initial communication packet', system error: 104",
            "Lost connection to MySQL server at 'reading initial communication packet', system error: 0",
            "Server has gone away",
            "MySQL server has gone away",
            "Server shutdown in progress",
        ] {
            assert!(told(words), "{words}");
        }
        for words in [
            "Access denied for user 'postfixserver'@'10.0.0.9' (using password: YES)",
            "Too many connections",
            "Unknown database 'postfix'",
            "Host '10.0.0.9' is not allowed to connect to this MariaDB server",
            "TLS/SSL error: Validation of SSL server certificate failed",
            "User 'Can't connect to ' has exceeded the 'max_user_connections' resource (current value: 1)",
        ] {
            assert!(!told(words), "{words}");
        }
    }

    #[test]
    fn reloads_grow_rarer_while_the_database_comes_and_goes() {
        let (mut last, mut rests) = (None, Vec::new());
        for _ in 0..7 {
            last = Some(rest(last));
            rests.extend(last.map(|rest| rest.as_secs()));
        }
        assert_eq!((rests, rest(None).as_secs()), (vec![2, 4, 8, 16, 32, 60, 60], 2));
    }

    #[test]
    fn only_postfixs_own_words_are_a_sign() {
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
