//! Whether Postfix runs with what was rendered. Pure.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::report::Check;
use crate::postfix::AGENT_PARAMETERS;
use crate::postfix::queries::SUFFIX;
use crate::postfix::relay_host::{PASSWORD_PARAMETER, without_account};
use crate::postfix::tls::{CHAIN_PARAMETER, without_certificate};

/// Differences that a line shows.
const SHOWN: usize = 3;

const RELOAD: &str = "somebody changed it in the pod, or the agent has not taken the last change yet: wait a moment, or delete the pod";

/// The parameters of a main.cf, or of what postconf(1) prints, with single blanks in their values.
pub(super) fn parameters(text: &str) -> BTreeMap<String, String> {
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')) {
        match lines.last_mut().filter(|_| line.starts_with([' ', '\t'])) {
            Some(last) => {
                last.push(' ');
                last.push_str(line);
            }
            None => lines.push(line.to_owned()),
        }
    }
    let blanks = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    lines
        .iter()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.trim().to_owned(), blanks(value)))
        .collect()
}

/// What differs between a rendered main.cf and what `postconf -n` prints.
pub(super) fn differences(rendered: &str, running: &str) -> Vec<String> {
    let (rendered, running) = (parameters(rendered), parameters(running));
    let changed = rendered.iter().filter_map(|(name, wanted)| match running.get(name) {
        Some(value) if value == wanted => None,
        Some(value) => Some(format!("{name} is {value:?} and should be {wanted:?}")),
        None => Some(format!("{name} is not set, or Postfix knows no such parameter")),
    });
    // postconf(1) names the directory that it was asked for, as if main.cf did.
    let is_expected = |name: &str| name == "config_directory" || AGENT_PARAMETERS.contains(&name);
    let added = running.iter().filter(|(name, _)| !rendered.contains_key(*name) && !is_expected(name));
    changed.chain(added.map(|(name, value)| format!("{name} = {value} was not rendered"))).collect()
}

/// main.cf as it has to run, given whether the agent has a certificate: without one it offers no TLS, which is told.
pub(super) fn for_certificate<'a>(rendered: &'a str, running: &str) -> (Cow<'a, str>, Option<Check>) {
    let is_set = |text: &str| parameters(text).contains_key(CHAIN_PARAMETER);
    if !is_set(rendered) || is_set(running) {
        return (Cow::Borrowed(rendered), None);
    }
    let message = "Postfix offers no TLS: the Secret of postfix.tls is missing or can't be used: see the condition ConfigValid";
    (Cow::Owned(without_certificate(rendered)), Some(Check::failed("tls", message)))
}

/// The same for the account at the relay host: without it mail for that host waits, which is told.
pub(super) fn for_account<'a>(rendered: Cow<'a, str>, running: &str) -> (Cow<'a, str>, Option<Check>) {
    let waiting = without_account(&rendered);
    let table = |text: &str| parameters(text).remove(PASSWORD_PARAMETER);
    if table(&rendered) == table(&waiting) || table(running) != table(&waiting) {
        return (rendered, None);
    }
    let message = "mail for the relay host waits: the Secret of postfix.relayHost is missing or can't be used: see the condition ConfigValid";
    (Cow::Owned(waiting), Some(Check::failed("relayHost", message)))
}

pub(super) fn judge(rendered: &str, differences: &[String]) -> Check {
    if differences.is_empty() {
        let count = parameters(rendered).len();
        return Check::ok("postconf", format!("{count} parameters and master.cf are as rendered"));
    }
    let more = match differences.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    let shown = differences[..differences.len().min(SHOWN)].join("; ");
    Check::failed("postconf", format!("{shown}{more}: {RELOAD}"))
}

/// The line with the query of each look-up file.
pub(super) fn queries(files: &BTreeMap<String, String>) -> BTreeMap<&str, String> {
    let query = |text: &str| text.lines().find(|line| line.starts_with("query = ")).map(str::to_owned);
    files
        .iter()
        .filter(|(name, _)| name.ends_with(SUFFIX))
        .filter_map(|(name, text)| Some((name.as_str(), query(text)?)))
        .collect()
}

pub(super) fn judge_queries(rendered: &BTreeMap<&str, String>, running: &BTreeMap<&str, String>) -> Check {
    let changed: Vec<&str> = rendered
        .iter()
        .filter(|(file, query)| running.get(*file) != Some(*query))
        .map(|(file, _)| *file)
        .collect();
    if changed.is_empty() {
        Check::ok("queries", format!("{} queries to the database are as rendered", rendered.len()))
    } else {
        Check::failed("queries", format!("{} not as rendered: {RELOAD}", changed.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RENDERED: &str = "# comment\nmyhostname = a.example.org\nnotify_classes =\nmaps = a,\n  b\n";

    #[test]
    fn blanks_order_and_the_directory_itself_are_no_difference() {
        assert_eq!(
            differences(
                RENDERED,
                "config_directory = /c\nvmail_maps = /m\npostlog_service_name = x\nmaps = a,   b\nmyhostname = a.example.org\nnotify_classes = \n"
            ),
            [""; 0]
        );
    }

    #[test]
    fn a_changed_a_missing_and_a_foreign_parameter_are_named() {
        let running = "maps = a\nmyhostname = a.example.org\nmynetworks = 0.0.0.0/0\n";
        let found = differences(RENDERED, running);
        assert_eq!(
            found,
            [
                "maps is \"a\" and should be \"a, b\"",
                "notify_classes is not set, or Postfix knows no such parameter",
                "mynetworks = 0.0.0.0/0 was not rendered",
            ]
        );
        assert!(!judge(RENDERED, &found).ok);
    }

    #[test]
    fn no_tls_for_want_of_a_certificate_is_told_as_that_and_as_no_change_in_the_pod() {
        let running = "myhostname = a\n";
        let rendered = format!(
            "{running}smtpd_tls_security_level = may\nsmtpd_tls_chain_files = $config_directory/tls.pem\n"
        );
        let (wanted, check) = for_certificate(&rendered, running);
        assert_eq!(differences(&wanted, running), [""; 0]);
        assert!(check.is_some_and(|check| !check.ok && check.message.contains("ConfigValid")));
        let (wanted, check) = for_certificate(&rendered, &rendered);
        assert!(check.is_none() && *wanted == *rendered);
        assert!(for_certificate(running, running).1.is_none());
    }

    #[test]
    fn mail_that_waits_for_want_of_an_account_is_told_as_that_and_as_no_change_in_the_pod() {
        let rendered = "relayhost = [smtp.example.net]:587\n\
            smtp_sasl_password_maps = texthash:$config_directory/sasl_passwd\n";
        let running = without_account(rendered);
        let (wanted, check) = for_account(rendered.into(), &running);
        assert_eq!(differences(&wanted, &running), [""; 0]);
        assert!(check.is_some_and(|check| !check.ok && check.message.contains("ConfigValid")));
        for other in [rendered, "relayhost = [smtp.example.net]:587\n"] {
            let (wanted, check) = for_account(rendered.into(), other);
            assert!(check.is_none() && wanted == rendered, "{other}");
        }
        assert!(for_account("myhostname = a\n".into(), "myhostname = a\n").1.is_none());
    }

    #[test]
    fn a_changed_query_names_its_file_and_nothing_of_its_content() {
        let files = BTreeMap::from([
            ("alias_maps.cf".to_owned(), "query = SELECT 1\nhosts = x\n".to_owned()),
            ("main.cf".to_owned(), "query = x\n".to_owned()),
        ]);
        let rendered = queries(&files);
        assert!(judge_queries(&rendered, &rendered.clone()).ok);
        let running = BTreeMap::from([("alias_maps.cf", "query = SELECT 2".to_owned())]);
        let check = judge_queries(&rendered, &running);
        assert!(!check.ok && check.message.starts_with("alias_maps.cf not as rendered"));
    }
}
