//! The set loop of one server: connect, work while the connection lasts, back off, connect again.

use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Context;
use super::brake::Recent;
use super::files;
use super::pace::Pace;
use super::pass::{PassError, Passes};
use crate::api::Reason;
use crate::client::{self, bounded};
use crate::object::ObjectName;
use crate::report::{Counts, Finding, ServerReport};
use crate::server::database::{Endpoint, endpoint};
use crate::store::{self, Access, PING_INTERVAL, Store};

/// Shortest and longest rest between two attempts to connect.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(2));

/// Counts on the `MailServer` are told at most this often.
pub(super) const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// Serves until `stop`.
pub(super) async fn serve(context: Context, server: ObjectName, stop: CancellationToken) {
    let mut rest = BACK_OFF.0;
    let mut recent = Recent::default();
    while !stop.is_cancelled() {
        if context.index.read().server(&server).is_some_and(|row| row.files) {
            all_listed(&context, &stop).await;
            if stop.is_cancelled() {
                return;
            }
            if let Err(error) = files::work(&context, &server, &mut recent, &stop).await {
                tracing::warn!(%server, %error, "look-up files not written, trying again");
                let report = outage(&context, &server, None, error.finding());
                context.report(&server, report);
            }
            rest_or(&stop, &mut rest).await;
            continue;
        }
        let connected = tokio::select! {
            connected = connect(&context, &server) => connected,
            () = stop.cancelled() => return,
        };
        match connected {
            Ok((store, database)) => {
                tracing::info!(%server, "connected to the database");
                rest = BACK_OFF.0;
                if let Err(error) = work(&context, &server, (store, database), &mut recent, &stop).await {
                    tracing::warn!(%server, %error, "pass interrupted, connecting again");
                    context.report(&server, database_outage(&context, &server, finding(&error)));
                }
            }
            Err(finding) => {
                tracing::warn!(%server, reason = finding.reason.as_str(), error = finding.message, "no database");
                context.report(&server, database_outage(&context, &server, finding));
            }
        }
        rest_or(&stop, &mut rest).await;
    }
}

/// Nothing is planned before every watch has delivered its first full list. Returns at `stop` as well.
async fn all_listed(context: &Context, stop: &CancellationToken) {
    tokio::select! {
        () = context.index.complete() => {}
        () = stop.cancelled() => {}
    }
}

/// Rests, unless `stop`; longer the next time.
async fn rest_or(stop: &CancellationToken, rest: &mut Duration) {
    tokio::select! {
        () = tokio::time::sleep(*rest) => {}
        () = stop.cancelled() => {}
    }
    *rest = (*rest * 2).min(BACK_OFF.1);
}

fn database_outage(context: &Context, server: &ObjectName, database: Finding) -> ServerReport {
    let tables =
        Finding::bad(database.reason, "the tables are not compared while the database can't be used");
    outage(context, server, Some(database), tables)
}

fn outage(
    context: &Context,
    server: &ObjectName,
    database: Option<Finding>,
    tables: Finding,
) -> ServerReport {
    let last = context.reports.get(server);
    ServerReport {
        tables,
        database,
        complete: last.as_ref().and_then(|report| report.complete),
        needs: context.index.read().needs_version(server),
        settled: None,
        released: last.as_ref().and_then(|report| report.released.clone()),
        drifted: last.as_ref().map_or(0, |report| report.drifted),
        counts: last.map_or_else(Counts::default, |report| report.counts),
    }
}

fn finding(error: &PassError) -> Finding {
    match error {
        PassError::Store(error) => store_finding(error),
        PassError::Api(_) => {
            Finding::bad(Reason::DatabaseUnavailable, "a Secret could not be read, trying again")
        }
    }
}

fn store_finding(error: &store::Error) -> Finding {
    let reason = if error.is_unfit() { Reason::DatabaseInvalid } else { Reason::DatabaseUnavailable };
    Finding::bad(reason, error.to_string())
}

/// Opens the database that the `MailServer` names, as the index has it: as new as all that is planned. Also gives the hash of that
/// part of its spec.
async fn connect(context: &Context, server: &ObjectName) -> Result<(Store, u64), Finding> {
    let row = context.index.read().server(server).cloned();
    let named = row.and_then(|row| Some((endpoint(server, &row)?, row.database)));
    let Some((endpoint, database)) = named else {
        return Err(Finding::bad(Reason::Pending, "the MailServer names no database any more"));
    };
    let access = access(&context.client, server, endpoint).await?;
    let store =
        Store::open(&access, &context.server_id(server)).await.map_err(|error| store_finding(&error))?;
    Ok((store, database))
}

async fn access(client: &Client, server: &ObjectName, endpoint: Endpoint) -> Result<Access, Finding> {
    let secrets = Api::<Secret>::namespaced(client.clone(), &server.namespace);
    let tls = async {
        match endpoint.tls {
            Some(authority) => secret_text(&secrets, &authority.name, &authority.key).await.map(Some),
            None => Ok(None),
        }
    };
    let reader = async {
        if endpoint.embedded {
            secret_text(&secrets, &endpoint.reader_secret, "username").await.map(Some)
        } else {
            Ok(None)
        }
    };
    let (writer, tls, reader) = tokio::try_join!(secret(&secrets, &endpoint.writer_secret), tls, reader)?;
    let (username, password) = (text_of(&writer, "username")?, text_of(&writer, "password")?);
    Ok(Access {
        host: endpoint.host,
        port: endpoint.port,
        database: endpoint.database,
        table_prefix: endpoint.table_prefix,
        username,
        password,
        tls: tls.map(String::into_bytes),
        reader,
    })
}

async fn secret_text(secrets: &Api<Secret>, name: &str, key: &str) -> Result<String, Finding> {
    text_of(&secret(secrets, name).await?, key)
}

async fn secret(secrets: &Api<Secret>, name: &str) -> Result<Secret, Finding> {
    let secret = bounded(secrets.get_opt(name)).await;
    secret.map_err(|error| unreadable(&format!("Secret {name}"), &error))?.ok_or_else(|| {
        Finding::bad(Reason::SecretNotFound, format!("there is no Secret {name} in this namespace"))
    })
}

fn text_of(secret: &Secret, key: &str) -> Result<String, Finding> {
    let value = secret.data.as_ref().and_then(|data| data.get(key));
    let text = value.and_then(|value| String::from_utf8(value.0.clone()).ok());
    text.map(|text| text.trim_end_matches(['\r', '\n']).to_owned())
        .filter(|text| !text.is_empty())
        .ok_or_else(|| {
            let name = secret.metadata.name.as_deref().unwrap_or_default();
            Finding::bad(Reason::SecretInvalid, format!("Secret {name} has no text under the key {key}"))
        })
}

fn unreadable(what: &str, error: &client::Error) -> Finding {
    tracing::debug!(%error, what, "not readable");
    Finding::bad(
        Reason::DatabaseUnavailable,
        format!("{what} can't be read from the API server, trying again"),
    )
}

/// Passes until the connection breaks, `stop`, or the `MailServer` names another database.
async fn work(
    context: &Context,
    server: &ObjectName,
    (store, database): (Store, u64),
    recent: &mut Recent,
    stop: &CancellationToken,
) -> Result<(), PassError> {
    let mut changed = context.index.subscribe();
    let mut passes = Passes::new(context, server, store, database, recent);
    passes.read_ahead().await?;
    passes.kept_during(all_listed(context, stop)).await?;
    let mut next_check = Instant::now();
    let mut next_ping = next_check + PING_INTERVAL;
    let mut pace = Pace::new(next_check);
    loop {
        if stop.is_cancelled()
            || context.index.read().server(server).is_none_or(|row| row.database != database)
        {
            passes.close().await;
            return Ok(());
        }
        if next_ping <= Instant::now() {
            passes.ping().await?;
            next_ping = Instant::now() + PING_INTERVAL;
        }
        if next_check <= Instant::now() {
            passes.full().await?;
            next_check = Instant::now() + jittered(context.drift_check_interval);
        }
        if context.index.read().has_work(server) {
            let now = Instant::now();
            let next = pace.next(now);
            // A timer costs a millisecond even where there is nothing to wait for.
            if next > now {
                tokio::select! {
                    () = tokio::time::sleep_until(next) => {}
                    () = stop.cancelled() => continue,
                }
            }
            pace.began(Instant::now());
            passes.touched().await?;
            continue;
        }
        let (report_due, settle_due) = (passes.report_due(REPORT_INTERVAL), passes.settle_due());
        tokio::select! {
            result = changed.changed() => if result.is_err() { return Ok(()) },
            () = tokio::time::sleep_until(report_due.unwrap_or(next_check)), if report_due.is_some() => passes.report(),
            () = tokio::time::sleep_until(settle_due.unwrap_or(next_check)), if settle_due.is_some() => passes.settle().await?,
            () = tokio::time::sleep_until(next_check) => {}
            () = tokio::time::sleep_until(next_ping) => {}
            () = stop.cancelled() => {}
        }
    }
}

/// The interval, shortened by up to a tenth.
pub(super) fn jittered(interval: Duration) -> Duration {
    let random = getrandom::u32().unwrap_or_default();
    interval.saturating_sub(interval.mul_f64(f64::from(random) / f64::from(u32::MAX) / 10.0))
}
