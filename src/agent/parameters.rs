//! Whether Postfix's daemons could run with a configuration.
//!
//! `postfix check` reads only the parameters that all programs share. A daemon reads its own when master(8) starts it,
//! and with a bad one the port is open and nobody answers. So each daemon is started once as master(8) would, with the
//! configuration in question and a queue of its own: it reads its parameters, opens its tables and sets up TLS. Then it
//! finds that master(8) has closed its end of the status pipe, and ends. What it says goes to the log, and the log, for
//! this purpose, is a socket of ours.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use futures::future::join_all;
use tokio::net::UnixDatagram;
use tokio::process::Command;

use super::Error;
use super::children::Children;
use super::config::Mounted;
use super::ids::user_id;
use super::log::{self, is_complaint};
use super::restrictions;
use crate::postfix::{MAIN_CF, MASTER_CF, QUEUE_DIRECTORY};

/// Gives a daemon the descriptors that master(8) gives it: 3 and 4 say how much mail flows, 5 is the status pipe, whose
/// other end is closed, and 6 where clients come from, of whom there is none.
const AS_MASTER: &str = r#"exec "$0" "$@" 3<&0 4>&1 5<&0 6>&1"#;

/// Directories of a queue that daemons expect to be there.
const QUEUES: [&str; 7] = ["active", "deferred", "flush", "incoming", "maildrop", "private", "public"];

/// Starts every daemon of `mounted`, which is written to `candidate`. `queue` is a directory of the check's own.
pub(super) async fn check(
    children: &Children,
    mounted: &Mounted,
    candidate: &Path,
    queue: &Path,
) -> Result<(), Error> {
    let daemons = PathBuf::from(daemon_directory(children).await?);
    let log = log_socket(queue).map_err(Error::file(queue))?;
    let main = mounted.text(MAIN_CF);
    let runs =
        services(mounted.text(MASTER_CF)).into_iter().map(|(program, service)| {
            let mut command = Command::new("sh");
            command.args(["-c", AS_MASTER]).arg(daemons.join(program)).args(options(&service, main, queue));
            // Without these two a daemon believes that it is on its own and logs to syslog.
            command.env("POSTLOG_SERVICE", log::socket(queue)).env("POSTLOG_HOSTNAME", "localhost");
            command.env("MAIL_CONFIG", candidate).current_dir(queue);
            async move {
                children.output_of(program, &mut command, ended().map_err(Error::system(program))?).await
            }
        });
    let mut lines = Vec::new();
    tokio::select! {
        ended = join_all(runs) => ended.into_iter().collect::<Result<Vec<_>, Error>>().map(|_| ())?,
        never = receive(&log, &mut lines) => match never {},
    }
    while let Some(line) = waiting(&log) {
        lines.push(line);
    }
    let smtpd = daemons.join("smtpd");
    let program = fs::read(&smtpd).map_err(Error::file(smtpd))?;
    let mut refusals = complaints(&lines);
    refusals.extend(restrictions::unknown(main, &program));
    if refusals.is_empty() {
        Ok(())
    } else {
        Err(Error::Refused(refusals.into_iter().collect::<Vec<_>>().join("; ")))
    }
}

async fn daemon_directory(children: &Children) -> Result<String, Error> {
    let output =
        children.output("postconf", Command::new("postconf").args(["-dh", "daemon_directory"])).await?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// A pipe that nobody writes to any more.
fn ended() -> std::io::Result<Stdio> {
    let (reader, _) = std::io::pipe()?;
    Ok(reader.into())
}

/// The socket of Postfix's log in a queue directory of its own. tlsmgr(8) is the one that runs, if it does: without it
/// the others go on, a second later.
fn log_socket(queue: &Path) -> std::io::Result<UnixDatagram> {
    if queue.exists() {
        fs::remove_dir_all(queue)?;
    }
    for name in QUEUES {
        fs::create_dir_all(queue.join(name))?;
    }
    symlink(Path::new(QUEUE_DIRECTORY).join("private/tlsmgr"), queue.join("private/tlsmgr"))?;
    let data = data(queue);
    fs::create_dir(&data)?;
    if let Some(postfix) = user_id("postfix") {
        chown(&data, Some(postfix), None)?;
    }
    let socket = log::bind(&log::socket(queue))?;
    socket.set_nonblocking(true)?;
    UnixDatagram::from_std(socket)
}

/// Stands for `data_directory`.
fn data(queue: &Path) -> PathBuf {
    queue.join("data")
}

async fn receive(log: &UnixDatagram, lines: &mut Vec<String>) -> std::convert::Infallible {
    loop {
        // An error is no line; the daemons' end ends the wait.
        if log.readable().await.is_ok() {
            lines.extend(waiting(log));
        }
    }
}

fn waiting(log: &UnixDatagram) -> Option<String> {
    let mut line = [0; log::LINE];
    let length = log.try_recv(&mut line).ok()?;
    Some(String::from_utf8_lossy(&line[..length]).into_owned())
}

/// A line of master.cf, as far as a daemon is told of it.
#[derive(Debug, Eq, PartialEq)]
struct Service<'a> {
    name: &'a str,
    type_: &'a str,
    arguments: Vec<&'a str>,
}

/// The programs that master.cf starts, each with the first line that does: one that neither continues another nor is a
/// comment. postlogd(8) is left out: the agent does its work.
fn services(master: &str) -> BTreeMap<&str, Service<'_>> {
    let mut services = BTreeMap::new();
    for line in master.lines().filter(|line| !line.starts_with(['#', ' ', '\t'])) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [name, type_, _, _, _, _, _, program, arguments @ ..] = words.as_slice() else { continue };
        if *type_ != "unix-dgram" {
            let service = Service { name, type_, arguments: arguments.to_vec() };
            services.entry(*program).or_insert(service);
        }
    }
    services
}

/// A daemon's options. `-l` and `-z` are the two limits on processes that some daemons insist on.
fn options(service: &Service<'_>, main: &str, queue: &Path) -> Vec<String> {
    let mut options: Vec<String> =
        ["-l", "-z", "-t", service.type_, "-n", service.name].map(str::to_owned).into();
    options.extend(service.arguments.iter().map(|&argument| argument.to_owned()));
    let own = [("queue_directory", queue), ("data_directory", &data(queue))]
        .map(|(name, path)| format!("{name}={}", path.display()));
    for setting in own.into_iter().chain(direct(main)) {
        options.extend(["-o".to_owned(), setting]);
    }
    options
}

/// Settings that name tables of proxymap(8), which nobody runs here: they are opened without it.
fn direct(main: &str) -> impl Iterator<Item = String> {
    let proxied = main.lines().filter(|line| !line.starts_with('#') && line.contains("proxy:"));
    proxied.map(|line| line.replace("proxy:", ""))
}

/// What keeps a daemon from doing its work, without the time and the process that stand before it.
fn complaints(log: &[String]) -> BTreeSet<String> {
    let complaints = log.iter().filter(|line| is_complaint(line));
    complaints.filter_map(|line| line.split_once("]: ")).map(|(_, words)| words.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_daemon_is_started_once_and_as_master_would() {
        let master = "# service type\nsmtp inet n - n - - smtpd\n  -o syslog_name=x a b c d e f\nsmtp unix - - n - - smtp\nrelay unix - - n - - smtp\nrewrite unix - - n - - trivial-rewrite -o helpful_warnings=no\npostlog unix-dgram n - n - 1 postlogd\n";
        let services = services(master);
        assert_eq!(services.keys().copied().collect::<Vec<_>>(), ["smtp", "smtpd", "trivial-rewrite"]);
        let rewrite = options(&services["trivial-rewrite"], "", Path::new("/q"));
        let expected =
            "-l -z -t unix -n rewrite -o helpful_warnings=no -o queue_directory=/q -o data_directory=/q/data";
        assert_eq!(rewrite.join(" "), expected);
    }

    #[test]
    fn no_table_is_looked_for_at_a_proxymap_that_does_not_run() {
        let main = "# proxy:x\nvirtual_alias_maps = proxy:mysql:$config_directory/a.cf proxy:mysql:/b.cf\nmyhostname = a\n";
        let expected = "virtual_alias_maps = mysql:$config_directory/a.cf mysql:/b.cf";
        assert_eq!(direct(main).collect::<Vec<_>>(), [expected]);
    }

    #[test]
    fn whatever_stops_a_daemon_is_a_refusal_whether_it_names_a_parameter_or_not() {
        let log = [
            "Nov 23 05:01:55 myhost postfix/smtpd[43]: fatal: Invalid TLS level \"encrpt\"",
            "Nov 23 05:01:55 myhost postfix/lmtp[44]: fatal: Invalid TLS level \"encrpt\"",
            "Nov 23 05:01:57 myhost postfix/cleanup[45]: error: open /nowhere: No such file or directory",
            "Nov 23 05:01:58 myhost postfix/smtp[46]: warning: connect to private/tlsmgr: No such file or directory",
        ];
        let log: Vec<_> = log.into_iter().map(str::to_owned).collect();
        let refused =
            ["error: open /nowhere: No such file or directory", "fatal: Invalid TLS level \"encrpt\""];
        assert_eq!(complaints(&log).into_iter().collect::<Vec<_>>(), refused);
    }
}
