//! The set loop of a server that looks accounts up in files: what is declared -> entries -> shards -> `ConfigMap`s.
//!
//! Every pass works out the whole set, which is quick beside what the kubelet takes to hand it to the pod, and writes
//! those shards that changed. There is no table: an account goes with its object, whatever its deletion policy, and what
//! was written last, the brake's other half, is read back from the `ConfigMap`s.

mod config_maps;
mod set;

use std::collections::BTreeSet;
use std::time::Duration;

use kube::runtime::events::EventType;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Context;
use super::brake::{Doomed, Held, Recent};
use super::serve::{REPORT_INTERVAL, jittered};
use super::teller::Teller;
use crate::api::Reason;
use crate::client;
use crate::desired::owner::kept_owners;
use crate::desired::{Verdict, desired, unserved};
use crate::index::{Index, Key, Work};
use crate::object::ObjectName;
use crate::postfix::Kept;
use crate::postfix::maps::{self, Map, Refusal};
use crate::postfix::shards::{self, TooMany};
use crate::report::{Counts, Finding, ServerReport, Settled};
use config_maps::ConfigMaps;
use set::{Set, Wanted};

/// Keys that are worked out between two looks at what else there is to do.
const CHUNK: usize = 1000;

/// Rest between two passes: the pod doesn't take changes any faster, and more of them are gathered.
const REST: Duration = Duration::from_millis(300);

/// Why the files could not be written.
#[derive(Debug, thiserror::Error)]
pub(super) enum FilesError {
    #[error("API server: {0}")]
    Api(#[from] client::Error),
    #[error(transparent)]
    TooMany(#[from] TooMany),
}

impl FilesError {
    /// The condition `TablesSynced` of the server.
    pub(super) fn finding(&self) -> Finding {
        match self {
            Self::Api(_) => {
                Finding::bad(Reason::Pending, "the look-up files could not be written, trying again")
            }
            Self::TooMany(error) => Finding::bad(Reason::LimitExceeded, error.to_string()),
        }
    }
}

/// Passes until a failure, `stop`, or the `MailServer` names another place for its tables.
pub(super) async fn work(
    context: &Context,
    server: &ObjectName,
    recent: &mut Recent,
    stop: &CancellationToken,
) -> Result<(), FilesError> {
    let database = context.index.read().server(server).map(|row| row.database);
    let mut changed = context.index.subscribe();
    let mut passes = Passes::open(context, server, database, recent).await?;
    passes.full().await?;
    let mut next_check = Instant::now() + jittered(context.drift_check_interval);
    loop {
        if stop.is_cancelled() || context.index.read().server(server).map(|row| row.database) != database {
            return Ok(());
        }
        if context.index.read().has_work(server) {
            passes.touched().await?;
            tokio::time::sleep(REST).await;
            continue;
        }
        let report_due = passes.teller.due(&passes.report(), REPORT_INTERVAL);
        tokio::select! {
            result = changed.changed() => if result.is_err() { return Ok(()) },
            () = tokio::time::sleep_until(report_due.unwrap_or(next_check)), if report_due.is_some() => passes.tell(),
            () = tokio::time::sleep_until(next_check) => {
                passes.full().await?;
                next_check = Instant::now() + jittered(context.drift_check_interval);
            }
            () = stop.cancelled() => {}
        }
    }
}

struct Passes<'a> {
    context: &'a Context,
    server: &'a ObjectName,
    /// `ServerRow::database` of a server with look-up files.
    tables: Option<u64>,
    config_maps: ConfigMaps,
    /// What the `ConfigMap`s hold.
    written: Set,
    counts: Counts,
    held: Option<Held>,
    settled: Option<Settled>,
    recent: &'a mut Recent,
    teller: Teller<'a>,
}

impl<'a> Passes<'a> {
    async fn open(
        context: &'a Context,
        server: &'a ObjectName,
        tables: Option<u64>,
        recent: &'a mut Recent,
    ) -> Result<Self, FilesError> {
        let (config_maps, written) = ConfigMaps::open(context.client.clone(), server).await?;
        Ok(Self {
            context,
            server,
            tables,
            config_maps,
            written,
            counts: Counts::default(),
            held: None,
            settled: None,
            recent,
            teller: Teller::new(context, server),
        })
    }

    /// Compares everything that is declared with what the `ConfigMap`s hold now, whoever wrote it.
    async fn full(&mut self) -> Result<(), FilesError> {
        let (Work { keys, .. }, needs) = self.take_work();
        if self.config_maps.refresh().await? {
            let message = "somebody else had changed the look-up files, they are corrected";
            tracing::info!(server = %self.server, message, "drift");
            self.teller.event(EventType::Normal, Reason::DriftCorrected, message.to_owned()).await;
        }
        self.pass(&keys, true, needs).await
    }

    /// Works on what events touched.
    async fn touched(&mut self) -> Result<(), FilesError> {
        let (Work { all, mut keys, counted }, needs) = self.take_work();
        keys.extend(counted.into_iter().map(Key::Domain));
        self.pass(&keys, all, needs).await
    }

    /// The work, and the version of what the configuration depends on that it leads to.
    fn take_work(&self) -> (Work, u64) {
        let take = |index: &mut Index| (index.take_work(self.server), index.needs_version(self.server));
        self.context.index.quietly(take)
    }

    /// Writes what changed, then tells the objects under `touched` keys, or all of them.
    async fn pass(&mut self, touched: &BTreeSet<Key>, is_full: bool, needs: u64) -> Result<(), FilesError> {
        let started = Instant::now();
        let result = self.write(touched, is_full, needs).await;
        self.context.metrics.pass(result.is_ok(), started.elapsed());
        if result.is_ok() {
            self.recent.end();
        }
        if result.is_ok() && self.teller.has_news(&self.report()) {
            self.tell();
        }
        result
    }

    async fn write(&mut self, touched: &BTreeSet<Key>, is_full: bool, needs: u64) -> Result<(), FilesError> {
        let wanted = self.wanted((!is_full).then_some(touched)).await;
        let Some(row) = self.context.index.read().server(self.server).cloned() else { return Ok(()) };
        let answers = maps::answers(&wanted.rows, row.owner);
        let keys = self.written.keys();
        let owned = keys.len();
        let gone = wanted.gone(keys);
        let has_unreadable = self.context.index.read().has_unreadable();
        // No file says whose its entries are.
        let doomed: Doomed =
            gone.iter().filter(|_| !has_unreadable).map(|key| (key.clone(), BTreeSet::new())).collect();
        self.recent.begin(&doomed, &row);
        self.held = self.recent.hold(Instant::now(), &doomed, owned, &row);
        self.teller.held(self.held.as_ref()).await;
        let (deleted, stays) =
            if self.held.is_some() || has_unreadable { (0, gone) } else { (gone.len(), BTreeSet::new()) };
        let set = Set::new(answers.entries, answers.alias_domains).with_kept(
            &self.written,
            &wanted,
            &stays,
            row.owner,
        );
        let kept = self.kept(&set, stays.union(&wanted.kept));
        if is_full || set != self.written {
            self.config_maps.write(&shards::shards(&set.entries), &set.alias_domains).await?;
            self.written = set;
            self.recent.add(Instant::now(), deleted);
        }
        self.settled = Some(Settled { needs, kept });
        self.counts = wanted.counts;
        let mut verdicts = wanted.verdicts;
        // Of a key that this server has just lost a pass from before may have told something else.
        let lost = touched.iter();
        verdicts.extend(lost.flat_map(|key| unserved(&self.context.index.read(), key)));
        for ((_, key), refusal) in answers.refused {
            verdicts.extend(self.refused(&key, refusal));
        }
        self.context.statuses.offer(verdicts);
        Ok(())
    }

    /// What a set needs of the configuration in which the entries under some keys are kept.
    fn kept<'k>(&self, set: &Set, keys: impl Iterator<Item = &'k Key>) -> Kept {
        let ids = set.ids(keys);
        Kept {
            transports: set.has_any(Map::Transport),
            disabled: set.has_any(Map::Disabled),
            owners: kept_owners(&self.context.index.read(), self.server, &ids, &set.maildirs(&ids)),
        }
    }

    async fn wanted(&self, touched: Option<&BTreeSet<Key>>) -> Wanted {
        let keys = self.context.index.read().keys_of(self.server);
        let mut wanted = Wanted::default();
        for chunk in keys.chunks(CHUNK) {
            {
                let index = self.context.index.read();
                for key in chunk {
                    let is_told = touched.is_none_or(|touched| touched.contains(key));
                    wanted.add(key, desired(&index, self.server, key), is_told);
                }
            }
            tokio::task::yield_now().await;
        }
        wanted
    }

    /// What the objects under a key are told whose row no file can hold.
    fn refused(&self, key: &str, refusal: Refusal) -> Vec<Verdict> {
        let Some(key) = Key::from_row(key) else { return Vec::new() };
        let objects = desired(&self.context.index.read(), self.server, &key).wants;
        let told = |object| Verdict::new(object, Reason::RowRefused, refusal.to_string());
        objects.iter().map(|want| told(&want.object)).collect()
    }

    fn report(&self) -> ServerReport {
        ServerReport {
            database: None,
            tables: match &self.held {
                Some(held) => Finding::bad(Reason::DeletionsHeld, held.message()),
                None => Finding::good(Reason::Synced, "the look-up files are as declared"),
            },
            complete: self.tables,
            needs: self.context.index.read().needs_version(self.server),
            settled: self.settled.clone(),
            released: self.recent.used().map(str::to_owned),
            drifted: 0,
            counts: self.counts,
        }
    }

    fn tell(&mut self) {
        self.teller.report(self.report());
    }
}
