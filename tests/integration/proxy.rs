//! A relay before a database server that cuts a connection at the moment that a test is about.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What becomes of the packet at which the connection is cut.
#[derive(Clone, Copy, Debug)]
pub enum Cut {
    /// The server never gets it.
    Before,
    /// The server has answered it, and the answer gets lost.
    After,
}

/// Relays to a port of this machine, and cuts a connection whose client sends `text`. Gives its own port.
pub async fn cutting(port: u16, text: &'static str, cut: Cut) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let own = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(relay(client, port, text, cut));
        }
    });
    own
}

async fn relay(mut client: TcpStream, port: u16, text: &str, cut: Cut) {
    let mut server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let (mut sent, mut answered) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        tokio::select! {
            read = client.read(&mut sent) => {
                let Ok(length @ 1..) = read else { return };
                let is_it = sent[..length].windows(text.len()).any(|window| window == text.as_bytes());
                if is_it && matches!(cut, Cut::Before) {
                    return;
                }
                server.write_all(&sent[..length]).await.unwrap();
                if is_it {
                    assert_ne!(server.read(&mut answered).await.unwrap(), 0, "an answer");
                    return;
                }
            }
            read = server.read(&mut answered) => {
                let Ok(length @ 1..) = read else { return };
                if client.write_all(&answered[..length]).await.is_err() {
                    return;
                }
            }
        }
    }
}
