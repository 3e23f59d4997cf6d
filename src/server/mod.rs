//! Placeholder.
#![allow(missing_docs)]
pub mod database;
#[derive(Debug, thiserror::Error)]
pub enum Error {}
pub struct Context;
impl Context {
    pub fn new(_: kube::Client, _: crate::report::Reports, _: String, _: String) -> Self {
        Self
    }
}
pub async fn run(_: Context, stop: impl Future<Output = ()>) -> Result<(), Error> {
    stop.await;
    Ok(())
}
