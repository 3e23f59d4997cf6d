//! The base directories of the volumes: the provisioner's own root has an owner that nobody chose, so Postfix gets a
//! directory inside it. And mail whose default owner is another one than before.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::Path;

use clap::Args;
use rustix::fs::FileType;

use super::Error;
use super::contract::{MAIL_DIRECTORY, MAIL_VOLUME, QUEUE_DIRECTORY, QUEUE_VOLUME};
use super::tree::{Directory, Ids};

const ROOT: Ids = (0, 0);

/// How often the log tells of mailboxes that were given to another owner.
const TOLD_EVERY: u64 = 1000;

/// Whose mail it is that no domain and no mailbox names an owner for.
#[derive(Args, Clone, Copy, Debug)]
pub struct OwnerArguments {
    /// User that owns the mail
    #[arg(long, default_value_t = 901)]
    pub uid: u32,
    /// Group that owns the mail
    #[arg(long, default_value_t = 901)]
    pub gid: u32,
}

impl OwnerArguments {
    pub(super) fn ids(self) -> Ids {
        (self.uid, self.gid)
    }
}

pub(super) fn prepare(arguments: OwnerArguments) -> Result<(), Error> {
    let mail = Path::new(MAIL_VOLUME).join(MAIL_DIRECTORY);
    mail_store(&mail, arguments.ids()).map_err(Error::file(mail))?;
    let queue = Path::new(QUEUE_VOLUME).join(QUEUE_DIRECTORY);
    base(&queue)
        .and_then(|queue| queue.set_owner(ROOT).and_then(|()| queue.set_mode(0o755)))
        .map_err(Error::file(queue))
}

/// Makes the mail store. One that is there and belongs to another has an owner from before: mail that is his goes to the new
/// one, or virtual(8) could not put more beside it. The base is the last that does, so what was begun is ended.
fn mail_store(path: &Path, owner: Ids) -> io::Result<()> {
    let store = base(path)?;
    let before = store.owner()?;
    if before != owner {
        hand_over(&store, before, owner)?;
    }
    store.set_owner(owner)?;
    // Whether users with an owner of their own pass through it is the running agent's to say.
    store.set_mode(0o770 | (store.mode()? & 0o001))
}

/// A directory in a volume's root, made where it is missing. A symbolic link could lead out of the volume.
fn base(path: &Path) -> io::Result<Directory> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    fs::create_dir_all(parent)?;
    Directory::open(parent)?.make(name)
}

/// Gives all that one owner has in the mail store to another: directories of domains, and mailboxes of either format with
/// what is in them. What can't be given is told, and stops nothing else.
fn hand_over(store: &Directory, from: Ids, to: Ids) -> io::Result<()> {
    let mut given = 0_u64;
    for domain in visible(store)? {
        let Ok(directory) = store.child(&domain) else { continue };
        for mailbox in visible(&directory)? {
            match give(&directory, &mailbox, from, to) {
                Ok(false) => {}
                Ok(true) => {
                    given += 1;
                    if given.is_multiple_of(TOLD_EVERY) {
                        tracing::info!(mailboxes = given, "giving mail to its new owner");
                    }
                }
                Err(error) => {
                    tracing::error!(?domain, ?mailbox, %error, "mailbox not given to its new owner");
                }
            }
        }
        if directory.owner()? == from {
            directory.set_owner(to)?;
        }
    }
    if given > 0 {
        tracing::info!(mailboxes = given, ?from, ?to, "mail has its new owner");
    }
    Ok(())
}

fn visible(directory: &Directory) -> io::Result<Vec<std::ffi::OsString>> {
    let mut names = directory.names()?;
    names.retain(|name| !name.as_encoded_bytes().starts_with(b"."));
    Ok(names)
}

/// Whether there was something to give.
fn give(domain: &Directory, name: &OsStr, from: Ids, to: Ids) -> io::Result<bool> {
    match domain.look(name)? {
        Some((FileType::Directory, found)) if found == from => domain.child(name)?.give_all(to)?,
        Some((FileType::RegularFile, found)) if found == from => domain.give(name, to)?,
        _ => return Ok(false),
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

    use super::*;

    #[test]
    fn the_mail_store_gets_its_mode_again_and_its_content_is_left_alone() {
        let volume = tempfile::TempDir::new().unwrap();
        let found = fs::metadata(volume.path()).unwrap();
        let owner = (found.uid(), found.gid());
        let path = volume.path().join("mail");
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;

        mail_store(&path, owner).unwrap();
        assert_eq!(mode(&path), 0o770);
        fs::write(path.join("message"), "kept").unwrap();
        fs::set_permissions(path.join("message"), Permissions::from_mode(0o600)).unwrap();
        for (before, after) in [(0o700, 0o770), (0o771, 0o771)] {
            fs::set_permissions(&path, Permissions::from_mode(before)).unwrap();
            mail_store(&path, owner).unwrap();
            assert_eq!((mode(&path), mode(&path.join("message"))), (after, 0o600));
        }
        assert_eq!(fs::read_to_string(path.join("message")).unwrap(), "kept");
    }

    #[test]
    fn a_link_is_not_followed() {
        let volume = tempfile::TempDir::new().unwrap();
        let (target, link) = (volume.path().join("elsewhere"), volume.path().join("mail"));
        fs::create_dir(&target).unwrap();
        fs::set_permissions(&target, Permissions::from_mode(0o700)).unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        assert_eq!(mail_store(&link, ROOT).unwrap_err().kind(), io::ErrorKind::NotADirectory);
        assert_eq!(fs::metadata(&target).unwrap().mode() & 0o777, 0o700);
    }

    /// Only root can give mail to others: CI does.
    #[test]
    fn another_default_owner_gets_the_mail_of_the_one_before_and_no_other() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let volume = tempfile::TempDir::new().unwrap();
        let path = volume.path().join("mail");
        for (name, id) in [("a.org/bob/new", 901), ("a.org/eve/new", 970)] {
            fs::create_dir_all(path.join(name)).unwrap();
            fs::write(path.join(name).join("1"), "mail").unwrap();
            for path in path.join(name).join("1").ancestors().take(3) {
                chown(path, Some(id), Some(id)).unwrap();
            }
        }
        fs::write(path.join("a.org/mbox"), "mail").unwrap();
        for name in ["", "a.org", "a.org/mbox"] {
            chown(path.join(name), Some(901), Some(901)).unwrap();
        }
        mail_store(&path, (902, 903)).unwrap();
        let owner = |name: &str| {
            let found = fs::metadata(path.join(name)).unwrap();
            (found.uid(), found.gid())
        };
        for name in ["", "a.org", "a.org/mbox", "a.org/bob", "a.org/bob/new", "a.org/bob/new/1"] {
            assert_eq!(owner(name), (902, 903), "{name}");
        }
        assert_eq!([owner("a.org/eve"), owner("a.org/eve/new/1")], [(970, 970); 2]);
    }
}
