//! The verbs of `kubectl vmail`, for people: what happens to mail for an address, and whether a mail system works.
//!
//! It reads objects with the rights of whoever runs it, puts them into the operator's own index and asks the operator's
//! own rooms. It has no account of the database and changes nothing.
//!
//! * [`explain`] over [`declared`] objects: pure. [`check`]: what a live pod answers, judged by pure functions.
//! * [`list`] and [`pod`]: the only IO.

pub mod check;
mod command;
pub mod declared;
pub mod explain;
pub mod explanation;
mod list;
mod pod;
mod rows;

pub use command::{PluginArguments, PluginCommand};
pub use rows::ToldRow;
