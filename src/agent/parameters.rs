//! Whether Postfix's daemons accept the values of their parameters.
//!
//! `postfix check` reads only the parameters that all programs share. A daemon reads its own when master(8) starts it,
//! and with a bad one the port is open and nobody answers. So each daemon is started once by hand with the
//! configuration in question: it reads its parameters, then finds that it was not started by master(8), and ends. What
//! it says goes to the log, and the log, for this purpose, is a socket of ours.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Stdio;

use futures::future::join_all;
use tokio::net::UnixDatagram;
use tokio::process::Command;

use super::Error;
use super::children::Children;
use super::config::Mounted;
use super::log::{self, is_complaint};
use crate::postfix::{MAIN_CF, MASTER_CF};

/// Starts every daemon of `mounted`, which is written to `candidate`. `queue` is a directory of the check's own.
pub(super) async fn check(
    children: &Children,
    mounted: &Mounted,
    candidate: &Path,
    queue: &Path,
) -> Result<(), Error> {
    let daemons = daemon_directory(children).await?;
    let log = log_socket(queue).map_err(Error::file(queue))?;
    let runs = daemon_names(mounted.text(MASTER_CF)).into_iter().map(|name| {
        let mut command = Command::new(Path::new(&daemons).join(name));
        command.arg("-o").arg(format!("queue_directory={}", queue.display())).args(["-n", "check"]);
        // Without these two a daemon believes that it is on its own and logs to syslog.
        command.env("POSTLOG_SERVICE", log::socket(queue)).env("POSTLOG_HOSTNAME", "localhost");
        command.env("MAIL_CONFIG", candidate).stdin(Stdio::null());
        async move { children.output(name, &mut command).await }
    });
    let mut lines = Vec::new();
    tokio::select! {
        ended = join_all(runs) => ended.into_iter().collect::<Result<Vec<_>, Error>>().map(|_| ())?,
        never = receive(&log, &mut lines) => match never {},
    }
    while let Some(line) = waiting(&log) {
        lines.push(line);
    }
    let refusals = refusals(mounted.text(MAIN_CF), &lines);
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

/// The socket of Postfix's log in a queue directory of its own.
fn log_socket(queue: &Path) -> std::io::Result<UnixDatagram> {
    if queue.exists() {
        fs::remove_dir_all(queue)?;
    }
    fs::create_dir_all(queue.join("public"))?;
    let socket = log::bind(&log::socket(queue))?;
    socket.set_nonblocking(true)?;
    UnixDatagram::from_std(socket)
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

/// The programs that master.cf starts: the eighth field of a line that neither continues another nor is a comment.
fn daemon_names(master: &str) -> BTreeSet<&str> {
    let services = master.lines().filter(|line| !line.starts_with(['#', ' ', '\t']));
    services.filter_map(|line| line.split_whitespace().nth(7)).collect()
}

/// Complaints that name a parameter of main.cf. All others are about a daemon that master(8) did not start.
fn refusals(main: &str, log: &[String]) -> BTreeSet<String> {
    let parameters: BTreeSet<&str> =
        main.lines().filter_map(|line| line.split_once(" =")).map(|(name, _)| name).collect();
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let names_one = |line: &str| line.split(|c| !is_word(c)).any(|word| parameters.contains(word));
    let complaints = log.iter().filter(|line| is_complaint(line));
    complaints
        .filter_map(|line| line.split_once("]: "))
        .map(|(_, words)| words)
        .filter(|words| names_one(words))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_daemon_is_started_once() {
        let master = "# service type\nsmtp inet n - n - - smtpd\n  -o syslog_name=x a b c d e f\nsmtp unix - - n - - smtp\nbounce unix - - n - 0 bounce\ndefer unix - - n - 0 bounce\n";
        assert_eq!(daemon_names(master).into_iter().collect::<Vec<_>>(), ["bounce", "smtp", "smtpd"]);
    }

    #[test]
    fn only_complaints_about_parameters_count() {
        let log = [
            "Nov 23 05:01:55 myhost postfix/smtpd[43]: fatal: bad numerical configuration: smtpd_hard_error_limit = 7x",
            "Nov 23 05:01:56 myhost postfix/cleanup[44]: fatal: service check requires a process limit of 0",
            "Nov 23 05:01:57 myhost postfix/virtual[45]: fatal: no transport type specified",
            "Nov 23 05:01:58 myhost postfix/virtual[46]: warning: smtpd_hard_error_limit: a warning",
        ];
        let log: Vec<_> = log.into_iter().map(str::to_owned).collect();
        let refused = refusals("transport = x\nsmtpd_hard_error_limit = 7x\n", &log[..2]);
        assert_eq!(
            refused.into_iter().collect::<Vec<_>>(),
            ["fatal: bad numerical configuration: smtpd_hard_error_limit = 7x"]
        );
        assert_eq!(refusals("smtpd_hard_error_limit = 7\nmyhostname = a\n", &log[1..]), BTreeSet::new());
    }
}
