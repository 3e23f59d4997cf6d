//! Whether a mail system works: the seed's verification against the live pod.
//!
//! This file asks; the rooms below judge the answers, without IO. Nothing is changed, and no mail is sent.

mod configuration;
mod lookups;
mod queries;
mod report;
mod smtp;
mod store;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};

use super::command::Error;
use super::declared::Declared;
use super::explain::explain;
use super::explanation::Outcome;
use super::list::declared;
use super::pod::PostfixPod;
use crate::api::{Address, MailServer, MailServerSpec};
use crate::index::rows::{Kind, ObjectId};
use crate::object::ObjectName;
use crate::postfix::{CONFIG_DIRECTORY, MAIN_CF, MASTER_CF, QUEUE_DIRECTORY};
use crate::server::build::names::{self, Component};
use crate::server::pods::is_ready;
use crate::server::validate::{MailStore, mail_store};

pub use report::{Check, Report};

/// Checks the `MailServer` called `name`.
///
/// # Errors
/// [`Error`] where the checks can't be run.
pub async fn check(client: &Client, name: &ObjectName) -> Result<Report, Error> {
    let server = mail_server(client, name).await?;
    let declared = declared(client, None, &name.namespace).await?;
    let rendered = rendered(client, name).await?;
    let checked = Checked {
        sample: sample(&declared, name),
        store: mail_store(server.spec.mail_store.clone().unwrap_or_default()),
        trusts_networks: trusts_networks(&server.spec),
        declared,
        rendered,
    };
    let mut report = Report { server: name.to_string(), checks: vec![checked.status(name)] };
    let pods = pods(client, name).await?;
    report.checks.extend(
        pods.is_empty().then(|| Check::failed("pod", "there is none: see `kubectl describe statefulset`")),
    );
    for (pod, ready) in pods {
        report.checks.extend(checked.pod(&pod, ready).await?);
    }
    Ok(report)
}

/// Whether any network may send to foreign domains.
fn trusts_networks(spec: &MailServerSpec) -> bool {
    let networks = spec.postfix.as_ref().and_then(|postfix| postfix.trusted_networks.as_ref());
    networks.is_some_and(|networks| !networks.is_empty())
}

async fn mail_server(client: &Client, name: &ObjectName) -> Result<MailServer, Error> {
    let api: Api<MailServer> = Api::namespaced(client.clone(), &name.namespace);
    let server = api.get_opt(&name.name).await.map_err(Error::api(format!("reading MailServer {name}")))?;
    server.ok_or_else(|| {
        Error::Missing(format!("there is no MailServer {name}: name another, or its namespace with -n"))
    })
}

/// The configuration as the operator rendered it.
async fn rendered(client: &Client, name: &ObjectName) -> Result<BTreeMap<String, String>, Error> {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), &name.namespace);
    let config_map = names::postfix(&name.name);
    let found =
        api.get_opt(&config_map).await.map_err(Error::api(format!("reading ConfigMap {config_map}")))?;
    found.and_then(|found| found.data).ok_or_else(|| {
        Error::Missing(format!(
            "there is no ConfigMap {config_map}: the operator has not rendered one, see the MailServer's conditions"
        ))
    })
}

/// The server's Postfix pods, and whether they are ready.
async fn pods(client: &Client, name: &ObjectName) -> Result<Vec<(PostfixPod, bool)>, Error> {
    let api: Api<Pod> = Api::namespaced(client.clone(), &name.namespace);
    let parameters = ListParams::default().labels(&Component::Postfix.selector(&name.name));
    let list = api.list(&parameters).await.map_err(Error::api("listing pods"))?;
    Ok(list
        .into_iter()
        .map(|pod| (PostfixPod::new(client, &name.namespace, pod.name_any()), is_ready(&pod)))
        .collect())
}

/// The first mailbox that is in place and whose mail arrives: what is asked about it has a known answer.
fn sample(declared: &Declared, server: &ObjectName) -> Option<Address> {
    let index = &declared.index;
    let mut names = index.names(Kind::Mailbox);
    names.sort_unstable();
    names
        .into_iter()
        .filter_map(|name| {
            let address = index.mailbox(&name)?.address.clone();
            let status = declared.status(&ObjectId { kind: Kind::Mailbox, name })?;
            (status.doubt().is_none() && index.server_of(address.domain()) == Some(server)).then_some(address)
        })
        .find(|address| {
            let verdict = explain(declared, address).verdict;
            let rows = declared.rows(server);
            verdict.outcome == Outcome::Accepted
                && rows.mailbox(address.as_str()).is_some()
                && rows.domain(address.domain()).is_some_and(|domain| !domain.row.backupmx)
        })
}

/// What the checks compare with.
struct Checked {
    declared: Declared,
    rendered: BTreeMap<String, String>,
    store: MailStore,
    trusts_networks: bool,
    sample: Option<Address>,
}

impl Checked {
    fn status(&self, name: &ObjectName) -> Check {
        match self.declared.server(name).and_then(|(_, status)| status.doubt()) {
            None => Check::ok("status", format!("MailServer {name} is Ready")),
            Some(doubt) => Check::failed("status", doubt),
        }
    }

    fn rendered(&self, file: &str) -> &str {
        self.rendered.get(file).map_or("", String::as_str)
    }

    async fn pod(&self, pod: &PostfixPod, ready: bool) -> Result<Vec<Check>, Error> {
        if !ready {
            let message =
                format!("it is not ready: see `kubectl describe pod {0}` and `kubectl logs {0}`", pod.name);
            return Ok(vec![Check::failed("pod", message).of(&pod.name)]);
        }
        let mut checks = vec![Check::ok("pod", "it is ready")];
        checks.extend(self.configuration(pod).await?);
        checks.extend(self.queries(pod).await?);
        checks.extend(self.lookups(pod).await?);
        checks.extend(self.smtp(pod).await?);
        checks.extend(self.mail_store(pod).await?);
        Ok(checks.into_iter().map(|check| check.of(&pod.name)).collect())
    }

    async fn configuration(&self, pod: &PostfixPod) -> Result<Vec<Check>, Error> {
        let main = pod.run(&["postconf", "-c", CONFIG_DIRECTORY, "-n"]).await?;
        let master = pod.run(&["cat", &format!("{CONFIG_DIRECTORY}/{MASTER_CF}")]).await?;
        let files = [(MAIN_CF, &main), (MASTER_CF, &master)];
        if let Some((file, said)) = files.into_iter().find(|(_, said)| said.code != 0) {
            return Ok(vec![Check::failed("postconf", format!("{file} can't be read: {}", said.stderr))]);
        }
        let (wanted, tls) = configuration::for_certificate(self.rendered(MAIN_CF), &main.stdout);
        let (wanted, account) = configuration::for_account(wanted, &main.stdout);
        let mut differences = configuration::differences(&wanted, &main.stdout);
        if self.rendered(MASTER_CF).trim_end() != master.stdout {
            differences.push(format!("{MASTER_CF} is not as rendered"));
        }
        Ok([configuration::judge(&wanted, &differences)].into_iter().chain(tls).chain(account).collect())
    }

    /// The queries that Postfix was given.
    async fn queries(&self, pod: &PostfixPod) -> Result<Option<Check>, Error> {
        let rendered = configuration::queries(&self.rendered);
        if rendered.is_empty() {
            return Ok(None);
        }
        let mut running = BTreeMap::new();
        for file in rendered.keys() {
            // Only this line: the file holds the password too.
            let said = pod.run(&["grep", "^query = ", &format!("{CONFIG_DIRECTORY}/{file}")]).await?;
            running.insert(*file, said.stdout);
        }
        Ok(Some(configuration::judge_queries(&rendered, &running)))
    }

    async fn lookups(&self, pod: &PostfixPod) -> Result<Vec<Check>, Error> {
        let Some(address) = &self.sample else {
            let message = "no mailbox is in place, so there is nothing to look up: declare one";
            return Ok(vec![Check::failed("look-ups", message)]);
        };
        let Some(server) = self.declared.index.server_of(address.domain()) else { return Ok(Vec::new()) };
        let rows = self.declared.rows(server);
        let command = [&["postconf", "-c", CONFIG_DIRECTORY, "-x"][..], &lookups::PARAMETERS].concat();
        let parameters = pod.run(&command).await?;
        let mut checks = Vec::new();
        let lookups = lookups::plan(&parameters.stdout, rows, address);
        for lookup in &lookups {
            let mut answers = Vec::new();
            for map in &lookup.maps {
                answers.push(pod.run(&["postmap", "-c", CONFIG_DIRECTORY, "-q", &lookup.key, map]).await?);
            }
            checks.push(lookup.judge(&answers));
        }
        // The seed reads the database's query log, which only its administrator can; postmap(1) tells the same of itself.
        for query in queries::plan(&configuration::queries(&self.rendered), &lookups) {
            let command = ["sh", "-c", queries::SCRIPT, CONFIG_DIRECTORY, &query.key, &query.map];
            checks.push(query.judge(&pod.run(&command).await?));
        }
        Ok(checks)
    }

    async fn smtp(&self, pod: &PostfixPod) -> Result<Vec<Check>, Error> {
        let questions = smtp::questions(&self.declared, self.sample.as_ref(), self.trusts_networks);
        let stream = pod.connect(25).await?;
        Ok(smtp::ask(stream, &questions).await)
    }

    async fn mail_store(&self, pod: &PostfixPod) -> Result<Vec<Check>, Error> {
        let path = self.store.path.as_str();
        let owner = pod.run(&["stat", "-c", "%u:%g", path]).await?;
        let mut checks = vec![store::judge_owner((self.store.uid, self.store.gid), path, &owner)];
        for volume in [path, QUEUE_DIRECTORY] {
            let bytes = pod.run(&["df", "-P", "-B1", volume]).await?;
            let inodes = pod.run(&["df", "-P", "-i", volume]).await?;
            checks.push(store::judge_space(volume, &bytes, &inodes));
        }
        checks.extend(self.mailbox_owner(pod).await?);
        Ok(checks)
    }

    /// The mailbox's directory, once it has had mail.
    async fn mailbox_owner(&self, pod: &PostfixPod) -> Result<Option<Check>, Error> {
        let Some(address) = &self.sample else { return Ok(None) };
        let Some(server) = self.declared.index.server_of(address.domain()) else { return Ok(None) };
        let rows = self.declared.rows(server);
        let Some(mailbox) = rows.mailbox(address.as_str()) else { return Ok(None) };
        let owner = rows.owner(&mailbox.row).unwrap_or((self.store.uid, self.store.gid));
        let path = format!("{}/{}", self.store.path, mailbox.row.maildir);
        let said = pod.run(&["stat", "-c", "%u:%g", &path]).await?;
        let is_there = said.code == 0;
        Ok(is_there.then(|| store::judge_owner(owner, &path, &said)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use serde_json::json;

    use super::*;
    use crate::plugin::pod::Said;
    use crate::plugin::rows::Rows;
    use crate::postfix::{self, DatabaseEndpoint, Needs};
    use crate::testing::{World, myhost};

    /// The lines about the configuration that a healthy seed gives.
    fn lines_of_the_seed() -> Vec<Check> {
        let spec = serde_json::from_value(json!({"hostname": "myhost.example.org"})).unwrap();
        let host = "myhost-database.mail.svc";
        let database = DatabaseEndpoint { host, port: 3306, name: "mail", tls: false, table_prefix: "" };
        // One domain has a catch-all.
        let needs = Needs { disabled: true, ..Needs::default() };
        let files = postfix::render(&myhost(), &spec, Some(&database), &needs).unwrap().files;
        let queries = configuration::queries(&files);
        let mut world = World::with_alpha();
        world.mailbox("mail", "alfred", 2, json!({"address": "alfred@alpha.example.org"}));
        let rows = Rows { index: &world.index, server: &myhost(), maildirs: &HashMap::new() };
        let address = Address::parse("alfred@alpha.example.org").unwrap();
        let main = files[MAIN_CF].replace("$config_directory", CONFIG_DIRECTORY);
        let answer = |parameter: &str| match parameter {
            "virtual_mailbox_domains" => Some("alpha.example.org"),
            "virtual_alias_maps" => Some("alfred@alpha.example.org"),
            "virtual_mailbox_maps" => Some("alpha.example.org/alfred/"),
            _ => None,
        };
        let said = |parameter: &str| {
            let found = answer(parameter);
            let stdout = found.unwrap_or_default().to_owned();
            Said { code: i32::from(found.is_none()), stdout, stderr: String::new() }
        };
        let lookups = lookups::plan(&main, rows, &address);
        let lookups = lookups.iter().map(|lookup| lookup.judge(&[said(lookup.parameter)]));
        [configuration::judge(&files[MAIN_CF], &[]), configuration::judge_queries(&queries, &queries)]
            .into_iter()
            .chain(lookups)
            .map(|check| check.of("myhost-postfix-0"))
            .collect()
    }

    #[test]
    fn an_empty_list_of_networks_trusts_none() {
        let trusts = |postfix: serde_json::Value| {
            let spec = json!({"hostname": "myhost.example.org", "postfix": postfix});
            trusts_networks(&serde_json::from_value(spec).unwrap())
        };
        assert!(!trusts(json!({})) && !trusts(json!({"trustedNetworks": []})));
        assert!(trusts(json!({"trustedNetworks": ["10.1.0.0/16"]})));
    }

    #[test]
    fn the_documentation_shows_the_lines_of_the_seed() {
        let checks = lines_of_the_seed();
        let names: Vec<&str> = checks.iter().map(|check| check.name.as_str()).collect();
        let said = Report { server: myhost().to_string(), checks: checks.clone() }.to_string();
        let shown: Vec<&str> = include_str!("../../docs/kubectl-vmail.md")
            .lines()
            .map(str::trim_start)
            .filter(|line| line.starts_with("ok "))
            .filter(|line| line.split_whitespace().nth(2).is_some_and(|name| names.contains(&name)))
            .collect();
        assert_eq!(shown, said.lines().collect::<Vec<_>>());
    }
}
