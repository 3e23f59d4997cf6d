//! The real node: kubectl and helm as people run them, the operator from its chart, and mail servers by name.

use std::io::{Read, Write};
use std::net::{IpAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::smtp::Session;

pub const NAMESPACE: &str = "mail";

/// How long anything may take.
pub const LIMIT: Duration = Duration::from_mins(3);

pub fn tool(name: &str) -> Command {
    let directory = std::env::var("VMAIL_BIN_DIR").expect("VMAIL_BIN_DIR is not set: `make test` sets it");
    let mut command = Command::new(Path::new(&directory).join(name));
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    command
}

pub fn kubectl(arguments: &[&str]) -> Output {
    tool("kubectl").args(["--request-timeout=60s", "-n", NAMESPACE]).args(arguments).output().unwrap()
}

/// What a command said; it must have succeeded.
pub fn must(output: &Output, what: &str) -> String {
    assert!(output.status.success(), "{what}: {}", String::from_utf8_lossy(&output.stderr));
    said(output)
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs a command on the cluster's node.
pub fn on_node(command: &[&str]) {
    let node = std::env::var("VMAIL_ON_NODE").expect("VMAIL_ON_NODE is not set: `make test` sets it");
    let mut words = node.split_whitespace();
    let output = Command::new(words.next().unwrap())
        .args(words)
        .args(command)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    must(&output, &command.join(" "));
}

/// A manifest of one of the project's kinds; `spec` is what stands between its braces.
pub fn manifest(kind: &str, name: &str, spec: &str) -> String {
    format!(
        "---\n{{apiVersion: vmail.dev/v1alpha1, kind: {kind}, metadata: {{name: {name}, namespace: {NAMESPACE}}}, spec: {{{spec}}}}}\n"
    )
}

pub fn apply(yaml: &str) {
    with_file(yaml, &["apply"]);
}

pub fn apply_all(manifests: &[String]) {
    apply(&manifests.concat());
}

/// Deletes what [`apply`] made: an object that another test finds without its server is never ready.
pub fn delete(yaml: &str) {
    with_file(yaml, &["delete", "--wait=false", "--ignore-not-found"]);
}

fn with_file(yaml: &str, verb: &[&str]) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), yaml).unwrap();
    must(&kubectl(&[verb, &["-f", file.path().to_str().unwrap()]].concat()), verb[0]);
}

/// Merges fields into an object's spec.
pub fn patch(object: &str, spec: &str) {
    let patch = format!("{{\"spec\":{spec}}}");
    must(&kubectl(&["patch", object, "--type=merge", "-p", &patch]), "kubectl patch");
}

/// A field of an object, by kubectl's `JSONPath`; empty where it is not there.
pub fn field(object: &str, path: &str) -> String {
    said(&kubectl(&["get", object, "-o", &format!("jsonpath={{{path}}}")]))
}

/// A part of a condition: its status, reason or message.
pub fn condition(object: &str, type_: &str, part: &str) -> String {
    field(object, &format!(".status.conditions[?(@.type==\"{type_}\")].{part}"))
}

pub fn ready(object: &str) -> bool {
    condition(object, "Ready", "status") == "True"
}

pub fn await_ready(object: &str) {
    await_true(LIMIT, &format!("{object} Ready"), || ready(object));
}

pub fn await_true(limit: Duration, what: &str, mut condition: impl FnMut() -> bool) -> Duration {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < limit, "not within {limit:?}: {what}\n{}", state());
        std::thread::sleep(Duration::from_millis(50));
    }
    started.elapsed()
}

/// What a reader of a failure wants to see.
fn state() -> String {
    let objects = "mailservers,maildomains,mailboxes,mailaliases,pods";
    let status = "jsonpath={range .items[*]}{.metadata.name} {.status}{\"\\n\"}{end}";
    let pods = said(&kubectl(&["get", "pods", "-l", "app.kubernetes.io/name=postfix", "-o", "name"]));
    let operator =
        tool("kubectl").args(["-n", "vmail-system", "logs", "deploy/vmail-operator", "--tail=40"]).output();
    [
        said(&kubectl(&["get", objects, "-o", "wide"])),
        said(&kubectl(&["get", "mailservers", "-o", status])),
        pods.lines().map(state_of).collect(),
        said(&operator.unwrap()),
    ]
    .join("\n")
}

/// What a Postfix pod complains of, and what is in its queue.
fn state_of(pod: &str) -> String {
    const COMPLAINTS: [&str; 6] = ["warning:", "fatal:", "error:", "status=deferred", "ERROR", "WARN"];
    let log = said(&kubectl(&["logs", pod, "-c", "postfix"]));
    let complaints: Vec<&str> =
        log.lines().filter(|line| COMPLAINTS.iter().any(|complaint| line.contains(complaint))).collect();
    let last = complaints[complaints.len().saturating_sub(40)..].join("\n");
    let queue = ["exec", pod, "-c", "postfix", "--", "postqueue", "-c", "/run/vmail/postfix", "-j"];
    let queue: Vec<String> = said(&kubectl(&queue)).lines().take(10).map(str::to_owned).collect();
    format!("{pod}\n{last}\n{}\n", queue.join("\n"))
}

/// The operator and the seed's mail system, once for all tests of this process.
pub fn install() {
    static INSTALLED: OnceLock<()> = OnceLock::new();
    INSTALLED.get_or_init(install_now);
}

fn install_now() {
    // The operator's rights are in this namespace only, so it has to be there first.
    apply(
        "{apiVersion: v1, kind: Namespace, metadata: {name: mail, labels: {pod-security.kubernetes.io/enforce: baseline}}}",
    );
    let mut helm = tool("helm");
    helm.args([
        "upgrade",
        "--install",
        "vmail-operator",
        "charts/vmail-operator",
        "-n",
        "vmail-system",
        "--create-namespace",
    ]);
    // Other tests may have made the custom resource definitions before.
    helm.args(["--set", "watchNamespace=mail", "--take-ownership", "--wait", "--timeout=180s"]);
    for value in std::env::var("VMAIL_HELM_ARGUMENTS").unwrap_or_default().split_whitespace() {
        helm.arg(value);
    }
    must(&helm.output().unwrap(), "helm");
    must(&kubectl(&["apply", "-f", "deploy/samples/seed/"]), "kubectl apply -f deploy/samples/seed/");
    await_ready("mailserver/myhost");
    for kind in ["maildomain", "mailbox", "mailalias"] {
        must(&kubectl(&["wait", "--for=condition=Ready", kind, "--all", "--timeout=60s"]), kind);
    }
}

/// A Postfix pod.
#[derive(Clone, Copy)]
pub struct Pod {
    pub server: &'static str,
    pub number: usize,
}

impl Pod {
    pub fn name(self) -> String {
        format!("{}-postfix-{}", self.server, self.number)
    }

    pub fn field(self, path: &str) -> String {
        field(&format!("pod/{}", self.name()), path)
    }

    /// Where it takes mail itself, past the Service.
    pub fn address(self) -> String {
        format!("{}:25", self.field(".status.podIP"))
    }

    /// What a shell script says in the container postfix.
    pub fn run(self, script: &str) -> String {
        said(&kubectl(&["exec", &self.name(), "-c", "postfix", "--", "sh", "-c", script]))
    }

    /// A parameter of the Postfix that runs.
    pub fn postconf(self, parameter: &str) -> String {
        self.run(&format!("postconf -c /run/vmail/postfix -h {parameter}")).trim().to_owned()
    }

    /// Postfix's queue, a line of JSON for each message.
    pub fn queue(self) -> String {
        self.run("postqueue -c /run/vmail/postfix -j")
    }

    /// What Postfix and the agent logged since the container started.
    pub fn log(self) -> String {
        said(&kubectl(&["logs", &self.name(), "-c", "postfix"]))
    }

    /// Everything that the agent answers at `/metrics`; empty where it doesn't.
    pub fn metrics(self) -> String {
        let mut text = String::new();
        if let Ok(mut stream) = TcpStream::connect(self.address().replace(":25", ":8080")) {
            stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
            let _ = stream.read_to_string(&mut text);
        }
        text
    }

    /// Lines `owner:group path subject` of every message in maildirs below `base`.
    pub fn store(self, base: &str) -> Vec<String> {
        let script = format!(
            "cd {base} && find . -type f -path '*/new/*' -printf '%U:%G %P ' -exec sed -n 's/^Subject: //p;/^$/q' {{}} \\;"
        );
        self.run(&script).lines().map(str::to_owned).collect()
    }

    pub fn await_delivered(self, subject: &str) {
        await_true(LIMIT, &format!("{subject} in the mail store"), || {
            self.run(&format!("grep -rl '^Subject: {subject}$' /var/vmail")).contains("/new/")
        });
    }
}

/// A `MailServer`, as its senders see it and as its first pod does.
#[derive(Clone, Copy)]
pub struct Server(pub &'static str);

impl Server {
    pub fn object(self) -> String {
        format!("mailserver/{}", self.0)
    }

    pub fn pod(self) -> Pod {
        Pod { server: self.0, number: 0 }
    }

    pub fn await_ready(self) {
        await_ready(&self.object());
    }

    pub fn patch(self, spec: &str) {
        patch(&self.object(), spec);
    }

    /// The Service's address.
    pub fn address(self) -> String {
        format!("{}:25", field(&format!("service/{}-postfix", self.0), ".spec.clusterIP"))
    }

    pub fn session(self) -> std::io::Result<Session> {
        Session::open(&self.address())
    }

    /// The answer to a recipient; 0: there was none.
    pub fn code(self, to: &str) -> u16 {
        self.session().and_then(|mut session| session.recipient(to)).map_or(0, |reply| reply.code)
    }

    /// Sends again until the message is taken, as any mail server would; what is declared must not be refused.
    pub fn send(self, to: &str, subject: &str) {
        send_to(|| self.address(), to, subject);
    }

    /// Whether every replica runs the configuration that is wanted, and looks up in tables of this type.
    pub fn runs(self, type_: &str) -> bool {
        let wanted = field(&self.object(), ".status.configHash");
        self.pod().postconf("virtual_mailbox_domains").starts_with(&format!("{type_}:"))
            && !wanted.is_empty()
            && field(&self.object(), ".status.replicas[*].configHash") == wanted
            && ready(&self.object())
    }

    /// Has accounts looked up in tables of this type from now on.
    pub fn switch_to(self, type_: &str) {
        self.patch(&format!("{{\"lookupTables\":\"{type_}\"}}"));
        await_true(LIMIT, &format!("{} runs with {type_}", self.0), || self.runs(type_));
    }
}

/// [`Server::send`], to an address that may change meanwhile.
pub fn send_to(address: impl Fn() -> String, to: &str, subject: &str) {
    await_true(LIMIT, &format!("{subject} to {to} is taken"), || {
        match Session::open(&address()).and_then(|mut session| session.send(to, subject)) {
            Err(error) if error.to_string().starts_with('5') => panic!("{subject} to {to}: {error}"),
            result => result.is_ok(),
        }
    });
}

/// The address that this process has for a pod: as its client, and as a server that the pod connects to.
pub fn our_address(pod: Pod) -> IpAddr {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.connect(pod.address()).unwrap();
    socket.local_addr().unwrap().ip()
}
