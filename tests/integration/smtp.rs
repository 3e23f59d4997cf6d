//! A client that speaks SMTP line by line and keeps every reply.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// How long a client waits before it asks again.
const TIMEOUT: Duration = Duration::from_secs(5);

/// An open session, greeted and with EHLO said.
pub struct Session {
    stream: BufReader<TcpStream>,
}

/// A reply's code and whole text.
#[derive(Clone, Debug)]
pub struct Reply {
    pub code: u16,
    pub text: String,
}

impl Session {
    pub fn open(address: &str) -> std::io::Result<Self> {
        // A Service's address can swallow what comes in the moment when its only pod is gone.
        let address = address.to_socket_addrs()?.next().ok_or(std::io::ErrorKind::NotFound)?;
        let stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        let mut session = Self { stream: BufReader::new(stream) };
        session.expect(220)?;
        session.say("EHLO client.example.net")?;
        Ok(session)
    }

    fn reply(&mut self) -> std::io::Result<Reply> {
        let mut text = String::new();
        loop {
            let start = text.len();
            if self.stream.read_line(&mut text)? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            let line = &text[start..];
            if line.as_bytes().get(3) != Some(&b'-') {
                let code = line.get(..3).and_then(|code| code.parse().ok()).unwrap_or(0);
                return Ok(Reply { code, text });
            }
        }
    }

    fn expect(&mut self, code: u16) -> std::io::Result<Reply> {
        let reply = self.reply()?;
        if reply.code == code { Ok(reply) } else { Err(std::io::Error::other(reply.text)) }
    }

    /// Sends a line and reads the reply.
    pub fn say(&mut self, line: &str) -> std::io::Result<Reply> {
        self.stream.get_mut().write_all(format!("{line}\r\n").as_bytes())?;
        self.reply()
    }

    /// The reply to RCPT TO; the session is as before.
    pub fn recipient(&mut self, to: &str) -> std::io::Result<Reply> {
        self.say("MAIL FROM:<samt@example.net>")?;
        let reply = self.say(&format!("RCPT TO:<{to}>"))?;
        self.say("RSET")?;
        Ok(reply)
    }

    /// Sends a message; `Ok` once the server has taken responsibility for it (250 after the final dot).
    pub fn send(&mut self, to: &str, subject: &str) -> std::io::Result<()> {
        self.send_to(&[to], subject)
    }

    /// Sends one message to several recipients, each of which has to be taken.
    pub fn send_to(&mut self, recipients: &[&str], subject: &str) -> std::io::Result<()> {
        self.say("MAIL FROM:<samt@example.net>")?;
        for to in recipients {
            self.stream.get_mut().write_all(format!("RCPT TO:<{to}>\r\n").as_bytes())?;
            self.expect(250)?;
        }
        let to = recipients.join(", ");
        self.stream.get_mut().write_all(b"DATA\r\n")?;
        self.expect(354)?;
        let message = format!(
            "From: samt@example.net\r\nTo: {to}\r\nSubject: {subject}\r\n\r\nHopefully you are all virtually OK.\r\n.\r\n"
        );
        self.stream.get_mut().write_all(message.as_bytes())?;
        self.expect(250).map(|_| ())
    }
}
