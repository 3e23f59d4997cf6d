//! Postfix as a child: started with a checked configuration, given a changed one, ended in order.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::process::{ExitCode, ExitStatus};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use tokio::process::Child;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout, timeout_at};

use super::children::Children;
use super::config::Mounted;
use super::contract::{PORT, Refused};
use super::course::{Candidate, Complaints, Course, Step};
use super::http::{self, State};
use super::log::{self, Log};
use super::maps::Maps;
use super::metrics::Metrics;
use super::places::Places;
use super::tree::Ids;
use super::{Error, files, ids, outage, owners, parameters, postfix};
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

/// What came of a look at the mounts.
#[derive(Default)]
struct Look {
    /// Whether Postfix was reloaded.
    has_reloaded: bool,
    /// Whether mail may have been put off for what is in order now.
    is_mended: bool,
}

impl Supervisor {
    fn new(places: Places, owner: Ids) -> Self {
        let maps = Maps::new(&places);
        Self {
            places,
            owner,
            children: Children::default(),
            maps,
            postfix_group: ids::group_id("postfix"),
            state: watch::Sender::default(),
        }
    }

    async fn run(&self) -> Result<(), Error> {
        let mut terminate = signal(SignalKind::terminate()).map_err(Error::system("signals"))?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::system("signals"))?;
        let metrics = Metrics::default();
        let pages = tokio::spawn(http::serve(LISTEN, SMTP, self.state.subscribe(), metrics.clone()));
        let course = tokio::select! {
            begun = self.begin() => begun?,
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
        };
        // Postfix's check has made the directory.
        let socket = log::socket(Path::new(QUEUE_DIRECTORY));
        let log = Log::receive(&socket, metrics).map_err(Error::file(&socket))?;
        let mut child = postfix::start(&self.children, &self.places.config_directory)?;
        self.running(course.running());
        self.tell(course.told(course.running()));
        tokio::select! {
            status = child.wait() => {
                let status = status.map_err(Error::system("waiting for Postfix"))?;
                return Err(Error::Ended { status, complaints: log.last_words().await });
            }
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            result = pages => return Err(http::ended(result)),
            never = self.follow(course) => match never {},
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

    /// The directory with the look-up files that it keeps, or with those that are mounted, of the type that main.cf names; `None`:
    /// it names a database.
    async fn compiled(&self, files: &Mounted) -> Result<Option<PathBuf>, Error> {
        match (files.maps(), files.look_up_files()) {
            (None, Some(type_)) => self.maps.directory(&self.children, type_).await.map(Some),
            (kept, _) => Ok(kept.map(Path::to_owned)),
        }
    }

    /// Puts in place what is mounted or, where that is refused, what this pod ran with before its container was started again:
    /// what is mounted is then tried once more, and told, as any change is.
    async fn begin(&self) -> Result<Course, Error> {
        let begun = async { self.begin_with(Candidate::wanted(self.first_mounted().await?)).await };
        let error = match begun.await {
            Err(error @ Error::Refused(_)) => error,
            result => return result,
        };
        let Ok(mounted) = self.mounted_before().await else { return Err(error) };
        tracing::error!(%error, "what is mounted is not taken, beginning with what ran before");
        self.begin_with(Candidate { mounted, is_wanted: false }).await.map_err(|before| {
            tracing::error!(error = %before, "what ran before can't be taken either");
            error
        })
    }

    async fn begin_with(&self, candidate: Candidate) -> Result<Course, Error> {
        let (mounted, secrets) = candidate.mounted.usable(None);
        let store = self.prepare(&mounted, None).await?;
        let mut course = Course::new(mounted.clone());
        course.done(candidate, mounted, Complaints { secrets, store }, now());
        Ok(course)
    }

    /// The configuration that was taken last, with all else as it is mounted now. The account that is mounted is for the database
    /// of the mounted configuration, and for no other.
    async fn mounted_before(&self) -> Result<Mounted, Error> {
        let before = Mounted::read(&self.kept(), &self.places.credentials)?
            .without_account()
            .with_maps(self.maps.in_use()?);
        let files = self.files()?.configured_as(&before);
        let maps = self.compiled(&files).await?;
        Ok(files.with_maps(maps))
    }

    /// Where the files that were taken last are kept as they were mounted: as long as the pod.
    fn kept(&self) -> PathBuf {
        self.places.config_directory.with_extension("taken")
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
        files::take(&candidate, &self.places.config_directory)?;
        if let Err(error) = mounted.keep(&self.kept()) {
            tracing::warn!(%error, "the configuration is not kept for another start of the container");
        }
        Ok(complaint)
    }

    /// Tells what Postfix runs with.
    fn running(&self, mounted: &Mounted) {
        let hash = mounted.hash();
        tracing::info!(hash, "configuration taken");
        self.state.send_modify(|state| {
            state.told.config_hash = Some(hash);
            state.told.draining = mounted.is_draining();
            state.taken = Some(now());
            state.maps = mounted.maps().map(Into::into);
        });
    }

    /// Takes every change that Postfix accepts; keeps the configuration from before otherwise.
    async fn follow(&self, mut course: Course) -> Infallible {
        loop {
            tokio::time::sleep(LOOK_INTERVAL).await;
            // While the kubelet exchanges the mounts a file may be missing; it is there at the next look.
            let Ok(wanted) = self.files() else { continue };
            let look = self.look(&mut course, &wanted).await;
            self.tell(course.told(&wanted));
            if look.has_reloaded {
                tokio::time::sleep(RELOAD_REST).await;
            }
            // A virtual(8) from before may still have tried to deliver as the owner of before, in vain.
            if look.is_mended {
                self.flush().await;
            }
        }
    }

    /// Does what is to be done next about what is mounted.
    async fn look(&self, course: &mut Course, wanted: &Mounted) -> Look {
        let mut candidate = course.candidate(wanted, now());
        match self.compiled(&candidate.mounted).await {
            Ok(maps) => candidate.mounted = candidate.mounted.with_maps(maps),
            Err(error) => {
                match error {
                    error if error.is_under_way() => {}
                    error if candidate.is_wanted => course.not_compiled(wanted, &error, now()),
                    error => course.left(&error),
                }
                return Look::default();
            }
        }
        let (usable, secrets) = candidate.mounted.usable(Some(course.running()));
        let step = course.step(&candidate, &usable, now());
        let done = match step {
            Step::Rest => return Look::default(),
            Step::Own => self.own(&usable).await,
            Step::Exchange => self.exchange(&usable, course.running()).await,
        };
        match done {
            Ok(store) => {
                let has_reloaded = step == Step::Exchange;
                if has_reloaded {
                    self.running(&usable);
                }
                let is_mended = course.done(candidate, usable, Complaints { secrets, store }, now());
                Look { has_reloaded, is_mended }
            }
            Err(error) => {
                if candidate.is_wanted && matches!(error, Error::Refused(_)) {
                    course.refused(wanted, &error, now());
                } else {
                    course.failed(candidate, &error, now());
                }
                Look::default()
            }
        }
    }

    /// Tells, once, what of the mounted configuration is not in force.
    fn tell(&self, refused: Option<Refused>) {
        self.state.send_if_modified(|state| {
            let is_news = state.told.refused != refused;
            if is_news {
                if let Some(Refused { error, .. }) = &refused {
                    tracing::error!(error, "not all of the configuration is in force");
                }
                state.told.refused = refused;
            }
            is_news
        });
    }

    /// Has Postfix forget what it could not look up while the database was away, and try what it put off.
    async fn reload_after_outages(&self, told: Arc<Notify>) -> Infallible {
        let mut rest = None;
        loop {
            if rest.is_none() {
                told.notified().await;
            }
            outage::end(&self.places.config_directory).await;
            match postfix::reload(&self.children, &self.places.config_directory).await {
                Ok(()) => {
                    tracing::info!("the database is back, Postfix reloaded");
                    self.flush().await;
                }
                Err(error) => tracing::error!(%error, "Postfix not reloaded after an outage of the database"),
            }
            let rested = outage::rest(rest);
            tokio::time::sleep(rested).await;
            rest = told.notified().now_or_never().map(|()| rested);
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

fn now() -> std::time::Instant {
    std::time::Instant::now()
}

fn shortened(complaints: &[String]) -> Option<String> {
    let told = complaints.iter().take(TOLD_PATHS).map(String::as_str).collect::<Vec<_>>().join("; ");
    match complaints.len().checked_sub(TOLD_PATHS) {
        Some(more @ 1..) => Some(format!("{told}; and {more} more")),
        _ => (!told.is_empty()).then_some(told),
    }
}
