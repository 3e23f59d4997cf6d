//! Postfix as a child: started with a checked configuration, given a changed one, ended in order.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::process::{ExitCode, ExitStatus};
use std::sync::Arc;
use std::time::Duration;

use tokio::process::Child;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout, timeout_at};

use super::children::Children;
use super::config::{self, Mounted};
use super::contract::{AgentStatus, PORT, Refused};
use super::http::{self, State};
use super::log::{self, Log};
use super::maps::Maps;
use super::metrics::Metrics;
use super::places::Places;
use super::retry::Retry;
use super::tree::Ids;
use super::{Error, outage, owners, parameters, postfix};
use crate::postfix::QUEUE_DIRECTORY;

#[cfg(test)]
mod tests;

/// How often the mounts are looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// Between two changes that are taken. With every reload qmgr(8) begins anew, and needs time to deliver; the daemons from
/// before end when they are idle, within this time as a rule.
const RELOAD_REST: Duration = Duration::from_secs(2);

/// How often the queue of a pod that is to leave is tried.
const FLUSH_INTERVAL: Duration = Duration::from_secs(10);

/// How long Postfix may take to end; the pod has 30 s.
const STOP_LIMIT: Duration = Duration::from_secs(25);

/// How long to wait before Postfix is asked to end once more.
const STOP_INTERVAL: Duration = Duration::from_secs(1);

/// The file, in the queue's directory, that remembers which mail has had an owner of its own.
const OWNERS_RECORD: &str = ".vmail-owners";

/// How many paths a complaint about the mail store names.
const TOLD_PATHS: usize = 3;

/// Where the kubelet reads why the container ended.
const TERMINATION_LOG: &str = "/dev/termination-log";

/// Address for /healthz, /readyz, /status and /metrics.
const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), PORT);

/// Where Postfix must answer before the pod is ready.
const SMTP: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 25);

/// `owner`: of the mail that no domain and no mailbox names one for.
pub(super) async fn run(owner: Ids) -> ExitCode {
    let Err(error) = Supervisor::new(Places::default(), owner).run().await else { return ExitCode::SUCCESS };
    tracing::error!(%error, "the agent ends");
    if let Err(error) = std::fs::write(TERMINATION_LOG, error.to_string()) {
        tracing::warn!(%error, "the reason could not be left for the kubelet");
    }
    ExitCode::from(error.exit_code())
}

struct Supervisor {
    places: Places,
    owner: Ids,
    children: Children,
    maps: Maps,
    postfix_group: Option<u32>,
    state: watch::Sender<State>,
}

impl Supervisor {
    fn new(places: Places, owner: Ids) -> Self {
        let Places { maps, compiled_maps, config, .. } = places.clone();
        Self {
            places,
            owner,
            children: Children::default(),
            maps: Maps::new(maps, compiled_maps, config),
            postfix_group: config::group_id("postfix"),
            state: watch::Sender::default(),
        }
    }

    async fn run(&self) -> Result<(), Error> {
        let mut terminate = signal(SignalKind::terminate()).map_err(Error::system("signals"))?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::system("signals"))?;
        let metrics = Metrics::default();
        let pages = tokio::spawn(http::serve(LISTEN, SMTP, self.state.subscribe(), metrics.clone()));
        let seen = tokio::select! {
            seen = self.first_mounted() => seen?,
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
        };
        let (mounted, secrets) = seen.usable(None);
        let store = self.prepare(&mounted, None).await?;
        // Postfix's check has made the directory.
        let socket = log::socket(Path::new(QUEUE_DIRECTORY));
        let log = Log::receive(&socket, metrics).map_err(Error::file(&socket))?;
        let mut child = postfix::start(&self.children, &self.places.config_directory)?;
        self.running(&mounted, [secrets, store.clone()]);
        let mut tried = Retry::default();
        settle(&mut tried, seen, store.is_none());
        tokio::select! {
            status = child.wait() => {
                let status = status.map_err(Error::system("waiting for Postfix"))?;
                return Err(Error::Ended { status, complaints: log.last_words().await });
            }
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            result = pages => return Err(http::ended(result)),
            never = self.follow(tried, mounted) => match never {},
            never = self.reload_after_outages(log.outage()) => match never {},
            never = self.empty_the_queue() => match never {},
            never = self.children.reap() => match never {},
        }
        let status = self.stop(&mut child).await?;
        log.last_words().await;
        tracing::info!(%status, "Postfix ended");
        Ok(())
    }

    /// What is mounted, without the look-up files.
    fn files(&self) -> Result<Mounted, Error> {
        Mounted::read(&self.places.config, &self.places.credentials)?
            .with_secrets(&self.places.tls, &self.places.relay)?
            .with_requests(&self.places.pod)
    }

    /// The same with the look-up files, where accounts are looked up in files.
    async fn mounted(&self) -> Result<Mounted, Error> {
        let files = self.files()?;
        let maps = self.compiled(&files).await?;
        Ok(files.with_maps(maps))
    }

    /// The directory with the look-up files of a type that main.cf names; `None`: it names a database.
    async fn compiled(&self, files: &Mounted) -> Result<Option<PathBuf>, Error> {
        match files.look_up_files() {
            Some(type_) => self.maps.directory(&self.children, type_).await.map(Some),
            None => Ok(None),
        }
    }

    /// The first configuration whose look-up files are all there.
    async fn first_mounted(&self) -> Result<Mounted, Error> {
        let mut is_told = false;
        loop {
            match self.mounted().await {
                Err(error @ Error::Incomplete) => {
                    if !std::mem::replace(&mut is_told, true) {
                        tracing::info!(%error, "waiting");
                    }
                    tokio::time::sleep(LOOK_INTERVAL).await;
                }
                result => return result,
            }
        }
    }

    /// Writes a configuration aside, has Postfix check it unless it is the `running` one with other accounts, and puts it in
    /// place. Gives what could not be made in the mail store: everybody else's mail goes on.
    async fn prepare(&self, mounted: &Mounted, running: Option<&Mounted>) -> Result<Option<String>, Error> {
        let candidate = self.places.config_directory.with_extension("candidate");
        let queue = self.places.config_directory.with_extension("check");
        mounted.write(&candidate, self.postfix_group)?;
        if running.is_none_or(|running| !mounted.differs_in_accounts_only(running)) {
            tokio::try_join!(
                postfix::check(&self.children, &candidate),
                parameters::check(&self.children, mounted, &candidate, &queue),
            )?;
        }
        let complaint = self.own(mounted).await?;
        config::take(&candidate, &self.places.config_directory)?;
        Ok(complaint)
    }

    /// `complaints`: what is wrong with Secrets, which the configuration does without, and with the mail store.
    fn running(&self, mounted: &Mounted, complaints: [Option<String>; 2]) {
        let hash = mounted.hash();
        tracing::info!(hash, "configuration taken");
        self.state.send_replace(State {
            told: AgentStatus {
                refused: not_in_force(&hash, complaints),
                config_hash: Some(hash),
                draining: mounted.is_draining(),
                queued: None,
            },
            taken: Some(std::time::Instant::now()),
            maps: mounted.maps().map(Into::into),
        });
    }

    /// Takes every changed configuration that Postfix accepts; keeps the old one otherwise.
    async fn follow(&self, mut tried: Retry<Mounted>, mut running: Mounted) -> Infallible {
        // Whether what is in place is what runs: not after a try that failed half-way.
        let mut in_place = true;
        loop {
            tokio::time::sleep(LOOK_INTERVAL).await;
            // While the kubelet exchanges the mounts a file may be missing; it is there at the next look.
            let Ok(files) = self.files() else { continue };
            let now = match self.compiled(&files).await {
                Ok(maps) => files.with_maps(maps),
                Err(error) => {
                    if !error.is_under_way() {
                        self.refuse(files.hash(), &error);
                        tried.forget();
                    }
                    continue;
                }
            };
            if !tried.is_due(&now, std::time::Instant::now()) {
                continue;
            }
            let (mounted, secrets) = now.usable(Some(&running));
            // It was taken, and only something in the mail store is still to be done.
            let is_taken = in_place && tried.is_last(&now) && mounted == running;
            let done =
                if is_taken { self.own(&mounted).await } else { self.exchange(&mounted, &running).await };
            in_place = is_taken || done.is_ok();
            match done {
                Ok(store) => {
                    let has_new_owners = is_taken || mounted.owners() != running.owners();
                    settle(&mut tried, now, store.is_none());
                    if is_taken {
                        let refused = not_in_force(&mounted.hash(), [secrets, store]);
                        self.state.send_modify(|state| state.told.refused = refused);
                    } else {
                        self.running(&mounted, [secrets, store]);
                        running = mounted;
                        tokio::time::sleep(RELOAD_REST).await;
                    }
                    // A virtual(8) from before may still have tried to deliver as the owner of before, in vain.
                    if has_new_owners {
                        self.flush().await;
                    }
                }
                Err(error) => {
                    self.refuse(mounted.hash(), &error);
                    settle(&mut tried, now, error.is_final());
                }
            }
        }
    }

    /// Tells, once, that the configuration before stays.
    fn refuse(&self, config_hash: String, error: &Error) {
        let refused = Refused { config_hash, error: error.to_string() };
        self.state.send_if_modified(|state| {
            let is_news = state.told.refused.as_ref() != Some(&refused);
            if is_news {
                tracing::error!(%error, "changed configuration not taken, the one before stays");
                state.told.refused = Some(refused);
            }
            is_news
        });
    }

    /// Has Postfix forget what it could not look up while the database was away, and try what it put off.
    async fn reload_after_outages(&self, told: Arc<Notify>) -> Infallible {
        loop {
            told.notified().await;
            outage::end(&self.places.config_directory).await;
            match postfix::reload(&self.children, &self.places.config_directory).await {
                Ok(()) => {
                    tracing::info!("the database is back, Postfix reloaded");
                    self.flush().await;
                }
                Err(error) => tracing::error!(%error, "Postfix not reloaded after an outage of the database"),
            }
            tokio::time::sleep(outage::REST).await;
        }
    }

    /// Has Postfix try what is in the queue again and again, while the pod is to leave.
    async fn empty_the_queue(&self) -> Infallible {
        let mut state = self.state.subscribe();
        loop {
            // It fails when there is no state any more, which is not before the agent ends.
            let _ = state.wait_for(|state| state.told.draining).await;
            tracing::info!("the pod is to leave: no more mail is taken, the queue is emptied");
            while state.borrow().told.draining {
                self.flush().await;
                tokio::time::sleep(FLUSH_INTERVAL).await;
            }
        }
    }

    async fn flush(&self) {
        if let Err(error) = postfix::flush(&self.children, &self.places.config_directory).await {
            tracing::warn!(%error, "deferred mail not tried again");
        }
    }

    /// Has a configuration taken, and gives what could not be made in the mail store. A failed reload is tried again with
    /// all else: the files are in place by then, and what runs is still the one before.
    async fn exchange(&self, mounted: &Mounted, running: &Mounted) -> Result<Option<String>, Error> {
        let complaint = self.prepare(mounted, Some(running)).await?;
        postfix::reload(&self.children, &self.places.config_directory).await?;
        Ok(complaint)
    }

    /// Has the mail store's directories belong to whom they should. A large mailbox takes its time, and the agent has others to
    /// answer meanwhile.
    async fn own(&self, mounted: &Mounted) -> Result<Option<String>, Error> {
        let (base, owners, default) = (mounted.mail_base(), mounted.owners(), self.owner);
        let record = Path::new(QUEUE_DIRECTORY).join(OWNERS_RECORD);
        let made = tokio::task::spawn_blocking(move || owners::make(&base, &record, &owners, default));
        let complaints =
            made.await.map_err(|error| Error::system("the mail store")(std::io::Error::other(error)))?;
        Ok(shortened(&complaints))
    }

    /// Asks Postfix to end until it does.
    async fn stop(&self, child: &mut Child) -> Result<ExitStatus, Error> {
        tracing::info!("ending Postfix");
        let limit = Instant::now() + STOP_LIMIT;
        let ended = timeout_at(limit, async {
            loop {
                postfix::stop(&self.children, &self.places.config_directory).await?;
                if let Ok(status) = timeout(STOP_INTERVAL, child.wait()).await {
                    return status.map_err(Error::system("waiting for Postfix"));
                }
            }
        });
        ended.await.unwrap_or(Err(Error::Unstoppable))
    }
}

/// What is told of a configuration that runs, if not all of it does.
fn not_in_force(hash: &str, complaints: [Option<String>; 2]) -> Option<Refused> {
    let complaints: Vec<String> = complaints.into_iter().flatten().collect();
    (!complaints.is_empty()).then(|| {
        let error = complaints.join("; ");
        tracing::error!(error, "not all of the configuration is in force");
        Refused { config_hash: hash.to_owned(), error }
    })
}

/// Notes a try, after which there is nothing more to do, or another one.
fn settle(tried: &mut Retry<Mounted>, now: Mounted, is_settled: bool) {
    if is_settled {
        tried.settled(now);
    } else {
        tried.failed(now, std::time::Instant::now());
    }
}

fn shortened(complaints: &[String]) -> Option<String> {
    let told = complaints.iter().take(TOLD_PATHS).map(String::as_str).collect::<Vec<_>>().join("; ");
    match complaints.len().checked_sub(TOLD_PATHS) {
        Some(more @ 1..) => Some(format!("{told}; and {more} more")),
        _ => (!told.is_empty()).then_some(told),
    }
}
