//! Files and directories: read as the kubelet mounts them, written so that Postfix takes them at once.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::Error;
use crate::postfix::MAIN_CF;

/// Postfix waits until a file is older than a second before it trusts it; ours are complete when they get their name.
pub(super) const AGE: Duration = Duration::from_mins(1);

/// The directory that the kubelet's `..data` leads to now: what is in it belongs together, also while it is exchanged.
pub(super) fn current(mount: &Path) -> Result<PathBuf, Error> {
    let data = mount.join("..data");
    if data.exists() { data.canonicalize().map_err(Error::file(data)) } else { Ok(mount.to_owned()) }
}

/// The text of a file.
pub(super) fn read(path: &Path) -> Result<String, Error> {
    fs::read_to_string(path).map_err(Error::file(path))
}

/// `None` in place of the error of a file that is not there.
pub(super) fn optional(text: Result<String, Error>) -> Result<Option<String>, Error> {
    match text {
        Err(Error::File { error, .. }) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

/// Makes a directory with nothing in it.
pub(super) fn empty(directory: &Path) -> io::Result<()> {
    if directory.exists() {
        fs::remove_dir_all(directory)?;
    }
    fs::create_dir_all(directory)?;
    fs::set_permissions(directory, Permissions::from_mode(0o755))
}

/// Writes a new file.
pub(super) fn write(path: &Path, text: &str, mode: u32, group: Option<u32>) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    file.set_permissions(Permissions::from_mode(mode))?;
    if group.is_some() {
        chown(path, None, group)?;
    }
    file.write_all(text.as_bytes())?;
    file.set_modified(SystemTime::now() - AGE)
}

/// Moves a checked configuration into the directory that Postfix runs with, main.cf last, as it names the others; then
/// removes what is left of the one before.
pub(super) fn take(candidate: &Path, active: &Path) -> Result<(), Error> {
    fs::create_dir_all(active).map_err(Error::file(active))?;
    let taken = names(candidate)?;
    let (main, others): (Vec<_>, Vec<_>) = taken.iter().partition(|name| *name == MAIN_CF);
    for name in others.into_iter().chain(main) {
        fs::rename(candidate.join(name), active.join(name)).map_err(Error::file(active.join(name)))?;
    }
    for stale in names(active)?.difference(&taken) {
        fs::remove_file(active.join(stale)).map_err(Error::file(active.join(stale)))?;
    }
    Ok(())
}

pub(super) fn names(directory: &Path) -> Result<BTreeSet<OsString>, Error> {
    let entries = fs::read_dir(directory).map_err(Error::file(directory))?;
    entries.map(|entry| entry.map(|entry| entry.file_name()).map_err(Error::file(directory))).collect()
}
