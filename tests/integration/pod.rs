//! The Postfix pod on the real node: what it may do, what it takes without a restart, and what it says of itself.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::node::{
    LIMIT, Pod, Server, apply, apply_all, await_true, field, install, kubectl, manifest, must, our_address,
    ready, send_to,
};
use crate::smtp::Session;

const SOLO: Server = Server("solo");
const POD: Pod = Pod { server: "solo", number: 0 };
const TO: &str = "sam@solo.example.org";

/// From `kubectl` to a running Postfix.
const SOON: Duration = Duration::from_secs(5);

/// `AUTH PLAIN` of relayuser with relaypass.
const ACCOUNT: &str = "AHJlbGF5dXNlcgByZWxheXBhc3M=";

/// Postfix's needs, as bits of capabilities(7): `CHOWN` 0, `DAC_OVERRIDE` 1, `FOWNER` 3, `SETGID` 6, `SETUID` 7,
/// `NET_BIND_SERVICE` 10.
const CAPABILITIES: u64 = 1 | 1 << 1 | 1 << 3 | 1 << 6 | 1 << 7 | 1 << 10;

fn greeting() -> String {
    let mut line = String::new();
    if let Ok(stream) = TcpStream::connect(POD.address()) {
        let mut stream = BufReader::new(stream);
        let _ = stream.read_line(&mut line);
        let _ = stream.get_mut().write_all(b"QUIT\r\n");
        let _ = stream.read_line(&mut String::new());
    }
    line
}

#[test]
fn one_pod_takes_what_changes_and_may_do_no_more_than_it_needs() {
    install();
    apply_all(&[
        manifest("MailServer", "solo", "hostname: solo.example.org, lookupTables: lmdb"),
        manifest("MailDomain", "solo", "serverRef: {name: solo}, domain: solo.example.org"),
        manifest("Mailbox", "sam", "address: sam@solo.example.org"),
        manifest(
            "MailAlias",
            "sam-away",
            "address: away@solo.example.org, goto: [sam@elsewhere.example.net]",
        ),
    ]);
    SOLO.await_ready();
    await_true(LIMIT, "the mailbox is accepted", || {
        Session::open(&POD.address())
            .and_then(|mut session| session.recipient(TO))
            .is_ok_and(|reply| reply.code == 250)
    });
    the_pod_has_the_capabilities_that_are_named_and_no_more();
    a_change_reaches_postfix_and_an_open_session_goes_on();
    metrics_tell_of_mail();
    a_certificate_is_shown_and_its_renewal_too();
    mail_for_others_goes_to_the_relay_host_with_the_account();
}

fn the_pod_has_the_capabilities_that_are_named_and_no_more() {
    let status = POD.run("cat /proc/1/status");
    let value = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().to_owned()
    };
    for set in ["CapPrm:", "CapEff:", "CapBnd:"] {
        assert_eq!(u64::from_str_radix(&value(set), 16).unwrap(), CAPABILITIES, "{set}");
    }
    assert_eq!((value("NoNewPrivs:").as_str(), value("Seccomp:").as_str()), ("1", "2"));
    let token = "test -e /var/run/secrets/kubernetes.io && echo there || echo absent";
    assert_eq!(POD.run(token).trim(), "absent");
    assert!(POD.run("touch /etc/x 2>&1").contains("Read-only file system"));
    // The namespace refuses what is not of this level.
    assert_eq!(
        field("namespace/mail", ".metadata.labels.pod-security\\.kubernetes\\.io/enforce"),
        "baseline"
    );
}

/// Which pod it is, and how often its container was restarted.
fn generation() -> String {
    [".metadata.uid", ".status.containerStatuses[0].restartCount"].map(|path| POD.field(path)).join(" ")
}

fn a_change_reaches_postfix_and_an_open_session_goes_on() {
    let pod = generation();
    let mut open = Session::open(&POD.address()).unwrap();
    SOLO.patch("{\"postfix\":{\"banner\":\"ESMTP Changed\"}}");
    let took = await_true(LIMIT, "the banner is the new one", || {
        greeting().contains("solo.example.org ESMTP Changed")
    });
    assert!(took < SOON, "only after {took:?}");
    open.send(TO, "in-an-open-session").unwrap();
    POD.await_delivered("in-an-open-session");
    assert_eq!(generation(), pod, "nothing was restarted");
}

/// A counter's value, 0 before it counted anything.
fn metric(name: &str) -> u64 {
    POD.metrics().lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok()).unwrap_or(0)
}

fn metrics_tell_of_mail() {
    let delivered = "vmail_postfix_deliveries_total{outcome=\"delivered\"}";
    let unknown = "vmail_postfix_rejected_total{reason=\"unknown_recipient\"}";
    let denied = "vmail_postfix_rejected_total{reason=\"relay_denied\"}";
    let before = [delivered, unknown, denied].map(metric);
    let mut session = Session::open(&POD.address()).unwrap();
    session.send(TO, "counted").unwrap();
    assert_eq!(session.recipient("nobody@solo.example.org").unwrap().code, 550);
    assert_eq!(session.recipient("someone@elsewhere.example.net").unwrap().code, 554);
    await_true(LIMIT, "one more of each", || {
        [delivered, unknown, denied].map(metric) == before.map(|count| count + 1)
    });
    assert!(metric("vmail_postfix_map_size_bytes{map=\"mailbox_maps.lmdb\"}") > 0);
    assert!(metric("vmail_postfix_smtp_probe_seconds_count") > 0);
    let text = POD.metrics();
    assert!(!text.contains("sam@") && !text.contains("elsewhere"), "{text}");
}

fn fixture(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/integration/fixtures/tls")
        .join(name)
        .display()
        .to_string()
}

/// Makes the Secret anew; the kubelet looks at it when the pod changes.
fn certificate(name: &str) {
    let (crt, key) = (fixture(&format!("{name}.crt")), fixture(&format!("{name}.key")));
    let rendered = must(
        &kubectl(&[
            "create",
            "secret",
            "tls",
            "solo-tls",
            "--cert",
            &crt,
            "--key",
            &key,
            "--dry-run=client",
            "-o",
            "json",
        ]),
        "kubectl create secret",
    );
    apply(&rendered);
    kubectl(&["annotate", "pod", &POD.name(), "--overwrite", &format!("example.org/look={name}")]);
}

fn shown() -> String {
    POD.run("posttls-finger -c -t5 '[127.0.0.1]:25' 2>&1")
}

fn a_certificate_is_shown_and_its_renewal_too() {
    certificate("first");
    SOLO.patch("{\"postfix\":{\"tls\":{\"secretName\":\"solo-tls\"}}}");
    await_true(LIMIT, "STARTTLS with the certificate", || shown().contains("first.example.org"));
    let pod = generation();
    certificate("renewed");
    await_true(LIMIT, "STARTTLS with the renewed one", || shown().contains("renewed.example.org"));
    assert_eq!(generation(), pod, "nothing was restarted");
}

fn mail_for_others_goes_to_the_relay_host_with_the_account() {
    let (relay, taken) = Relay::start();
    SOLO.patch(&format!(
        "{{\"postfix\":{{\"relayHost\":{{\"host\":\"{}\",\"port\":{relay},\"credentialsSecretRef\":{{\"name\":\"solo-relay\"}}}}}}}}",
        our_address(POD)
    ));
    await_true(LIMIT, "Postfix without the account", || {
        POD.postconf("relayhost").contains(&relay.to_string())
            && POD.postconf("smtp_sasl_password_maps").contains("fail:")
    });
    must(
        &kubectl(&[
            "create",
            "secret",
            "generic",
            "solo-relay",
            "--from-literal=username=relayuser",
            "--from-literal=password=relaypass",
        ]),
        "kubectl create secret",
    );
    await_true(LIMIT, "MailServer solo Ready, with the account", || {
        POD.postconf("smtp_sasl_password_maps").contains("sasl_passwd") && ready(&SOLO.object())
    });
    send_to(|| POD.address(), "away@solo.example.org", "passed-on");
    let message = taken.recv_timeout(LIMIT).expect("the relay host gets the message");
    assert!(
        message.contains("RCPT TO:<sam@elsewhere.example.net>") && message.contains("Subject: passed-on"),
        "{message}"
    );
}

/// A mail server that asks for TLS and for the account, and takes one message.
struct Relay;

impl Relay {
    /// Its port, and what its client says once it has sent a message.
    fn start() -> (u16, mpsc::Receiver<String>) {
        let listener = TcpListener::bind("0.0.0.0:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (sender, taken) = mpsc::channel();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A client that gives up is followed by another.
                if let Ok(Some(dialogue)) = Self::serve(stream) {
                    let _ = sender.send(dialogue);
                }
            }
        });
        (port, taken)
    }

    fn tls() -> Arc<ServerConfig> {
        let chain = CertificateDer::pem_file_iter(fixture("first.crt"))
            .unwrap()
            .collect::<Result<Vec<_>, _>>()
            .unwrap();
        let key = PrivateKeyDer::from_pem_file(fixture("first.key")).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder =
            ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        Arc::new(builder.with_no_client_auth().with_single_cert(chain, key).unwrap())
    }

    fn serve(stream: TcpStream) -> std::io::Result<Option<String>> {
        stream.set_read_timeout(Some(LIMIT))?;
        let mut plain = BufReader::new(stream);
        plain.get_mut().write_all(b"220 relay ESMTP\r\n")?;
        let mut line = String::new();
        while !line.starts_with("STARTTLS") {
            line.clear();
            if plain.read_line(&mut line)? == 0 {
                return Ok(None);
            }
            assert!(!line.starts_with("AUTH"), "no password without TLS");
            let reply: &[u8] =
                if line.starts_with("EHLO") { b"250-relay\r\n250 STARTTLS\r\n" } else { b"220 go\r\n" };
            plain.get_mut().write_all(reply)?;
        }
        let connection = ServerConnection::new(Self::tls()).map_err(std::io::Error::other)?;
        Self::converse(BufReader::new(StreamOwned::new(connection, plain.into_inner())))
    }

    fn converse(
        mut tls: BufReader<StreamOwned<ServerConnection, TcpStream>>,
    ) -> std::io::Result<Option<String>> {
        let (mut said, mut is_known, mut in_message) = (String::new(), false, false);
        loop {
            let mut line = String::new();
            if tls.read_line(&mut line)? == 0 {
                return Ok(None);
            }
            said.push_str(&line);
            let reply = match line.trim_end() {
                "." if in_message => {
                    tls.get_mut().write_all(b"250 taken\r\n")?;
                    return Ok(Some(said));
                }
                _ if in_message => continue,
                text if text.starts_with("EHLO") => "250-relay\r\n250 AUTH PLAIN\r\n",
                text if text.starts_with("AUTH PLAIN") => {
                    is_known = text.ends_with(ACCOUNT);
                    if is_known { "235 welcome\r\n" } else { "535 who?\r\n" }
                }
                "DATA" => {
                    in_message = true;
                    "354 go\r\n"
                }
                _ if is_known => "250 ok\r\n",
                _ => "530 authenticate\r\n",
            };
            tls.get_mut().write_all(reply.as_bytes())?;
        }
    }
}
