//! Postfix as a child: started with a checked configuration, given a changed one, ended in order.

use std::convert::Infallible;
use std::net::{SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::process::{ExitCode, ExitStatus};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tokio::process::Child;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout, timeout_at};

use super::children::Children;
use super::config::{self, Mounted};
use super::http::{self, Refused, State};
use super::log::{self, Log};
use super::maps::Maps;
use super::metrics::Metrics;
use super::{Error, outage, owners, parameters, postfix};
use crate::postfix::{CONFIG_DIRECTORY, QUEUE_DIRECTORY};

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

/// Arguments of `agent run`.
#[derive(Args, Clone, Debug)]
pub struct RunArguments {
    /// Where the ConfigMap is mounted
    #[arg(long, env = "VMAIL_CONFIG", default_value = "/etc/vmail/config")]
    pub config: PathBuf,
    /// Where the Secret of the database account is mounted
    #[arg(long, env = "VMAIL_CREDENTIALS", default_value = "/etc/vmail/credentials")]
    pub credentials: PathBuf,
    /// Where the ConfigMap of each shard of look-up files is mounted, if accounts are looked up in files
    #[arg(long, env = "VMAIL_MAPS", default_value = "/etc/vmail/maps")]
    pub maps: PathBuf,
    /// Directory for the compiled look-up files
    #[arg(long, env = "VMAIL_COMPILED_MAPS", default_value = "/var/lib/postfix/maps")]
    pub compiled_maps: PathBuf,
    /// Where the Secret with the certificate for SMTP clients is mounted, if there is one
    #[arg(long, env = "VMAIL_TLS", default_value = "/etc/vmail/tls")]
    pub tls: PathBuf,
    /// Where the Secret with the account at the relay host is mounted, if there is one
    #[arg(long, env = "VMAIL_RELAY", default_value = "/etc/vmail/relay")]
    pub relay: PathBuf,
    /// Where the kubelet writes the pod's annotations
    #[arg(long, env = "VMAIL_POD", default_value = "/etc/vmail/pod")]
    pub pod: PathBuf,
    /// Postfix's configuration directory, on memory-backed storage; the agent works beside it
    #[arg(long, env = "VMAIL_CONFIG_DIRECTORY", default_value = CONFIG_DIRECTORY)]
    pub config_directory: PathBuf,
    /// Where the kubelet reads why the container ended
    #[arg(long, env = "VMAIL_TERMINATION_LOG", default_value = "/dev/termination-log")]
    pub termination_log: PathBuf,
    /// Address for /healthz, /readyz, /status and /metrics
    #[arg(long, env = "VMAIL_LISTEN", default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,
    /// Where Postfix must answer before the pod is ready
    #[arg(long, env = "VMAIL_SMTP", default_value = "127.0.0.1:25")]
    pub smtp: SocketAddrV4,
}

pub(super) async fn run(arguments: RunArguments) -> ExitCode {
    let termination_log = arguments.termination_log.clone();
    let Err(error) = Supervisor::new(arguments).run().await else { return ExitCode::SUCCESS };
    tracing::error!(%error, "the agent ends");
    if let Err(error) = std::fs::write(termination_log, error.to_string()) {
        tracing::warn!(%error, "the reason could not be left for the kubelet");
    }
    ExitCode::from(error.exit_code())
}

struct Supervisor {
    arguments: RunArguments,
    children: Children,
    maps: Maps,
    postfix_group: Option<u32>,
    state: watch::Sender<State>,
}

impl Supervisor {
    fn new(arguments: RunArguments) -> Self {
        let RunArguments { maps, compiled_maps, config, .. } = arguments.clone();
        Self {
            arguments,
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
        let RunArguments { listen, smtp, .. } = self.arguments;
        let pages = tokio::spawn(http::serve(listen, smtp, self.state.subscribe(), metrics.clone()));
        let seen = tokio::select! {
            seen = self.first_mounted() => seen?,
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
        };
        let (mounted, complaint) = seen.usable(None);
        self.prepare(&mounted, None).await?;
        // Postfix's check has made the directory.
        let socket = log::socket(Path::new(QUEUE_DIRECTORY));
        let log = Log::receive(&socket, metrics).map_err(Error::file(&socket))?;
        let mut child = postfix::start(&self.children, &self.arguments.config_directory)?;
        self.running(&mounted, complaint);
        tokio::select! {
            status = child.wait() => {
                let status = status.map_err(Error::system("waiting for Postfix"))?;
                return Err(Error::Ended { status, complaints: log.last_words().await });
            }
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            result = pages => return Err(http::ended(result)),
            never = self.follow(seen, mounted) => match never {},
            never = self.reload_after_outages(log.outage()) => match never {},
            never = self.empty_the_queue() => match never {},
            never = self.children.reap() => match never {},
        }
        self.stop(&mut child).await?;
        log.last_words().await;
        Ok(())
    }

    async fn mounted(&self) -> Result<Mounted, Error> {
        let mounted = Mounted::read(&self.arguments.config, &self.arguments.credentials)?
            .with_secrets(&self.arguments.tls, &self.arguments.relay)?
            .with_requests(&self.arguments.pod)?;
        match mounted.look_up_files() {
            Some(type_) => Ok(mounted.with_maps(self.maps.directory(&self.children, type_).await?)),
            None => Ok(mounted),
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
    /// place.
    async fn prepare(&self, mounted: &Mounted, running: Option<&Mounted>) -> Result<(), Error> {
        let candidate = self.arguments.config_directory.with_extension("candidate");
        let queue = self.arguments.config_directory.with_extension("check");
        mounted.write(&candidate, self.postfix_group)?;
        if running.is_none_or(|running| !mounted.differs_in_accounts_only(running)) {
            tokio::try_join!(
                postfix::check(&self.children, &candidate),
                parameters::check(&self.children, mounted, &candidate, &queue),
            )?;
        }
        owners::make(&mounted.mail_base(), &mounted.owners())?;
        config::take(&candidate, &self.arguments.config_directory)
    }

    /// `complaint`: what is wrong with a Secret, which the configuration does without.
    fn running(&self, mounted: &Mounted, complaint: Option<String>) {
        let hash = mounted.hash();
        tracing::info!(hash, "configuration taken");
        let refused = complaint.map(|error| {
            tracing::error!(error, "a Secret is not used");
            Refused { config_hash: hash.clone(), error }
        });
        self.state.send_replace(State {
            config_hash: Some(hash),
            refused,
            taken: Some(std::time::Instant::now()),
            maps: mounted.maps().map(Into::into),
            draining: mounted.is_draining(),
            queued: None,
        });
    }

    /// Takes every changed configuration that Postfix accepts; keeps the old one otherwise.
    async fn follow(&self, seen: Mounted, mut running: Mounted) -> Infallible {
        let mut seen = Some(seen);
        loop {
            tokio::time::sleep(LOOK_INTERVAL).await;
            let now = match self.mounted().await {
                Ok(now) if seen.as_ref() == Some(&now) => continue,
                Ok(now) => now,
                Err(error @ Error::Refused(_)) => {
                    self.refuse(running.hash(), &error);
                    seen = None;
                    continue;
                }
                // While the kubelet exchanges the mounts a file may be missing; it is there at the next look.
                Err(_) => continue,
            };
            let (mounted, complaint) = now.usable(Some(&running));
            match self.exchange(&mounted, &running).await {
                Ok(()) => {
                    self.running(&mounted, complaint);
                    let has_new_owners = mounted.owners() != running.owners();
                    running = mounted;
                    tokio::time::sleep(RELOAD_REST).await;
                    // A virtual(8) from before may still have tried to deliver as the owner of before, in vain.
                    if has_new_owners {
                        self.flush().await;
                    }
                }
                Err(error) => {
                    self.refuse(mounted.hash(), &error);
                }
            }
            seen = Some(now);
        }
    }

    /// Tells, once, that the configuration before stays.
    fn refuse(&self, config_hash: String, error: &Error) {
        let refused = Refused { config_hash, error: error.to_string() };
        self.state.send_if_modified(|state| {
            let is_news = state.refused.as_ref() != Some(&refused);
            if is_news {
                tracing::error!(%error, "changed configuration not taken, the one before stays");
                state.refused = Some(refused);
            }
            is_news
        });
    }

    /// Has Postfix forget what it could not look up while the database was away, and try what it put off.
    async fn reload_after_outages(&self, told: Arc<Notify>) -> Infallible {
        loop {
            told.notified().await;
            outage::end(&self.arguments.config_directory).await;
            match postfix::reload(&self.children, &self.arguments.config_directory).await {
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
            let _ = state.wait_for(|state| state.draining).await;
            tracing::info!("the pod is to leave: no more mail is taken, the queue is emptied");
            while state.borrow().draining {
                self.flush().await;
                tokio::time::sleep(FLUSH_INTERVAL).await;
            }
        }
    }

    async fn flush(&self) {
        if let Err(error) = postfix::flush(&self.children, &self.arguments.config_directory).await {
            tracing::warn!(%error, "deferred mail not tried again");
        }
    }

    async fn exchange(&self, mounted: &Mounted, running: &Mounted) -> Result<(), Error> {
        self.prepare(mounted, Some(running)).await?;
        postfix::reload(&self.children, &self.arguments.config_directory).await
    }

    /// Asks Postfix to end until it does.
    async fn stop(&self, child: &mut Child) -> Result<(), Error> {
        tracing::info!("ending Postfix");
        let limit = Instant::now() + STOP_LIMIT;
        let ended = timeout_at(limit, async {
            loop {
                postfix::stop(&self.children, &self.arguments.config_directory).await?;
                if let Ok(status) = timeout(STOP_INTERVAL, child.wait()).await {
                    return status.map_err(Error::system("waiting for Postfix"));
                }
            }
        });
        let status: ExitStatus = ended.await.unwrap_or(Err(Error::Unstoppable))?;
        tracing::info!(%status, "Postfix ended");
        Ok(())
    }
}
