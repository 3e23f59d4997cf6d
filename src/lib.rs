//! vmail-operator: declared mail accounts kept true in `PostfixAdmin`'s tables, Postfix's configuration and the mail store.
//!
//! Data flows one way:
//!
//! ```text
//! watch events -> index -> desired -> plan -> store -> status
//! ```
//!
//! * [`api`]: what users write, the schema of the five kinds. [`object`]: how rooms name an object.
//! * [`index`], [`routing`], [`desired`], [`plan`]: the thinking. Pure; no clock, no IO, no client. [`tables`]: the rows
//!   that it speaks of.
//! * [`scheme`]: which schemes of password hashes are weak. Pure. [`password`]: out of Secrets, and hashed.
//! * [`store`]: the only SQL.
//! * [`watches`], [`sync`], [`status`]: the set loop, which joins them. [`report`]: what it tells the controller. `event`: what happened.
//! * [`postfix`]: configuration as text, pure. [`server`]: the workloads of a `MailServer`.
//! * [`agent`]: pid 1 of the Postfix pod.
//! * [`run`]: the operator's process. [`leadership`]: which replica works. [`client`]: how it reaches
//!   the API server. [`http`], [`metrics`], [`telemetry`]: what it shows of itself.
//! * [`plugin`]: the verbs of `kubectl vmail`. [`output`]: what people pipe.

pub mod agent;
pub mod api;
pub mod client;
pub mod desired;
mod event;
pub mod http;
pub mod index;
pub mod leadership;
pub mod metrics;
pub mod object;
pub mod output;
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
