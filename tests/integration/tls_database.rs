//! Postfix on a database outside of the cluster that it reaches by TLS, on the real node: the certificate has to name the host.

use std::time::Duration;

use crate::mariadb::MariaDb;
use crate::node::{
    LIMIT, NAMESPACE, Server, apply, apply_all, await_true, condition, install, kubectl, manifest, must,
    our_address,
};
use crate::smtp::Session;

const VAULT: Server = Server("vault");
const TO: &str = "vera@vault.example.org";

/// Both lead to the same database, whose certificate is for the first.
const RIGHT: &str = "vault-right";
const WRONG: &str = "vault-wrong";

/// A Service that leads out of the cluster.
fn service(name: &str, address: &str, port: u16) -> String {
    format!(
        "---\n{{apiVersion: v1, kind: Service, metadata: {{name: {name}, namespace: {NAMESPACE}}}, spec: {{ports: [{{port: 3306}}]}}}}\n\
         ---\n{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {{name: {name}-outside, namespace: {NAMESPACE}, \
         labels: {{kubernetes.io/service-name: {name}}}}}, addressType: IPv4, ports: [{{port: {port}}}], endpoints: [{{addresses: [{address}]}}]}}\n"
    )
}

fn secret(name: &str, entries: &[&str]) {
    let create = ["create", "secret", "generic", name, "--dry-run=client", "-o", "json"];
    apply(&must(&kubectl(&[&create, entries].concat()), "kubectl create secret"));
}

fn host(name: &str) -> String {
    format!("{name}.{NAMESPACE}.svc")
}

/// The answer to a recipient; 0: there was none.
fn code() -> u16 {
    let reply = Session::open(&VAULT.pod().address()).and_then(|mut session| session.recipient(TO));
    reply.map_or(0, |reply| reply.code)
}

#[tokio::test]
async fn a_certificate_for_another_host_is_not_taken_and_the_right_one_is() {
    install();
    let mariadb = MariaDb::start_for_pods(&host(RIGHT));
    let access = mariadb.database("vault").await;
    // Of an external database the administrator grants what Postfix may read.
    let grant = "GRANT SELECT ON vault.* TO vault_reader@'%'";
    sqlx::raw_sql(grant).execute(&mut mariadb.root(None).await).await.unwrap();
    let ours = our_address(Server("myhost").pod()).to_string();
    apply_all(&[RIGHT, WRONG].map(|name| service(name, &ours, access.port)));
    let authority = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(authority.path(), mariadb.authority()).unwrap();
    secret("vault-ca", &[&format!("--from-file=ca.crt={}", authority.path().display())]);
    for (name, password) in [("writer", "writes"), ("reader", "reads")] {
        let entries =
            [format!("--from-literal=username=vault_{name}"), format!("--from-literal=password={password}")];
        secret(&format!("vault-{name}"), &entries.each_ref().map(String::as_str));
    }
    let database = format!(
        "{{external: {{host: {}, name: vault, tls: {{caSecretRef: {{name: vault-ca, key: ca.crt}}}}, \
         writerSecretRef: {{name: vault-writer}}, readerSecretRef: {{name: vault-reader}}}}}}",
        host(WRONG)
    );
    apply_all(&[
        manifest(
            "MailServer",
            "vault",
            &format!("hostname: vault.example.org, lookupTables: mysql, database: {database}"),
        ),
        manifest("MailDomain", "vault", "serverRef: {name: vault}, domain: vault.example.org"),
        manifest("Mailbox", "vera", &format!("address: {TO}")),
    ]);
    the_wrong_name_is_refused_by_the_operator_and_by_postfix();
    VAULT.patch(&format!("{{\"database\":{{\"external\":{{\"host\":\"{}\"}}}}}}", host(RIGHT)));
    VAULT.await_ready();
    await_true(LIMIT, "the address is accepted", || code() == 250);
    VAULT.send(TO, "by-tls");
    VAULT.pod().await_delivered("by-tls");
    only_the_name_makes_the_difference();
    must(&kubectl(&["delete", "mailserver/vault", "--wait=false"]), "kubectl delete");
}

fn is_about_the_certificate(text: &str) -> bool {
    text.contains("SSL") || text.contains("certificate")
}

fn the_wrong_name_is_refused_by_the_operator_and_by_postfix() {
    await_true(LIMIT, "the operator doesn't connect", || {
        condition(&VAULT.object(), "DatabaseReady", "reason") == "DatabaseUnavailable"
    });
    await_true(LIMIT, "mail is put off", || code() == 451);
    let complaint = format!("connect to mysql server {}", host(WRONG));
    await_true(Duration::from_secs(30), "Postfix says that it is the certificate", || {
        let log = VAULT.pod().log();
        log.lines().any(|line| line.contains(&complaint) && is_about_the_certificate(line))
    });
}

/// The same query with the same account, by either name.
fn only_the_name_makes_the_difference() {
    let ask = |name: &str| {
        let script = format!(
            "sed 's/{RIGHT}/{name}/g' /run/vmail/postfix/mailbox_maps.cf >/run/vmail/asked.cf && \
             postmap -c /run/vmail/postfix -q {TO} mysql:/run/vmail/asked.cf 2>&1; rm -f /run/vmail/asked.cf"
        );
        VAULT.pod().run(&script)
    };
    let maildir = "vault.example.org/vera/";
    let right = ask(RIGHT);
    assert_eq!(right.trim(), maildir);
    let wrong = ask(WRONG);
    assert!(!wrong.contains(maildir) && is_about_the_certificate(&wrong), "{wrong}");
}
