//! The base directories of the volumes: the provisioner's own root has an owner that nobody chose, so Postfix gets a
//! directory inside it.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use clap::Args;

use super::Error;

const ROOT: (u32, u32) = (0, 0);

/// Arguments of `agent prepare`.
#[derive(Args, Debug)]
pub struct PrepareArguments {
    /// User that owns the mail
    #[arg(long, env = "VMAIL_UID", default_value_t = 901)]
    pub uid: u32,
    /// Group that owns the mail
    #[arg(long, env = "VMAIL_GID", default_value_t = 901)]
    pub gid: u32,
    /// Directory for the mail, inside the mail volume
    #[arg(long, env = "VMAIL_MAIL", default_value = "/volumes/mail/mail")]
    pub mail: PathBuf,
    /// Directory for the queue, inside the queue volume
    #[arg(long, env = "VMAIL_QUEUE", default_value = "/volumes/queue/queue")]
    pub queue: PathBuf,
}

pub(super) fn prepare(arguments: &PrepareArguments) -> Result<(), Error> {
    directory(&arguments.mail, (arguments.uid, arguments.gid), 0o770)
        .map_err(Error::file(&arguments.mail))?;
    directory(&arguments.queue, ROOT, 0o755).map_err(Error::file(&arguments.queue))
}

/// Makes a directory, or corrects owner and mode of one that is there; never of what is in it. What is right already is
/// left alone: not every file system lets root change it.
pub(super) fn directory(path: &Path, owner: (u32, u32), mode: u32) -> io::Result<()> {
    fs::create_dir_all(path)?;
    let found = fs::symlink_metadata(path)?;
    if !found.is_dir() {
        // A symbolic link could lead out of the volume.
        return Err(io::ErrorKind::NotADirectory.into());
    }
    if (found.uid(), found.gid()) != owner {
        chown(path, Some(owner.0), Some(owner.1))?;
    }
    if found.mode() & 0o7777 != mode {
        fs::set_permissions(path, Permissions::from_mode(mode))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_get_their_mode_again_and_their_content_is_left_alone() {
        let volume = tempfile::TempDir::new().unwrap();
        let found = fs::metadata(volume.path()).unwrap();
        let owner = (found.uid(), found.gid());
        let path = volume.path().join("mail");
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;

        directory(&path, owner, 0o770).unwrap();
        assert_eq!(mode(&path), 0o770);
        fs::write(path.join("message"), "kept").unwrap();
        fs::set_permissions(path.join("message"), Permissions::from_mode(0o600)).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o700)).unwrap();
        directory(&path, owner, 0o770).unwrap();
        assert_eq!((mode(&path), mode(&path.join("message"))), (0o770, 0o600));
        assert_eq!(fs::read_to_string(path.join("message")).unwrap(), "kept");
    }

    #[test]
    fn a_link_is_not_followed() {
        let volume = tempfile::TempDir::new().unwrap();
        let (target, link) = (volume.path().join("elsewhere"), volume.path().join("mail"));
        fs::create_dir(&target).unwrap();
        fs::set_permissions(&target, Permissions::from_mode(0o700)).unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        assert_eq!(directory(&link, ROOT, 0o770).unwrap_err().kind(), io::ErrorKind::NotADirectory);
        assert_eq!(fs::metadata(&target).unwrap().mode() & 0o777, 0o700);
    }
}
