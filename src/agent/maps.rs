//! Look-up files: taken from the mount as a whole or not at all, and compiled by postmap(1) into a directory of their own.
//!
//! main.cf names that directory, so a process that starts while they change has all of its tables from one set. The set
//! before is kept, which the daemons from before a reload still have open, and the one that Postfix's main.cf names,
//! however many were compiled since: a changed configuration may be refused for a long time.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

use tokio::process::Command;
use tokio::sync::Mutex;

use super::Error;
use super::children::Children;
use super::files::{AGE, current, empty, optional, read};
use super::places::Places;
use super::retry::Retry;
use crate::api::mail_server::LookupTables;
use crate::postfix::MAIN_CF;
use crate::postfix::maps::{DIRECTORY_PARAMETER, Map};
use crate::postfix::shards::{Files, MANIFEST_FILE, Manifest, from_mounted_name};

/// Where the files are mounted and where they are compiled to.
pub(super) struct Maps {
    /// The mounted `ConfigMap`s.
    mount: PathBuf,
    /// A directory for each set.
    compiled: PathBuf,
    /// A directory with a main.cf, which postmap(1) can't do without.
    config: PathBuf,
    /// Postfix's main.cf.
    active: PathBuf,
    /// The program postmap(1).
    postmap: PathBuf,
    last: Mutex<Last>,
}

/// What the last look gave.
#[derive(Default)]
struct Last {
    /// What was mounted, and the type of the tables.
    seen: Retry<(PathBuf, LookupTables)>,
    /// The directory of the last set that could be compiled.
    directory: Option<PathBuf>,
    /// Why what was seen could not.
    refused: Option<String>,
}

impl Last {
    fn answer(&self) -> Result<PathBuf, Error> {
        match &self.refused {
            Some(words) => Err(Error::Refused(words.clone())),
            None => self.directory.clone().ok_or(Error::Incomplete),
        }
    }
}

impl Maps {
    /// Compiles what is mounted in `places`.
    pub(super) fn new(places: &Places) -> Self {
        let Places { maps, compiled_maps, config, config_directory, .. } = places.clone();
        Self {
            mount: maps,
            compiled: compiled_maps,
            config,
            active: config_directory.join(MAIN_CF),
            postmap: "postmap".into(),
            last: Mutex::default(),
        }
    }

    /// The directory with the compiled tables of the last complete set.
    ///
    /// # Errors
    /// [`Error::Incomplete`] before the first one; [`Error::Refused`] with the words of postmap(1), which is tried again
    /// now and then: its exit code does not tell a full disk from a type that it does not know.
    pub(super) async fn directory(&self, children: &Children, type_: LookupTables) -> Result<PathBuf, Error> {
        let mut last = self.last.lock().await;
        let seen = (current(&self.mount)?, type_);
        if !last.seen.is_due(&seen, Instant::now()) {
            return last.answer();
        }
        let Some((hash, sources)) = assembled(&seen.0)? else {
            let of_this_type = |directory: &PathBuf| is_of_type(directory, type_);
            return last.directory.clone().filter(of_this_type).ok_or(Error::Incomplete);
        };
        let target = self.compiled.join(format!("{}-{hash}", type_.as_str()));
        match self.compile(children, type_, &sources, &target, last.directory.as_deref()).await {
            Ok(()) => {
                (last.directory, last.refused) = (Some(target), None);
                last.seen.settled(seen);
            }
            Err(Error::Refused(words)) => {
                last.refused = Some(words);
                last.seen.failed(seen, Instant::now());
            }
            Err(error) => return Err(error),
        }
        last.answer()
    }

    /// The directory that Postfix's main.cf names.
    pub(super) fn in_use(&self) -> Result<Option<PathBuf>, Error> {
        Ok(optional(read(&self.active))?.as_deref().and_then(named))
    }

    async fn compile(
        &self,
        children: &Children,
        type_: LookupTables,
        sources: &Sources,
        target: &Path,
        before: Option<&Path>,
    ) -> Result<(), Error> {
        if target.exists() {
            return Ok(());
        }
        let new = self.compiled.join("new");
        empty(&new).map_err(Error::file(&new))?;
        for (map, source) in sources {
            let path = new.join(map.as_str());
            let same = before.filter(|before| is_of_type(before, type_) && holds(before, *map, source));
            match same {
                Some(before) => link(before, &new, *map).map_err(Error::file(&path))?,
                None => self.compile_one(children, type_, &path, source).await?,
            }
        }
        age(&new).map_err(Error::file(&new))?;
        fs::rename(&new, target).map_err(Error::file(target))?;
        // Where it can't be read, no set is known to be of no more use.
        let Ok(in_use) = self.in_use() else { return Ok(()) };
        self.remove_all_but([Some(target), before, in_use.as_deref()]).map_err(Error::file(&self.compiled))
    }

    async fn compile_one(
        &self,
        children: &Children,
        type_: LookupTables,
        path: &Path,
        source: &str,
    ) -> Result<(), Error> {
        fs::write(path, source).map_err(Error::file(path))?;
        fs::set_permissions(path, Permissions::from_mode(0o644)).map_err(Error::file(path))?;
        if type_ == LookupTables::Texthash {
            return Ok(());
        }
        let mut command = Command::new(&self.postmap);
        command.arg("-c").arg(current(&self.config)?);
        command.arg(format!("{}:{}", type_.as_str(), path.display()));
        let output = children.output("postmap", &mut command).await?;
        if output.status.success() {
            Ok(())
        } else {
            Err(Error::Refused(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
        }
    }

    fn remove_all_but(&self, kept: [Option<&Path>; 3]) -> io::Result<()> {
        for entry in fs::read_dir(&self.compiled)? {
            let path = entry?.path();
            if !kept.contains(&Some(path.as_path())) {
                fs::remove_dir_all(path)?;
            }
        }
        Ok(())
    }
}

type Sources = BTreeMap<Map, String>;

/// Hash and sources of what is mounted; `None`: it isn't whole yet.
fn assembled(mount: &Path) -> Result<Option<(String, Sources)>, Error> {
    let Some(text) = optional(read(&mount.join(MANIFEST_FILE)))? else { return Ok(None) };
    let Some(manifest) = Manifest::parse(&text) else { return Ok(None) };
    let mut slots: BTreeMap<u32, Files> =
        manifest.shards.values().map(|placement| (placement.slot, Files::new())).collect();
    for entry in fs::read_dir(mount).map_err(Error::file(mount))? {
        let path = entry.map_err(Error::file(mount))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let Some((slot, file)) = from_mounted_name(&name) else { continue };
        if let Some(files) = slots.get_mut(&slot) {
            files.insert(file.to_owned(), read(&path)?);
        }
    }
    Ok(manifest.assemble(&slots).ok().map(|sources| (manifest.hash(), sources)))
}

/// The set that a main.cf names.
fn named(main_cf: &str) -> Option<PathBuf> {
    let parameter = |line: &str| Some(line.strip_prefix(DIRECTORY_PARAMETER)?.strip_prefix(" = ")?.into());
    main_cf.lines().find_map(parameter)
}

fn is_of_type(directory: &Path, type_: LookupTables) -> bool {
    let name = directory.file_name().unwrap_or_default().to_string_lossy();
    name.split('-').next() == Some(type_.as_str())
}

fn holds(directory: &Path, map: Map, source: &str) -> bool {
    fs::read(directory.join(map.as_str())).is_ok_and(|bytes| bytes == source.as_bytes())
}

/// A table that didn't change is the same file: the source, and what postmap(1) made of it.
fn link(from: &Path, to: &Path, map: Map) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        if path.file_stem().is_some_and(|stem| stem == map.as_str())
            && let Some(name) = path.file_name()
        {
            fs::hard_link(&path, to.join(name))?;
        }
    }
    Ok(())
}

/// Postfix waits until a file is older than a second before it trusts it.
fn age(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        File::options().append(true).open(entry?.path())?.set_modified(SystemTime::now() - AGE)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postfix::maps::Entries;
    use crate::postfix::shards::{mounted_name, shards};

    /// A mount of `ConfigMap`s and a place to compile to, for texthash, which needs no postmap(1).
    struct Mount(tempfile::TempDir);

    impl Mount {
        fn new() -> Self {
            let mount = Self(tempfile::TempDir::new().unwrap());
            fs::create_dir(mount.path("mounted")).unwrap();
            mount
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn maps(&self) -> Maps {
            Maps::new(&Places {
                config: self.path("config"),
                maps: self.path("mounted"),
                compiled_maps: self.path("compiled"),
                config_directory: self.path("postfix"),
                ..Places::default()
            })
        }

        /// Projects a set as the kubelet does; `whole`: with all of its shards.
        fn project(&self, version: &str, addresses: &[&str], whole: bool) {
            let entries: Entries = addresses
                .iter()
                .map(|address| ((Map::Mailbox, (*address).to_owned()), "alpha.org/x/".to_owned()))
                .collect();
            let shards = shards(&entries);
            let manifest = Manifest::of(&shards, [].into(), &Manifest::default()).unwrap();
            let directory = self.path("mounted").join(version);
            fs::create_dir(&directory).unwrap();
            fs::write(directory.join(MANIFEST_FILE), manifest.text()).unwrap();
            for (name, text) in shards.values().flatten().filter(|_| whole) {
                fs::write(directory.join(mounted_name(0, name)), text).unwrap();
            }
            let (data, new) = (self.path("mounted/..data"), self.path("mounted/..new"));
            std::os::unix::fs::symlink(version, &new).unwrap();
            fs::rename(new, data).unwrap();
        }
    }

    async fn mailboxes(maps: &Maps) -> Result<String, Error> {
        let directory = maps.directory(&Children::default(), LookupTables::Texthash).await?;
        Ok(fs::read_to_string(directory.join("mailbox_maps")).unwrap())
    }

    #[tokio::test]
    async fn a_set_is_taken_whole_or_not_at_all() {
        let mount = Mount::new();
        let maps = mount.maps();
        assert!(matches!(mailboxes(&maps).await, Err(Error::Incomplete)));
        mount.project("1", &["bob@alpha.org"], false);
        assert!(matches!(mailboxes(&maps).await, Err(Error::Incomplete)));
        mount.project("2", &["bob@alpha.org"], true);
        assert_eq!(mailboxes(&maps).await.unwrap(), "bob@alpha.org alpha.org/x/\n");
        mount.project("3", &["cid@alpha.org"], false);
        assert_eq!(mailboxes(&maps).await.unwrap(), "bob@alpha.org alpha.org/x/\n");
        mount.project("4", &["cid@alpha.org"], true);
        assert_eq!(mailboxes(&maps).await.unwrap(), "cid@alpha.org alpha.org/x/\n");
    }

    #[tokio::test]
    async fn what_postmap_fails_at_is_told_in_its_words_and_tried_again() {
        let mount = Mount::new();
        let mut maps = mount.maps();
        // `postmap -c DIRECTORY TABLE`, played by a shell whose script is the directory's name.
        maps.postmap = "sh".into();
        maps.config = "echo \"postmap: fatal: unsupported dictionary type: ${0%%:*}\" >&2; exit 1".into();
        mount.project("1", &["bob@alpha.org"], true);
        let children = Children::default();
        let refused = maps.directory(&children, LookupTables::Cdb).await;
        assert!(
            matches!(&refused, Err(Error::Refused(words)) if words == "postmap: fatal: unsupported dictionary type: cdb"),
            "{refused:?}"
        );
        maps.postmap = "true".into();
        assert!(maps.directory(&children, LookupTables::Cdb).await.is_err(), "it rests between two tries");
        let compiled = tokio::time::timeout(std::time::Duration::from_secs(10), async {
            loop {
                match maps.directory(&children, LookupTables::Cdb).await {
                    Ok(directory) => return directory,
                    Err(_) => tokio::task::yield_now().await,
                }
            }
        });
        assert!(compiled.await.expect("it is tried again").join("mailbox_maps").exists());
    }

    #[tokio::test]
    async fn the_set_before_stays_and_no_older_one() {
        let mount = Mount::new();
        let maps = mount.maps();
        let mut directories = Vec::new();
        for (version, address) in [("1", "a@alpha.org"), ("2", "b@alpha.org"), ("3", "c@alpha.org")] {
            mount.project(version, &[address], true);
            directories.push(maps.directory(&Children::default(), LookupTables::Texthash).await.unwrap());
        }
        assert_eq!(directories.iter().map(|path| path.exists()).collect::<Vec<_>>(), [false, true, true]);
    }

    /// main.cf is refused again and again, for what some parameter says, while accounts come and go.
    #[tokio::test]
    async fn the_set_that_postfix_runs_with_stays_however_many_are_compiled_after_it() {
        let mount = Mount::new();
        let maps = mount.maps();
        let mut directories = Vec::new();
        for (version, address) in
            [("1", "a@alpha.org"), ("2", "b@alpha.org"), ("3", "c@alpha.org"), ("4", "d@alpha.org")]
        {
            mount.project(version, &[address], true);
            let directory = maps.directory(&Children::default(), LookupTables::Texthash).await.unwrap();
            if directories.is_empty() {
                fs::create_dir(mount.path("postfix")).unwrap();
                let main_cf = format!("myhostname = a\nvmail_maps = {}\n", directory.display());
                fs::write(mount.path("postfix").join(MAIN_CF), main_cf).unwrap();
            }
            directories.push(directory);
        }
        assert_eq!(
            directories.iter().map(|path| path.exists()).collect::<Vec<_>>(),
            [true, false, true, true]
        );
    }

    #[tokio::test]
    async fn a_table_that_did_not_change_is_not_made_again_and_none_is_hot() {
        use std::os::unix::fs::MetadataExt;
        let mount = Mount::new();
        let maps = mount.maps();
        let mut files = Vec::new();
        for (version, address) in [("1", "a@alpha.org"), ("2", "b@alpha.org")] {
            mount.project(version, &[address], true);
            let directory = maps.directory(&Children::default(), LookupTables::Texthash).await.unwrap();
            let inode = |name: &str| fs::metadata(directory.join(name)).unwrap().ino();
            files.push([inode("alias_maps"), inode("mailbox_maps")]);
            let modified = fs::metadata(directory.join("mailbox_maps")).unwrap().modified().unwrap();
            assert!(modified.elapsed().unwrap().as_secs() > 2);
        }
        assert_eq!(files[0][0], files[1][0]);
        assert_ne!(files[0][1], files[1][1]);
    }
}
