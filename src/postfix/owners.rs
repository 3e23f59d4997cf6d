//! The list of what has to be in the mail store with another owner than the server's, for the agent.

use super::MailOwner;
use super::text::Error;

/// Name of the list beside main.cf.
pub const FILE: &str = "owners";

/// Most bytes of the list: it shares a `ConfigMap`, of at most 1 MiB, with everything else.
const LARGEST: usize = 900 << 10;

const PATH_RULE: &str = "an address whose local part can't be the name of a directory";
const SIZE_RULE: &str = "fewer mailboxes with an owner of their own, or fewer domains of mbox files: the list of them doesn't fit into a ConfigMap";

/// `uid gid path` a line: what belongs to the server's owner, then what belongs to another.
pub(super) fn render(directories: &[MailOwner], owners: &[MailOwner]) -> Result<String, Error> {
    let is_owned = |directory: &&MailOwner| !owners.iter().any(|owner| owner.path == directory.path);
    let all: Vec<&MailOwner> = directories.iter().filter(is_owned).chain(owners).collect();
    if all.iter().any(|owner| !is_safe(&owner.path)) {
        return Err(Error::new("metadata", PATH_RULE));
    }
    let text = text(all);
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
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_list_is_read_as_it_was_written(paths in prop::collection::vec(".{0,20}", 0..5), uid in 1..i32::MAX) {
            let owners: Vec<_> = paths.into_iter().map(|path| MailOwner { path, uid, gid: 901 }).collect();
            if let Ok(text) = render(&[], &owners) {
                prop_assert_eq!(parse(&text), owners.clone());
                for owner in owners {
                    prop_assert!(!owner.path.starts_with('/') && !owner.path.split('/').any(|name| name == ".."));
                }
            }
        }
    }
}
