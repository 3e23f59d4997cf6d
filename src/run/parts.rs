//! The parts of the process that run beside each other: none may end unnoticed, and leave the process half alive.

use std::panic::AssertUnwindSafe;

use futures::FutureExt;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::Error;

/// Starts parts, and hears of those that failed.
pub(super) struct Parts {
    failed: mpsc::UnboundedSender<Error>,
    failures: mpsc::UnboundedReceiver<Error>,
}

impl Parts {
    pub(super) fn new() -> Self {
        let (failed, failures) = mpsc::unbounded_channel();
        Self { failed, failures }
    }

    /// Starts a part. It has failed where it gives an error or panics, and not where it ends as it was asked to.
    pub(super) fn start(
        &self,
        name: &'static str,
        part: impl Future<Output = Result<(), Error>> + Send + 'static,
    ) -> JoinHandle<()> {
        let failed = self.failed.clone();
        tokio::spawn(async move {
            let ended = AssertUnwindSafe(part).catch_unwind().await;
            if let Err(error) = ended.unwrap_or(Err(Error::Ended(name))) {
                // Nobody listens where the process ends already.
                let _ = failed.send(error);
            }
        })
    }

    /// Why a part failed; waits until one has.
    pub(super) async fn failure(&mut self) -> Error {
        match self.failures.recv().await {
            Some(error) => error,
            // `self` holds a sender.
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_part_that_panics_or_fails_is_named() {
        let mut parts = Parts::new();
        parts.start("the first", async { Ok(()) }).await.unwrap();
        parts.start("the second", async { panic!("as a test does") }).await.unwrap();
        assert_eq!(parts.failure().await.to_string(), "the second ended by itself");
        parts.start("the third", async { Err(Error::Web) }).await.unwrap();
        assert_eq!(parts.failure().await.to_string(), Error::Web.to_string());
    }
}
