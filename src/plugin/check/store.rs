//! Whether virtual(8) can write mail. Pure.

use super::report::Check;
use crate::plugin::pod::Said;

/// Least share of a volume, in percent, that should be free.
const FREE: u64 = 5;

/// Judges `stat -c %u:%g`.
pub(super) fn judge_owner((uid, gid): (i32, i32), path: &str, said: &Said) -> Check {
    let wanted = format!("{uid}:{gid}");
    if said.code != 0 {
        return Check::failed("mail store", format!("{path}: {}", said.stderr));
    }
    if said.stdout == wanted {
        return Check::ok("mail store", format!("{path} belongs to {wanted}"));
    }
    let message = format!(
        "{path} belongs to {} and mail is delivered as {wanted}: run `chown {wanted} {path}` in the pod",
        said.stdout
    );
    Check::failed("mail store", message)
}

/// Judges `df -P -B1` and `df -P -i`.
pub(super) fn judge_space(volume: &str, bytes: &Said, inodes: &Said) -> Check {
    let Some((total, free)) = sizes(bytes) else {
        return Check::failed("free space", format!("{volume}: df says {} {}", bytes.stdout, bytes.stderr));
    };
    let percent = percent(free, total);
    // A file system that makes inodes as it needs them has none to count.
    let inodes = sizes(inodes).filter(|(total, _)| *total > 0).map(|(total, free)| percent_of(free, total));
    let inodes_told = inodes.map(|percent| format!(", and {percent} % of its inodes")).unwrap_or_default();
    let message = format!("{volume}: {percent} % free ({} MiB){inodes_told}", free / (1024 * 1024));
    if percent >= FREE && inodes.is_none_or(|percent| percent >= FREE) {
        Check::ok("free space", message)
    } else {
        Check::failed("free space", format!("{message}: make the volume larger, or remove mail"))
    }
}

fn percent(free: u64, total: u64) -> u64 {
    if total == 0 { 0 } else { percent_of(free, total) }
}

fn percent_of(free: u64, total: u64) -> u64 {
    free.saturating_mul(100) / total
}

/// The columns total and available of df's last line.
fn sizes(said: &Said) -> Option<(u64, u64)> {
    let columns: Vec<&str> =
        said.stdout.lines().last().filter(|_| said.code == 0)?.split_whitespace().collect();
    Some((columns.get(1)?.parse().ok()?, columns.get(3)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> Said {
        Said { stdout: text.to_owned(), ..Said::default() }
    }

    #[test]
    fn another_owner_is_told_with_the_command_that_mends_it() {
        assert!(judge_owner((901, 901), "/var/vmail", &said("901:901")).ok);
        let check = judge_owner((901, 901), "/var/vmail", &said("0:0"));
        assert!(!check.ok && check.message.contains("`chown 901:901 /var/vmail`"));
    }

    #[test]
    fn a_full_volume_fails_by_bytes_and_by_inodes() {
        let df =
            |total: u64, free: u64| said(&format!("Filesystem x\n/dev/a {total} 7 {free} 1% /var/vmail"));
        assert!(judge_space("/v", &df(100, 5), &df(100, 50)).ok);
        assert!(!judge_space("/v", &df(100, 4), &df(100, 50)).ok);
        assert!(!judge_space("/v", &df(100, 50), &df(100, 4)).ok);
        assert!(judge_space("/v", &df(100, 50), &df(0, 0)).ok);
        assert!(!judge_space("/v", &said("nonsense"), &df(1, 1)).ok);
    }
}
