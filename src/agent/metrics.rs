//! The agent's metrics, as `OpenMetrics` text. Labels are from closed lists: no address and no client is ever one.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use super::http::State;
use super::mail_log::{Event, event};
use super::queue::{QUEUES, messages};

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct QueueLabel {
    queue: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct OutcomeLabel {
    outcome: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct ReasonLabel {
    reason: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct MapLabel {
    map: String,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct HashLabel {
    hash: String,
}

/// All metrics; cloning shares them.
#[derive(Clone)]
pub(super) struct Metrics(Arc<Inner>);

struct Inner {
    registry: Registry,
    connections: Counter,
    received: Counter,
    handled: Family<OutcomeLabel, Counter>,
    rejected: Family<ReasonLabel, Counter>,
    probe: Histogram,
    queue: Family<QueueLabel, Gauge>,
    map_size: Family<MapLabel, Gauge>,
    configuration: Family<HashLabel, Gauge>,
    configuration_age: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("vmail_postfix");
        let (connections, received) = (Counter::default(), Counter::default());
        let handled = Family::<OutcomeLabel, Counter>::default();
        let rejected = Family::<ReasonLabel, Counter>::default();
        let probe = Histogram::new(exponential_buckets(0.0005, 2.0, 13));
        let queue = Family::<QueueLabel, Gauge>::default();
        let map_size = Family::<MapLabel, Gauge>::default();
        let configuration = Family::<HashLabel, Gauge>::default();
        let configuration_age = Gauge::default();
        registry.register("connections", "SMTP clients, the agent's own probe left out", connections.clone());
        registry.register("messages_received", "Messages that came into the queue", received.clone());
        registry.register(
            "deliveries",
            "Attempts to deliver a message to one recipient, by what became of them",
            handled.clone(),
        );
        registry.register(
            "rejected",
            "Refusals of clients, recipients and messages, by reason",
            rejected.clone(),
        );
        registry.register_with_unit(
            "smtp_probe",
            "Time that Postfix took to greet the agent's probe",
            Unit::Seconds,
            probe.clone(),
        );
        registry.register("queue_messages", "Messages in each of Postfix's queues", queue.clone());
        registry.register_with_unit(
            "map_size",
            "Size of each compiled look-up file",
            Unit::Bytes,
            map_size.clone(),
        );
        registry.register(
            "configuration_info",
            "Hash of the configuration that Postfix runs with",
            configuration.clone(),
        );
        registry.register_with_unit(
            "configuration_age",
            "Time since Postfix took its configuration",
            Unit::Seconds,
            configuration_age.clone(),
        );
        Self(Arc::new(Inner {
            registry,
            connections,
            received,
            handled,
            rejected,
            probe,
            queue,
            map_size,
            configuration,
            configuration_age,
        }))
    }
}

impl Metrics {
    /// Counts what a line of Postfix's log tells of.
    pub(super) fn note(&self, line: &str) {
        match event(line) {
            Some(Event::Connected) => self.0.connections.inc(),
            Some(Event::Received) => self.0.received.inc(),
            Some(Event::Handled(outcome)) => {
                self.0.handled.get_or_create(&OutcomeLabel { outcome: outcome.as_str() }).inc()
            }
            Some(Event::Rejected(reason)) => {
                self.0.rejected.get_or_create(&ReasonLabel { reason: reason.as_str() }).inc()
            }
            None => return,
        };
    }

    /// The probe was answered.
    pub(super) fn probed(&self, took: Duration) {
        self.0.probe.observe(took.as_secs_f64());
    }

    /// Everything as text, with what is true now: `queue` is Postfix's queue directory.
    ///
    /// # Errors
    /// When the text can't be written, which a `String` never refuses.
    pub(super) fn text(&self, state: &State, queue: &Path) -> Result<String, std::fmt::Error> {
        for name in QUEUES {
            if let Ok(messages) = messages(queue, name) {
                let gauge = self.0.queue.get_or_create(&QueueLabel { queue: name });
                gauge.set(i64::try_from(messages).unwrap_or(i64::MAX));
            }
        }
        self.0.map_size.clear();
        for (map, bytes) in state.maps.as_deref().map(sizes).unwrap_or_default() {
            self.0.map_size.get_or_create(&MapLabel { map }).set(bytes);
        }
        self.0.configuration.clear();
        if let Some(hash) = state.told.config_hash.clone() {
            self.0.configuration.get_or_create(&HashLabel { hash }).set(1);
        }
        let age = state.taken.map_or(0, |taken| taken.elapsed().as_secs());
        self.0.configuration_age.set(i64::try_from(age).unwrap_or(i64::MAX));
        let mut text = String::new();
        encode(&mut text, &self.0.registry)?;
        Ok(text)
    }
}

/// The files in a directory of look-up files that Postfix opens, with their sizes: not the source of a compiled one.
fn sizes(directory: &Path) -> Vec<(String, i64)> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let files: Vec<(String, i64)> = entries
        .filter_map(|entry| {
            let size = entry.metadata().ok()?.len();
            Some((entry.file_name().to_string_lossy().into_owned(), i64::try_from(size).ok()?))
        })
        .collect();
    let is_source = |name: &str| {
        files.iter().any(|(other, _)| other.strip_prefix(name).is_some_and(|rest| rest.starts_with('.')))
    };
    files.iter().filter(|(name, _)| !is_source(name)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::contract::AgentStatus;

    #[test]
    fn the_sources_of_compiled_files_are_no_maps() {
        let directory = tempfile::TempDir::new().unwrap();
        for (file, text) in [("alias_maps", "a"), ("alias_maps.lmdb", "compiled"), ("uid_maps", "text")] {
            std::fs::write(directory.path().join(file), text).unwrap();
        }
        let mut sizes = sizes(directory.path());
        sizes.sort();
        assert_eq!(sizes, [("alias_maps.lmdb".to_owned(), 8), ("uid_maps".to_owned(), 4)]);
    }

    #[test]
    fn the_page_tells_of_mail_and_of_nobody() {
        let metrics = Metrics::default();
        for line in [
            "Nov 23 05:13:29 myhost postfix/smtpd[225]: connect from unknown[10.0.0.9]",
            "Nov 23 05:13:29 myhost postfix/cleanup[225]: 3F25: message-id=<secret@example.org>",
            "Nov 23 05:13:29 myhost postfix/virtual[225]: 3F25: to=<alfred@alpha.org>, relay=virtual, status=sent (ok)",
            "Nov 23 05:13:29 myhost postfix/smtpd[225]: NOQUEUE: reject: RCPT from unknown[10.0.0.9]: 554 5.7.1 <x@y>: Relay access denied; from=<a> to=<b>",
        ] {
            metrics.note(line);
        }
        metrics.probed(Duration::from_millis(3));
        let queue = tempfile::TempDir::new().unwrap();
        let told = AgentStatus { config_hash: Some("abc".to_owned()), ..AgentStatus::default() };
        let state = State { told, ..State::default() };
        let text = metrics.text(&state, queue.path()).unwrap();
        for line in [
            "vmail_postfix_connections_total 1",
            "vmail_postfix_messages_received_total 1",
            "vmail_postfix_deliveries_total{outcome=\"delivered\"} 1",
            "vmail_postfix_rejected_total{reason=\"relay_denied\"} 1",
            "vmail_postfix_queue_messages{queue=\"deferred\"} 0",
            "vmail_postfix_configuration_info{hash=\"abc\"} 1",
            "vmail_postfix_smtp_probe_seconds_count 1",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        assert!(!text.contains("alfred") && !text.contains("10.0.0.9") && !text.contains("example.org"));
    }
}
