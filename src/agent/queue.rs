//! Postfix's queue as it lies on the disk: how many messages wait, and where.

use std::fs;
use std::io;
use std::path::Path;

/// The queues that qmgr(8) and pickup(8) know, and hold.
pub(super) const QUEUES: [&str; 5] = ["maildrop", "incoming", "active", "deferred", "hold"];

/// Messages in one of the [`QUEUES`] below `directory`. One that moves meanwhile may be missed or counted twice.
///
/// # Errors
/// When the queue can't be read; a queue that Postfix has not made yet is empty.
pub(super) fn messages(directory: &Path, queue: &str) -> io::Result<u64> {
    count(&directory.join(queue))
}

/// Messages in all of the [`QUEUES`], with no single one missed: what moves from queue to queue is met by one of two
/// looks in opposite order.
///
/// # Errors
/// When the queue can't be read.
pub(super) fn all_messages(directory: &Path) -> io::Result<u64> {
    let forth: u64 = QUEUES.into_iter().map(|queue| messages(directory, queue)).sum::<io::Result<_>>()?;
    let back: u64 =
        QUEUES.into_iter().rev().map(|queue| messages(directory, queue)).sum::<io::Result<_>>()?;
    Ok(forth.max(back))
}

/// Files in a directory and those below it.
fn count(directory: &Path) -> io::Result<u64> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        entries => entries?,
    };
    let mut messages = 0;
    for entry in entries {
        let entry = entry?;
        // `hash_queue_names`: deferred mail lies in sub-directories.
        messages += match entry.file_type() {
            Ok(kind) if kind.is_dir() => count(&entry.path())?,
            Ok(_) => 1,
            Err(_) => 0,
        };
    }
    Ok(messages)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashed_queues_are_counted_and_missing_ones_are_empty() {
        let queue = tempfile::TempDir::new().unwrap();
        fs::create_dir_all(queue.path().join("deferred/A")).unwrap();
        fs::create_dir_all(queue.path().join("active")).unwrap();
        for file in ["deferred/A/A1", "deferred/A/A2", "deferred/B1", "active/C1"] {
            fs::write(queue.path().join(file), "").unwrap();
        }
        let counts = QUEUES.map(|name| messages(queue.path(), name).unwrap());
        assert_eq!(counts, [0, 0, 1, 3, 0]);
        assert_eq!(all_messages(queue.path()).unwrap(), 4);
    }
}
