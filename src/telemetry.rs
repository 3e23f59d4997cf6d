//! Logs: structured, to standard output.

use std::ffi::OsStr;

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

/// How log lines look.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// What is logged where `RUST_LOG` doesn't say: kube's own spans would make every line a paragraph.
pub const DEFAULT_FILTER: &str = "info,kube_runtime=warn";

/// Starts logging; `RUST_LOG` filters, [`DEFAULT_FILTER`] by default and where it can't be read.
pub fn start(format: LogFormat) {
    let (filter, complaint) = filter(std::env::var_os("RUST_LOG").as_deref());
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_target(false);
    match format {
        LogFormat::Text => lines.init(),
        LogFormat::Json => lines.json().flatten_event(true).init(),
    }
    if let Some(complaint) = complaint {
        tracing::warn!("{complaint}");
    }
}

/// The filter that was asked for, and what is wrong with what was asked.
fn filter(asked: Option<&OsStr>) -> (EnvFilter, Option<String>) {
    let asked = asked.unwrap_or_default().to_string_lossy();
    if asked.is_empty() {
        return (EnvFilter::new(DEFAULT_FILTER), None);
    }
    match EnvFilter::builder().parse(&asked) {
        Ok(filter) => (filter, None),
        Err(error) => {
            let complaint = format!("RUST_LOG={asked} is not a filter, {DEFAULT_FILTER} is used: {error}");
            (EnvFilter::new(DEFAULT_FILTER), Some(complaint))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_cannot_be_read_is_told_and_not_used() {
        let (used, complaint) = filter(Some(OsStr::new("info,vmail_operator=verbose")));
        assert_eq!(used.to_string(), EnvFilter::new(DEFAULT_FILTER).to_string());
        assert!(complaint.unwrap().contains("vmail_operator=verbose"));
    }

    #[test]
    fn one_that_can_be_read_is_used_and_none_is_the_default() {
        let (used, complaint) = filter(Some(OsStr::new("debug")));
        assert_eq!((used.to_string().as_str(), complaint), ("debug", None));
        for nothing in [None, Some(OsStr::new(""))] {
            let (used, complaint) = filter(nothing);
            assert_eq!((used.to_string(), complaint), (EnvFilter::new(DEFAULT_FILTER).to_string(), None));
        }
    }
}
