//! The operator's own metrics, as `OpenMetrics` text. Labels are from closed lists, or name a `MailServer`: there are
//! few of those. They never name an account.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use crate::index::rows::Kind;
use crate::object::ObjectName;
use crate::plan::{Plan, RowId};
use crate::tables::Table;

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Outcome {
    outcome: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Patched {
    kind: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct TableLabel {
    table: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct ServerLabel {
    namespace: String,
    mail_server: String,
}

impl ServerLabel {
    fn of(server: &ObjectName) -> Self {
        Self { namespace: server.namespace.to_string(), mail_server: server.name.to_string() }
    }
}

/// All metrics; cloning shares them.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    registry: Registry,
    passes: Family<Outcome, Counter>,
    pass_duration: Histogram,
    written: Family<TableLabel, Counter>,
    deleted: Family<TableLabel, Counter>,
    drifted: Family<TableLabel, Counter>,
    held: Family<ServerLabel, Gauge>,
    synced: Family<ServerLabel, Gauge>,
    leader: Gauge,
    patches: Family<Patched, Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("vmail");
        let (passes, patches) =
            (Family::<Outcome, Counter>::default(), Family::<Patched, Counter>::default());
        let (written, deleted, drifted) =
            (Family::<TableLabel, Counter>::default(), Family::default(), Family::default());
        let pass_duration = Histogram::new(exponential_buckets(0.001, 2.0, 16));
        let (held, synced) =
            (Family::<ServerLabel, Gauge>::default(), Family::<ServerLabel, Gauge>::default());
        let leader = Gauge::default();
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The operator's version", build);
        registry.register("leader", "Whether this replica is the one that works", leader.clone());
        registry.register("passes", "Passes of the set loops", passes.clone());
        registry.register_with_unit(
            "pass_duration",
            "Time that a pass took",
            Unit::Seconds,
            pass_duration.clone(),
        );
        registry.register("rows_written", "Rows inserted or changed", written.clone());
        registry.register("rows_deleted", "Rows deleted", deleted.clone());
        registry.register(
            "rows_drifted",
            "Managed rows that somebody else had changed or removed",
            drifted.clone(),
        );
        registry.register("deletions_held", "Deletions that wait for a release", held.clone());
        registry.register(
            "tables_synced",
            "Whether the tables, or look-up files, are as declared: the condition TablesSynced",
            synced.clone(),
        );
        registry.register("status_patches", "Writes of the status of account objects", patches.clone());
        Self(Arc::new(Inner {
            registry,
            passes,
            pass_duration,
            written,
            deleted,
            drifted,
            held,
            synced,
            leader,
            patches,
        }))
    }
}

fn outcome(good: bool) -> &'static str {
    if good { "success" } else { "error" }
}

impl Metrics {
    /// A pass ended.
    pub fn pass(&self, good: bool, took: Duration) {
        self.0.passes.get_or_create(&Outcome { outcome: outcome(good) }).inc();
        self.0.pass_duration.observe(took.as_secs_f64());
    }

    /// A plan was applied.
    pub fn applied(&self, plan: &Plan) {
        let count = |family: &Family<TableLabel, Counter>, table: Table| {
            family.get_or_create(&TableLabel { table: table.as_str() }).inc();
        };
        plan.written().for_each(|row| count(&self.0.written, row.table()));
        plan.deletes.iter().for_each(|(table, _)| count(&self.0.deleted, *table));
    }

    /// Rows turned out to have been changed or removed by somebody else.
    pub fn drifted(&self, rows: &[RowId]) {
        for (table, _) in rows {
            self.0.drifted.get_or_create(&TableLabel { table: table.as_str() }).inc();
        }
    }

    /// So many deletions of a server are held back now.
    pub fn deletions_held(&self, server: &ObjectName, count: usize) {
        self.0.held.get_or_create(&ServerLabel::of(server)).set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Whether the tables of a server are as declared.
    pub fn tables_synced(&self, server: &ObjectName, synced: bool) {
        self.0.synced.get_or_create(&ServerLabel::of(server)).set(synced.into());
    }

    /// A server is gone: nothing is told of it any more.
    pub fn forget(&self, server: &ObjectName) {
        let label = ServerLabel::of(server);
        self.0.held.remove(&label);
        self.0.synced.remove(&label);
    }

    /// Whether this replica is the one that works.
    pub fn leads(&self, leads: bool) {
        self.0.leader.set(leads.into());
    }

    /// A patch of the status of an object of this kind ended.
    pub fn status_patch(&self, kind: Kind, good: bool) {
        self.0.patches.get_or_create(&Patched { kind: kind.as_str(), outcome: outcome(good) }).inc();
    }

    /// Everything as text, for `/metrics`.
    ///
    /// # Errors
    /// When the text can't be written, which a `String` never refuses.
    pub fn text(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.0.registry)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Metrics of which each has counted something: what has not is not shown.
    fn counted() -> Metrics {
        let metrics = Metrics::default();
        metrics.pass(true, Duration::from_millis(3));
        let table = TableLabel { table: Table::Mailbox.as_str() };
        metrics.0.written.get_or_create(&table).inc();
        metrics.0.deleted.get_or_create(&table).inc();
        metrics.drifted(&[(Table::Mailbox, "alfred@alpha.example.org".to_owned())]);
        metrics.deletions_held(&ObjectName::new("mail", "myhost"), 1);
        metrics.status_patch(Kind::Mailbox, false);
        metrics.leads(true);
        metrics.tables_synced(&ObjectName::new("mail", "myhost"), true);
        metrics
    }

    /// A metric as the documentation names it: with its labels, and without the numbers of a histogram.
    fn documented_name(line: &str) -> String {
        let (name, labels) = line.split_once(['{', ' ']).unwrap();
        let name = ["_bucket", "_sum", "_count"]
            .iter()
            .fold(name, |name, end| name.strip_suffix(end).unwrap_or(name));
        let labels = labels.split_once("} ").map_or("", |(labels, _)| labels).split(',');
        let labels: Vec<_> = labels
            .filter_map(|label| Some(label.split_once('=')?.0))
            .filter(|label| *label != "le")
            .collect();
        if labels.is_empty() { name.to_owned() } else { format!("{name}{{{}}}", labels.join(",")) }
    }

    #[test]
    fn every_metric_is_documented_with_its_labels() {
        let text = counted().text().unwrap();
        let shown: BTreeSet<String> =
            text.lines().filter(|line| !line.starts_with('#')).map(documented_name).collect();
        let documentation = include_str!("../docs/metrics.md").lines();
        let told: BTreeSet<String> = documentation
            .filter_map(|line| Some(line.strip_prefix("| `")?.split_once('`')?.0.to_owned()))
            .collect();
        assert_eq!(shown, told);
        assert!(!text.contains("alfred"));
    }

    #[test]
    fn a_server_that_is_gone_is_told_of_no_more() {
        let (metrics, server) = (Metrics::default(), ObjectName::new("mail", "myhost"));
        metrics.leads(true);
        metrics.tables_synced(&server, false);
        metrics.deletions_held(&server, 31);
        let text = metrics.text().unwrap();
        for line in [
            "vmail_leader 1",
            r#"vmail_tables_synced{namespace="mail",mail_server="myhost"} 0"#,
            r#"vmail_deletions_held{namespace="mail",mail_server="myhost"} 31"#,
            concat!(r#"vmail_build_info{version=""#, env!("CARGO_PKG_VERSION"), r#""} 1"#),
        ] {
            assert!(text.contains(line), "{line} is not in {text}");
        }
        metrics.forget(&server);
        assert!(!metrics.text().unwrap().contains("myhost"));
    }
}
