//! Owners and modes of what lies in the mail store, where the users that mail is delivered as can write: nothing here
//! follows a symbolic link, and what was looked at is what is changed, whatever is put in its place meanwhile.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, Stat, Uid, chownat, fchmod, fchown, fstat, mkdirat,
    openat, statat,
};

/// User and group.
pub(super) type Ids = (u32, u32);

/// How deep a mailbox may be: a program that fills one with directories in directories is not followed.
const DEPTH: usize = 16;

const DIRECTORY: OFlags =
    OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::RDONLY).union(OFlags::CLOEXEC);

/// An open directory.
pub(super) struct Directory(OwnedFd);

impl Directory {
    /// Opens a directory whose parents are ours alone.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self(openat(CWD, path, DIRECTORY, Mode::empty())?))
    }

    /// Opens a directory in this one. A symbolic link is none.
    pub(super) fn child(&self, name: &OsStr) -> io::Result<Self> {
        Ok(Self(openat(&self.0, name, DIRECTORY, Mode::empty())?))
    }

    /// The same, made first where it is missing.
    pub(super) fn make(&self, name: &OsStr) -> io::Result<Self> {
        match mkdirat(&self.0, name, Mode::RWXU) {
            Err(error) if error != rustix::io::Errno::EXIST => Err(error.into()),
            _ => self.child(name),
        }
    }

    /// Makes an empty file for its owner alone, unless there is something of that name.
    pub(super) fn make_file(&self, name: &OsStr) -> io::Result<()> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match openat(&self.0, name, flags, Mode::RUSR | Mode::WUSR) {
            Err(error) if error != rustix::io::Errno::EXIST => Err(error.into()),
            _ => Ok(()),
        }
    }

    pub(super) fn owner(&self) -> io::Result<Ids> {
        Ok(owner(&fstat(&self.0)?))
    }

    /// Permissions, without the type of the file.
    pub(super) fn mode(&self) -> io::Result<u32> {
        Ok(fstat(&self.0)?.st_mode & 0o7777)
    }

    /// Corrects the owner. What is right already is left alone: not every file system lets root change it.
    pub(super) fn set_owner(&self, (uid, gid): Ids) -> io::Result<()> {
        if self.owner()? != (uid, gid) {
            fchown(&self.0, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
        }
        Ok(())
    }

    /// Corrects the mode, likewise.
    pub(super) fn set_mode(&self, mode: u32) -> io::Result<()> {
        if self.mode()? != mode {
            fchmod(&self.0, Mode::from_raw_mode(mode))?;
        }
        Ok(())
    }

    /// Type and owner of what is in this directory; `None`: there is nothing of that name.
    pub(super) fn look(&self, name: &OsStr) -> io::Result<Option<(FileType, Ids)>> {
        match statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some((FileType::from_raw_mode(stat.st_mode), owner(&stat)))),
            Err(rustix::io::Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Corrects the owner of what is no directory. One that is gone needs none.
    pub(super) fn give(&self, name: &OsStr, (uid, gid): Ids) -> io::Result<()> {
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        match chownat(&self.0, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW) {
            Err(error) if error != rustix::io::Errno::NOENT => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// The names in it.
    pub(super) fn names(&self) -> io::Result<Vec<OsString>> {
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.0)? {
            let entry = entry?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name != "." && name != ".." {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }

    /// Gives all that is in it to its new owner, and then the directory itself: as long as that has another owner, there is
    /// something left to do. A directory inside comes before what is in it, so that no more mail of the old owner gets in.
    pub(super) fn give_all(&self, owner: Ids) -> io::Result<()> {
        self.give_content(owner, DEPTH)?;
        self.set_owner(owner)
    }

    fn give_content(&self, owner: Ids, depth: usize) -> io::Result<()> {
        let depth = depth.checked_sub(1).ok_or_else(|| io::Error::other("directories lie too deep in it"))?;
        for name in self.names()? {
            match self.look(&name)? {
                Some((FileType::Directory, _)) => {
                    // Another thing may be there by now, or none: then there is nothing to give in it.
                    if let Ok(child) = self.child(&name) {
                        child.set_owner(owner)?;
                        child.give_content(owner, depth)?;
                    }
                }
                Some((_, found)) if found != owner => self.give(&name, owner)?,
                _ => {}
            }
        }
        Ok(())
    }
}

fn owner(stat: &Stat) -> Ids {
    (stat.st_uid, stat.st_gid)
}
