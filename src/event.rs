//! Events, which say what happened; conditions say what is.

use kube::runtime::events::{Event, EventType};

use crate::api::Reason;

/// An Event that tells with a condition's reason what became of rows.
pub(crate) fn event(type_: EventType, reason: Reason, note: String) -> Event {
    Event { type_, reason: reason.as_str().into(), note: Some(note), action: "Sync".into(), secondary: None }
}
