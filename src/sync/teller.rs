//! What a set loop tells of its server: Events on the `MailServer`, and reports to the controller, which writes its status.

use std::time::Duration;

use kube::runtime::events::{EventType, Recorder, Reporter};
use tokio::time::Instant;

use super::Context;
use super::brake::Held;
use crate::api::{FIELD_MANAGER, MailServer, Reason};
use crate::client;
use crate::event::event;
use crate::object::ObjectName;
use crate::report::ServerReport;

/// What was told last, and how to tell more.
pub(super) struct Teller<'a> {
    context: &'a Context,
    server: &'a ObjectName,
    recorder: Recorder,
    /// Hash of the held deletions that were told last.
    announced: Option<String>,
    reported: Option<(ServerReport, Instant)>,
}

impl<'a> Teller<'a> {
    pub(super) fn new(context: &'a Context, server: &'a ObjectName) -> Self {
        let recorder = Recorder::new(context.client.clone(), Reporter::from(FIELD_MANAGER));
        Self { context, server, recorder, announced: None, reported: None }
    }

    /// Tells of deletions that are held back: as a metric, and with an Event where they are not those of before.
    pub(super) async fn held(&mut self, held: Option<&Held>) {
        self.context.metrics.deletions_held(self.server, held.map_or(0, |held| held.keys.len()));
        let hash = held.map(|held| held.hash.clone());
        if let Some(held) = held.filter(|_| hash != self.announced) {
            let message = held.message();
            tracing::warn!(server = %self.server, message, "deletions held back");
            self.event(EventType::Warning, Reason::DeletionsHeld, message).await;
        }
        self.announced = hash;
    }

    /// Whether a report says something else than the last one, its counts aside.
    pub(super) fn has_news(&self, report: &ServerReport) -> bool {
        self.reported.as_ref().is_none_or(|(old, _)| {
            (&old.database, &old.tables, old.needs, &old.settled, old.complete, &old.released)
                != (
                    &report.database,
                    &report.tables,
                    report.needs,
                    &report.settled,
                    report.complete,
                    &report.released,
                )
        })
    }

    /// When a report is to be told that differs in its counts only.
    pub(super) fn due(&self, report: &ServerReport, interval: Duration) -> Option<Instant> {
        let (reported, at) = self.reported.as_ref()?;
        (reported != report).then_some(*at + interval)
    }

    /// Tells the `MailServer` controller.
    pub(super) fn report(&mut self, report: ServerReport) {
        self.context.report(self.server, report.clone());
        self.reported = Some((report, Instant::now()));
    }

    /// Publishes an Event on the `MailServer`; one that can't be published is lost.
    pub(super) async fn event(&self, type_: EventType, reason: Reason, note: String) {
        let reference = self.server.reference::<MailServer>().into();
        let event = event(type_, reason, note);
        if let Err(error) = client::bounded(self.recorder.publish(&event, &reference)).await {
            tracing::debug!(%error, "event not published");
        }
    }
}
