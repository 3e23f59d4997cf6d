//! vmail-operator: declared mail accounts kept true in `PostfixAdmin`'s tables, Postfix's configuration and the mail store.
//!
//! Data flows one way:
//!
//! ```text
//! watch events -> index -> desired -> plan -> store -> status
//! ```
//!
//! * [`api`]: what users write, the schema of the five kinds.
//! * [`index`], [`routing`], [`desired`], [`plan`]: the thinking. Pure; no clock, no IO, no client.
//! * [`scheme`]: which schemes of password hashes are weak. Pure.
//! * [`store`]: the only SQL.
//! * [`watches`], [`sync`], [`status`]: the set loop, which joins them.
//! * [`postfix`]: configuration as text, pure. [`server`]: the workloads of a `MailServer`.
//! * [`agent`]: pid 1 of the Postfix pod.
//! * [`run`]: the operator's process. [`leadership`]: which replica works. [`client`]: how it reaches
//!   the API server. [`plugin`]: the verbs of `kubectl vmail`.

pub mod agent;
pub mod api;
pub mod client;
pub mod desired;
pub mod http;
pub mod index;
pub mod leadership;
pub mod metrics;
pub mod object;
pub mod password;
pub mod plan;
pub mod plugin;
pub mod postfix;
pub mod report;
pub mod routing;
pub mod run;
pub mod scheme;
pub mod server;
pub mod status;
pub mod store;
pub mod sync;
pub mod tables;
pub mod telemetry;
pub mod watches;

#[cfg(test)]
#[allow(clippy::needless_pass_by_value, reason = "a spec is written where it is passed")]
mod testing;
