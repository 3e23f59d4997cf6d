//! Directories and mbox files with an owner of their own, made before mail comes to them, and mail that gets another owner.
//!
//! virtual(8) makes what is missing as the user that it delivers for, and a directory then belongs to the first of
//! them: another user's mail to the same domain would be deferred. It gives nothing that is there to anybody else either:
//! where the owner changes, the mail that has come before changes hands here, or new mail could not be put beside it.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::Path;

use rustix::fs::FileType;

use super::tree::{Directory, Ids};
use crate::postfix::MailOwner;
use crate::postfix::owners::{parse, text};

/// Others pass through a domain's directory to their own.
const DOMAIN_MODE: u32 = 0o711;

const MAILBOX_MODE: u32 = 0o700;

/// What maildir(5) has in a mailbox.
const MAILDIR: [&str; 3] = ["cur", "new", "tmp"];

/// Ends the record while something of it is still to be done.
const INCOMPLETE: &str = "incomplete\n";

/// Makes all of `owners` below `base`, or corrects their owner, and lets every user pass through `base` where one of them is
/// not the base's. After a change of the list, all else in the domains that it names, or named before, goes to the owner of
/// its domain, which is `default` where none is listed. `record` is the file that remembers the list before.
///
/// Gives what could not be done, path by path: the rest is.
pub(super) fn make(base: &Path, record: &Path, owners: &[MailOwner], default: Ids) -> Vec<String> {
    let mut store = match Store::open(base, owners, default) {
        Ok(store) => store,
        Err(error) => return vec![told(base, &error)],
    };
    for owner in owners {
        let made = store.make(owner);
        store.note(&owner.path, made);
    }
    let before = fs::read_to_string(record).unwrap_or_default();
    if before != text(owners) {
        store.correct(&parse(&before), owners);
        if let Err(error) = remember(record, &before, owners, store.complaints.is_empty()) {
            store.complaints.push(told(record, &error));
        }
    }
    store.complaints
}

/// The mail store, and who owns what in it.
struct Store<'a> {
    path: &'a Path,
    base: Directory,
    /// The owner of all that is not listed.
    default: Ids,
    /// By path, without a slash at its end.
    listed: BTreeMap<&'a str, Ids>,
    complaints: Vec<String>,
}

impl<'a> Store<'a> {
    fn open(path: &'a Path, owners: &'a [MailOwner], default: Ids) -> io::Result<Self> {
        let base = Directory::open(path)?;
        let listed: BTreeMap<_, _> =
            owners.iter().map(|owner| (owner.path.trim_end_matches('/'), ids(owner))).collect();
        if listed.values().any(|(uid, _)| *uid != default.0) {
            base.set_mode(base.mode()? | 0o001)?;
        }
        Ok(Self { path, base, default, listed, complaints: Vec::new() })
    }

    fn note(&mut self, path: &str, done: io::Result<()>) {
        if let Err(error) = done {
            self.complaints.push(told(&self.path.join(path), &error));
        }
    }

    fn make(&self, owner: &MailOwner) -> io::Result<()> {
        let ids = ids(owner);
        let path = owner.path.strip_suffix('/');
        match (path, path.unwrap_or(&owner.path).split_once('/')) {
            (Some(domain), None) => {
                let directory = self.base.make(OsStr::new(domain))?;
                directory.set_owner(ids)?;
                directory.set_mode(DOMAIN_MODE)
            }
            (Some(_), Some((domain, name))) => {
                let directory = self.base.child(OsStr::new(domain))?.make(OsStr::new(name))?;
                give_mailbox(&directory, ids)?;
                directory.set_mode(MAILBOX_MODE)
            }
            (None, Some((domain, name))) => mbox(&self.base.child(OsStr::new(domain))?, name, ids),
            (None, None) => mbox(&self.base, &owner.path, ids),
        }
    }

    /// Has everything in the domains of both lists belong to whom it should.
    fn correct(&mut self, before: &[MailOwner], now: &[MailOwner]) {
        let domain = |owner: &MailOwner| owner.path.split('/').next().unwrap_or_default().to_owned();
        let domains: BTreeSet<String> = before.iter().chain(now).map(domain).collect();
        for domain in domains {
            let corrected = self.correct_domain(&domain);
            self.note(&domain, corrected);
        }
    }

    fn correct_domain(&mut self, domain: &str) -> io::Result<()> {
        let directory = match self.base.child(OsStr::new(domain)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            opened => opened?,
        };
        let of_domain = self.listed.get(domain).copied().unwrap_or(self.default);
        directory.set_owner(of_domain)?;
        for name in directory.names()? {
            // Names with a dot in front are nobody's mailbox.
            let Some(name) = name.to_str().filter(|name| !name.starts_with('.')) else { continue };
            let path = format!("{domain}/{name}");
            let ids = self.listed.get(path.as_str()).copied().unwrap_or(of_domain);
            self.note(&path, give(&directory, OsStr::new(name), ids));
        }
        Ok(())
    }
}

fn ids(MailOwner { uid, gid, .. }: &MailOwner) -> Ids {
    (u32::try_from(*uid).unwrap_or_default(), u32::try_from(*gid).unwrap_or_default())
}

fn told(path: &Path, error: &io::Error) -> String {
    format!("{}: {error}", path.display())
}

/// Gives a mailbox of either format; what is neither is left alone.
fn give(directory: &Directory, name: &OsStr, ids: Ids) -> io::Result<()> {
    match directory.look(name)? {
        Some((FileType::Directory, _)) => give_mailbox(&directory.child(name)?, ids),
        Some((FileType::RegularFile, found)) if found != ids => directory.give(name, ids),
        _ => Ok(()),
    }
}

/// Gives a maildir with all that is in it, unless it has its owner already.
fn give_mailbox(mailbox: &Directory, ids: Ids) -> io::Result<()> {
    let mut has_it = mailbox.owner()? == ids;
    for name in MAILDIR {
        has_it &= mailbox.look(OsStr::new(name))?.is_none_or(|(_, found)| found == ids);
    }
    if has_it { Ok(()) } else { mailbox.give_all(ids) }
}

fn mbox(directory: &Directory, name: &str, ids: Ids) -> io::Result<()> {
    let name = OsStr::new(name);
    directory.make_file(name)?;
    match directory.look(name)? {
        Some((FileType::RegularFile, found)) if found == ids => Ok(()),
        Some((FileType::RegularFile, _)) => directory.give(name, ids),
        _ => Err(io::Error::other("it is in the place of an mbox file and is none")),
    }
}

/// Writes the list down. What could not be done is done at the next change, so what was known before is kept too.
fn remember(record: &Path, before: &str, owners: &[MailOwner], is_complete: bool) -> io::Result<()> {
    let mut list = text(owners);
    if !is_complete {
        list = list + &text(&parse(before)) + INCOMPLETE;
    }
    let new = record.with_extension("new");
    fs::write(&new, list)?;
    fs::rename(new, record)
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
    use std::path::PathBuf;

    use super::*;

    /// A mail store of the user who runs the tests. Only root can give mail to others: CI does.
    struct Bed {
        root: tempfile::TempDir,
        default: Ids,
    }

    impl Bed {
        fn new() -> Self {
            let root = tempfile::TempDir::new().unwrap();
            let found = fs::metadata(root.path()).unwrap();
            let bed = Self { root, default: (found.uid(), found.gid()) };
            fs::create_dir(bed.path("")).unwrap();
            bed
        }

        fn of(default: u32) -> Self {
            let bed = Self { default: (default, default), ..Self::new() };
            chown(bed.path(""), Some(default), Some(default)).unwrap();
            bed
        }

        fn path(&self, name: &str) -> PathBuf {
            self.root.path().join("mail").join(name)
        }

        fn make(&self, owners: &[(&str, i32)]) -> Vec<String> {
            let owners: Vec<_> = owners
                .iter()
                .map(|(path, id)| MailOwner { path: (*path).to_owned(), uid: *id, gid: *id })
                .collect();
            make(&self.path(""), &self.root.path().join("record"), &owners, self.default)
        }

        fn owner(&self, name: &str) -> u32 {
            let found = fs::symlink_metadata(self.path(name)).unwrap();
            assert_eq!(found.uid(), found.gid(), "{name}");
            found.uid()
        }

        fn mode(&self, name: &str) -> u32 {
            fs::metadata(self.path(name)).unwrap().mode() & 0o7777
        }

        /// A maildir with one message, as virtual(8) makes it for `id`.
        fn maildir(&self, name: &str, id: u32) {
            for directory in ["", "/cur", "/new", "/tmp"] {
                fs::create_dir_all(self.path(&format!("{name}{directory}"))).unwrap();
            }
            fs::write(self.path(&format!("{name}/new/1")), "mail").unwrap();
            for path in ["", "/cur", "/new", "/tmp", "/new/1"] {
                chown(self.path(&format!("{name}{path}")), Some(id), Some(id)).unwrap();
            }
        }

        /// Owners of a maildir, of a directory in it and of its message.
        fn owners(&self, name: &str) -> [u32; 3] {
            ["", "/new", "/new/1"].map(|path| self.owner(&format!("{name}{path}")))
        }

        fn me(&self) -> i32 {
            fs::metadata(self.path("")).unwrap().uid().try_into().unwrap()
        }
    }

    fn is_root() -> bool {
        rustix::process::geteuid().is_root()
    }

    #[test]
    fn directories_and_mbox_files_get_their_modes_and_what_is_there_stays() {
        let bed = Bed::new();
        fs::set_permissions(bed.path(""), Permissions::from_mode(0o770)).unwrap();
        let me = bed.me();
        for _ in 0..2 {
            let complaints = bed.make(&[("a.org/", me), ("a.org/bob/", me), ("a.org/mbox", me)]);
            assert_eq!(complaints, [""; 0]);
            assert_eq!(bed.mode("") & 0o001, 0, "there is no other user to pass through");
            assert_eq!(
                ["a.org", "a.org/bob", "a.org/mbox"].map(|name| bed.mode(name)),
                [0o711, 0o700, 0o600]
            );
            fs::write(bed.path("a.org/mbox"), "mail").unwrap();
        }
        assert_eq!(fs::read_to_string(bed.path("a.org/mbox")).unwrap(), "mail");
    }

    #[test]
    fn a_path_that_can_not_be_made_is_told_and_keeps_no_other_from_being_made() {
        let bed = Bed::new();
        let me = bed.me();
        fs::create_dir_all(bed.path("a.org/mbox")).unwrap();
        fs::create_dir(bed.path("outside")).unwrap();
        symlink(bed.path("outside"), bed.path("a.org/link")).unwrap();
        let owners = [("a.org/", me), ("a.org/bob/", me), ("a.org/link/", me), ("a.org/mbox", me)];
        let complaints = bed.make(&owners);
        assert_eq!(complaints.len(), 2, "{complaints:?}");
        assert!(complaints[0].contains("a.org/link/: "), "{complaints:?}");
        assert!(complaints[1].contains("a.org/mbox: it is in the place of an mbox file"), "{complaints:?}");
        assert!(bed.path("a.org/bob").exists());
        fs::remove_dir(bed.path("a.org/mbox")).unwrap();
        fs::remove_file(bed.path("a.org/link")).unwrap();
        assert_eq!(bed.make(&owners), [""; 0]);
    }

    #[test]
    fn mail_goes_to_its_new_owner_and_back() {
        if !is_root() {
            return;
        }
        let bed = Bed::of(901);
        for (name, id) in [("a.org/bob", 901), ("a.org/eve", 901), ("b.org/max", 901)] {
            bed.maildir(name, id);
        }
        assert_eq!(bed.make(&[("a.org/", 901), ("a.org/bob/", 970)]), [""; 0]);
        assert_eq!((bed.owners("a.org/bob"), bed.owners("a.org/eve")), ([970; 3], [901; 3]));
        assert_eq!(bed.mode("") & 0o001, 0o001);

        assert_eq!(bed.make(&[("a.org/", 960)]), [""; 0]);
        assert_eq!((bed.owners("a.org/bob"), bed.owners("a.org/eve")), ([960; 3], [960; 3]));
        assert_eq!(bed.make(&[]), [""; 0]);
        assert_eq!(
            (bed.owner("a.org"), bed.owners("a.org/bob"), bed.owners("a.org/eve")),
            (901, [901; 3], [901; 3])
        );

        bed.maildir("b.org/max", 970);
        assert_eq!(bed.make(&[]), [""; 0]);
        assert_eq!(bed.owners("b.org/max"), [970; 3], "nobody ever named an owner there");
    }

    #[test]
    fn what_was_given_only_in_part_is_given_as_a_whole() {
        if !is_root() {
            return;
        }
        let bed = Bed::of(901);
        bed.maildir("a.org/bob", 901);
        chown(bed.path("a.org/bob"), Some(970), Some(970)).unwrap();
        bed.make(&[("a.org/", 901), ("a.org/bob/", 970)]);
        assert_eq!(bed.owners("a.org/bob"), [970; 3]);
    }

    #[test]
    fn what_failed_is_done_at_the_next_change_although_the_list_has_left_it() {
        if !is_root() {
            return;
        }
        let bed = Bed::of(901);
        bed.maildir("a.org/bob", 901);
        fs::write(bed.path("c.org"), "no directory").unwrap();
        assert_eq!(bed.make(&[("a.org/", 901), ("a.org/bob/", 970), ("c.org/", 960)]).len(), 2);
        assert_eq!(bed.make(&[("c.org/", 960)]).len(), 2);
        fs::remove_file(bed.path("c.org")).unwrap();
        assert_eq!(bed.make(&[("c.org/", 960)]), [""; 0]);
        assert_eq!((bed.owners("a.org/bob"), bed.owner("c.org")), ([901; 3], 960));
    }
}
