//! A relay before the database server: it counts what passes, and lets an operator that is to be killed wait in the middle of
//! something.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub struct Relay {
    pub port: u16,
    passing: Arc<Passing>,
}

#[derive(Default)]
struct Passing {
    count: AtomicU64,
    /// Whether the operator waits for an answer. The server may not have noticed the question yet.
    is_asked: AtomicBool,
    /// Questions until the one whose answer nobody gets.
    left: Mutex<Option<u8>>,
    has_stopped: AtomicBool,
}

impl Relay {
    /// Relays to a port of this machine.
    pub async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let relay =
            Self { port: listener.local_addr().unwrap().port(), passing: Arc::new(Passing::default()) };
        let passing = relay.passing.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let passing = passing.clone();
                tokio::spawn(async move { passing.relay(client, port).await });
            }
        });
        relay
    }

    /// Grows with whatever passes.
    pub fn passed(&self) -> u64 {
        self.passing.count.load(Ordering::Relaxed)
    }

    /// Whether the server owes an answer.
    pub fn is_asked(&self) -> bool {
        self.passing.is_asked.load(Ordering::Relaxed)
    }

    /// The server gets so many questions and one more, whose answer gets lost.
    pub fn stop_after(&self, questions: u8) {
        self.passing.has_stopped.store(false, Ordering::Relaxed);
        *self.passing.left.lock().unwrap() = Some(questions);
    }

    /// Whether that answer is lost: the connection is silent since.
    pub fn has_stopped(&self) -> bool {
        self.passing.has_stopped.load(Ordering::Relaxed)
    }
}

impl Passing {
    /// Whether this question is the one whose answer gets lost.
    fn is_last(&self) -> bool {
        let mut left = self.left.lock().unwrap();
        *left = match *left {
            Some(0) => None,
            Some(more) => Some(more - 1),
            None => return false,
        };
        left.is_none()
    }

    async fn relay(&self, mut client: TcpStream, port: u16) {
        let mut server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        // What has passed has arrived.
        for end in [&client, &server] {
            end.set_nodelay(true).unwrap();
        }
        let (mut sent, mut answered) = (vec![0; 1 << 16], vec![0; 1 << 16]);
        loop {
            tokio::select! {
                read = client.read(&mut sent) => {
                    let Ok(length @ 1..) = read else { return };
                    self.count.fetch_add(1, Ordering::Relaxed);
                    self.is_asked.store(true, Ordering::Relaxed);
                    if server.write_all(&sent[..length]).await.is_err() {
                        return;
                    }
                    if self.is_last() {
                        self.has_stopped.store(true, Ordering::Relaxed);
                        // Until the operator is gone.
                        while matches!(client.read(&mut sent).await, Ok(1..)) {}
                        return;
                    }
                }
                read = server.read(&mut answered) => {
                    let Ok(length @ 1..) = read else { return };
                    self.count.fetch_add(1, Ordering::Relaxed);
                    self.is_asked.store(false, Ordering::Relaxed);
                    if client.write_all(&answered[..length]).await.is_err() {
                        return;
                    }
                }
            }
        }
    }
}
