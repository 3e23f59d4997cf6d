//! Whether Postfix answers. A port that takes connections proves nothing: it does so when every smtpd(8) fails to
//! start, too. So the probe reads a greeting.

use std::net::{SocketAddr, SocketAddrV4};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpSocket;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::metrics::Metrics;
use crate::postfix::PROBE_ADDRESS;

/// How long Postfix may take to greet.
const LIMIT: Duration = Duration::from_secs(2);

/// How long an answer holds, however often it is asked for.
const HOLDS: Duration = Duration::from_secs(1);

/// Asks Postfix, at most once a second.
pub(super) struct Probe {
    smtp: SocketAddrV4,
    metrics: Metrics,
    last: Mutex<Option<(Instant, Answer)>>,
}

/// Postfix's greeting, or what is wrong.
pub(super) type Answer = Result<String, String>;

impl Probe {
    pub(super) fn new(smtp: SocketAddrV4, metrics: Metrics) -> Self {
        Self { smtp, metrics, last: Mutex::default() }
    }

    /// Whether Postfix greets now, or did less than a second ago.
    pub(super) async fn answer(&self) -> Answer {
        // Held while Postfix is asked: who comes meanwhile gets the same answer.
        let mut last = self.last.lock().await;
        if let Some((_, answer)) = last.as_ref().filter(|(asked, _)| asked.elapsed() < HOLDS) {
            return answer.clone();
        }
        let asked = Instant::now();
        let answer = ask(self.smtp).await;
        if answer.is_ok() {
            self.metrics.probed(asked.elapsed());
        }
        *last = Some((Instant::now(), answer.clone()));
        answer
    }
}

async fn ask(smtp: SocketAddrV4) -> Answer {
    match tokio::time::timeout(LIMIT, converse(smtp)).await {
        Ok(Ok(greeting)) if greeting.starts_with("220 ") => Ok(greeting),
        Ok(Ok(greeting)) => Err(format!("Postfix says: {greeting}")),
        Ok(Err(error)) => Err(format!("Postfix does not answer: {error}")),
        Err(_) => Err(format!("Postfix did not greet within {LIMIT:?}")),
    }
}

/// Reads the greeting and leaves in order, so that the log tells of no lost connection.
async fn converse(smtp: SocketAddrV4) -> std::io::Result<String> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((PROBE_ADDRESS, 0)))?;
    let mut stream = BufReader::new(socket.connect(smtp.into()).await?);
    let mut greeting = String::new();
    stream.read_line(&mut greeting).await?;
    // Whatever comes of the farewell: the greeting is there.
    if stream.get_mut().write_all(b"QUIT\r\n").await.is_ok() {
        let _ = stream.read_line(&mut String::new()).await;
    }
    Ok(greeting.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// A server that greets each client in this way and then leaves; `None`: it says nothing.
    async fn server(greeting: Option<&'static str>) -> (SocketAddrV4, tokio::task::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let SocketAddr::V4(address) = listener.local_addr().unwrap() else {
            panic!("an IPv4 address was asked for")
        };
        let serving = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                match greeting {
                    Some(greeting) => stream.write_all(greeting.as_bytes()).await.unwrap(),
                    None => std::future::pending().await,
                }
            }
        });
        (address, serving)
    }

    #[tokio::test]
    async fn only_a_greeting_will_do() {
        let (address, _serving) = server(Some("220 a ESMTP\r\n221 Bye\r\n")).await;
        assert_eq!(Probe::new(address, Metrics::default()).answer().await, Ok("220 a ESMTP".to_owned()));
        let (address, _serving) = server(Some("421 a busy\r\n")).await;
        assert_eq!(
            Probe::new(address, Metrics::default()).answer().await,
            Err("Postfix says: 421 a busy".to_owned())
        );
        let (address, serving) = server(None).await;
        assert_eq!(
            Probe::new(address, Metrics::default()).answer().await,
            Err("Postfix did not greet within 2s".to_owned())
        );
        serving.abort();
        assert!(serving.await.is_err());
        assert!(
            Probe::new(address, Metrics::default())
                .answer()
                .await
                .unwrap_err()
                .starts_with("Postfix does not answer")
        );
    }

    #[tokio::test]
    async fn an_answer_holds_for_a_moment() {
        let (address, serving) = server(Some("220 a ESMTP\r\n221 Bye\r\n")).await;
        let probe = Probe::new(address, Metrics::default());
        assert!(probe.answer().await.is_ok());
        serving.abort();
        assert!(serving.await.is_err());
        assert!(probe.answer().await.is_ok());
        assert!(Probe::new(address, Metrics::default()).answer().await.is_err());
    }
}
