//! The list of what has to be in the mail store with another owner than the server's, for the agent.

use std::collections::BTreeMap;

use super::MailOwner;
use super::text::Error;

/// Name of the list beside main.cf.
pub const FILE: &str = "owners";

/// Most bytes of the list: it shares a `ConfigMap`, of at most 1 MiB, with everything else.
const LARGEST: usize = 900 << 10;

const PATH_RULE: &str = "an address whose local part can't be the name of a directory";
const SIZE_RULE: &str = "fewer mailboxes with an owner of their own, or fewer domains of mbox files: the list of them doesn't fit into a ConfigMap";

/// `uid gid path` a line, by path: what belongs to the server's owner, and what belongs to another, who comes first.
pub(super) fn render(directories: &[MailOwner], owners: &[MailOwner]) -> Result<String, Error> {
    let by_path = directories.iter().chain(owners).map(|owner| (&*owner.path, owner));
    let all: BTreeMap<&str, &MailOwner> = by_path.collect();
    if all.keys().any(|path| !is_safe(path)) {
        return Err(Error::new("metadata", PATH_RULE));
    }
    let text = text(all.into_values());
    if text.len() > LARGEST { Err(Error::new("uid", SIZE_RULE)) } else { Ok(text) }
}

/// The list as text.
#[must_use]
pub fn text<'a>(owners: impl IntoIterator<Item = &'a MailOwner>) -> String {
    let line = |MailOwner { path, uid, gid }: &MailOwner| format!("{uid} {gid} {path}\n");
    owners.into_iter().map(line).collect()
}

/// Reads the list back; a line that can't be read is left out.
#[must_use]
pub fn parse(text: &str) -> Vec<MailOwner> {
    let line = |line: &str| {
        let mut words = line.splitn(3, ' ');
        let (uid, gid) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let path = words.next().filter(|path| is_safe(path))?.to_owned();
        Some(MailOwner { path, uid, gid })
    };
    text.lines().filter_map(line).collect()
}

/// Whether a path is one or two names below the mail store: no `..`, nothing absolute, no line end.
#[must_use]
pub fn is_safe(path: &str) -> bool {
    let names: Vec<&str> = path.trim_end_matches('/').split('/').collect();
    let is_name =
        |name: &&str| !name.is_empty() && !name.starts_with('.') && !name.contains(char::is_control);
    names.len() <= 2 && names.iter().all(is_name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::postfix::tests::hostile::hostile;

    proptest! {
        #[test]
        fn a_list_is_read_as_it_was_written(
            paths in prop::collection::vec(prop_oneof![2 => "[a-z]{1,9}/([a-z@.+ ]{1,9}/?)?", 3 => hostile()], 1..5),
            uid in 1..i32::MAX,
            gid in 1..i32::MAX,
        ) {
            let paths: Vec<String> = BTreeSet::from_iter(paths).into_iter().collect();
            let owners: Vec<_> = paths.iter().map(|path| MailOwner { path: path.clone(), uid, gid }).collect();
            let is_bad = |path: &String| {
                let names = path.trim_end_matches('/').split('/').collect::<Vec<_>>();
                names.len() > 2 || path.contains(char::is_control) || names.iter().any(|name| name.is_empty() || name.starts_with('.'))
            };
            match render(&[], &owners) {
                Ok(text) => {
                    prop_assert!(!paths.iter().any(is_bad), "{paths:?} are taken");
                    prop_assert_eq!(text.split_terminator('\n').count(), owners.len());
                    prop_assert_eq!(parse(&text), owners);
                }
                Err(_) => prop_assert!(paths.iter().any(is_bad), "{paths:?} are refused"),
            }
        }

        /// An agent reads what it is given.
        #[test]
        fn no_line_leads_out_of_the_mail_store(text in hostile()) {
            for owner in parse(&format!("901 901 {text}\n")) {
                prop_assert!(!owner.path.starts_with('/') && !owner.path.split('/').any(|name| name == ".."), "{owner:?}");
            }
        }
    }
}
