//! Directories and mbox files with an owner of their own, made before mail comes to them.
//!
//! virtual(8) makes what is missing as the user that it delivers for, and a directory then belongs to the first of
//! them: another user's mail to the same domain would be deferred.

use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use super::Error;
use super::prepare::directory;
use crate::postfix::MailOwner;

/// Others pass through a domain's directory to their own.
const DOMAIN_MODE: u32 = 0o711;

const MAILBOX_MODE: u32 = 0o700;

const MBOX_MODE: u32 = 0o600;

/// Makes all of `owners` below `base`, or corrects their owner; never of what is in them. Lets every user pass through
/// `base` where one of them is not the base's.
pub(super) fn make(base: &Path, owners: &[MailOwner]) -> Result<(), Error> {
    open_to_others(base, owners).map_err(Error::file(base))?;
    for owner in owners {
        let path = base.join(owner.path.trim_end_matches('/'));
        make_one(&path, owner).map_err(Error::file(&path))?;
    }
    Ok(())
}

fn open_to_others(base: &Path, owners: &[MailOwner]) -> io::Result<()> {
    let Some(found) = (!owners.is_empty()).then(|| std::fs::metadata(base)).transpose()? else {
        return Ok(());
    };
    if owners.iter().all(|owner| u32::try_from(owner.uid) == Ok(found.uid())) {
        return Ok(());
    }
    std::fs::set_permissions(base, Permissions::from_mode(found.mode() & 0o7777 | 0o001))
}

fn make_one(path: &Path, MailOwner { path: name, uid, gid }: &MailOwner) -> io::Result<()> {
    let ids = (u32::try_from(*uid).unwrap_or_default(), u32::try_from(*gid).unwrap_or_default());
    match name.strip_suffix('/') {
        Some(directory_name) => {
            let mode = if directory_name.contains('/') { MAILBOX_MODE } else { DOMAIN_MODE };
            directory(path, ids, mode)
        }
        None => mbox(path, ids),
    }
}

fn mbox(path: &Path, (uid, gid): (u32, u32)) -> io::Result<()> {
    match File::create_new(path) {
        Ok(file) => file.set_permissions(Permissions::from_mode(MBOX_MODE))?,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            if !std::fs::symlink_metadata(path)?.is_file() {
                return Err(io::ErrorKind::InvalidInput.into());
            }
        }
        Err(error) => return Err(error),
    }
    chown(path, Some(uid), Some(gid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_and_mbox_files_get_their_modes_and_what_is_there_stays() {
        let base = tempfile::TempDir::new().unwrap();
        std::fs::set_permissions(base.path(), Permissions::from_mode(0o770)).unwrap();
        let me = std::fs::metadata(base.path()).unwrap();
        let (uid, gid) = (i32::try_from(me.uid()).unwrap(), i32::try_from(me.gid()).unwrap());
        let owners: Vec<_> = ["a.org/", "a.org/bob/", "a.org/mbox"]
            .map(|path| MailOwner { path: path.into(), uid, gid })
            .into();
        for _ in 0..2 {
            make(base.path(), &owners).unwrap();
            let mode = |name: &str| std::fs::metadata(base.path().join(name)).unwrap().mode() & 0o7777;
            assert_eq!(mode("") & 0o001, 0, "there is no other user to pass through");
            assert_eq!([mode("a.org"), mode("a.org/bob"), mode("a.org/mbox")], [0o711, 0o700, 0o600]);
            std::fs::write(base.path().join("a.org/mbox"), "mail").unwrap();
        }
        assert_eq!(std::fs::read_to_string(base.path().join("a.org/mbox")).unwrap(), "mail");
    }
}
