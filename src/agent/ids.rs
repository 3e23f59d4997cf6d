//! Users and groups by name, passwd(5) and group(5).

use std::fs;

/// The id of a group, from /etc/group.
pub(super) fn group_id(group: &str) -> Option<u32> {
    id_in("/etc/group", group)
}

/// The id of a user, from /etc/passwd.
pub(super) fn user_id(user: &str) -> Option<u32> {
    id_in("/etc/passwd", user)
}

fn id_in(file: &str, name: &str) -> Option<u32> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.split(':').next() == Some(name))?;
    line.split(':').nth(2)?.parse().ok()
}
