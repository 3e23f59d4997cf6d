//! `kubectl vmail` as people run it, against the seed's mail system on the real node.
//!
//! One test, for one mail system: it breaks things and mends them again.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use tempfile::TempDir;

use crate::node::{Pod, await_ready, await_true, install, kubectl, must, tool};

/// A directory with the plugin in it, under the name that kubectl looks for.
pub struct Plugin(TempDir);

impl Plugin {
    pub fn install() -> Self {
        let directory = TempDir::new().unwrap();
        symlink(env!("CARGO_BIN_EXE_vmail-operator"), directory.path().join("kubectl-vmail")).unwrap();
        Self(directory)
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::join_paths(
            std::iter::once(self.0.path().to_owned()).chain(std::env::split_paths(&path)),
        );
        let mut kubectl = tool("kubectl");
        kubectl.env("PATH", path.unwrap()).arg("vmail").args(arguments);
        kubectl.output().unwrap()
    }

    /// Exit code and everything that was said.
    pub fn ask(&self, arguments: &[&str]) -> (i32, String) {
        let Output { status, stdout, stderr } = self.run(arguments);
        let said = String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned();
        (status.code().unwrap(), said)
    }

    fn check(&self) -> (i32, String) {
        self.ask(&["check", "myhost", "-n", "mail"])
    }
}

#[test]
fn explain_and_check_tell_what_the_mail_system_does() {
    install();
    await_ready("mailserver/myhost");
    let plugin = Plugin::install();
    every_way_of_the_seed_is_explained(&plugin);
    a_user_of_one_namespace_is_told_what_he_does_not_see(&plugin);
    what_can_not_be_answered_has_a_code_of_its_own(&plugin);
    a_healthy_server_is_green(&plugin);
    no_password_gets_into_the_log();
    what_is_broken_is_named(&plugin);
}

fn every_way_of_the_seed_is_explained(plugin: &Plugin) {
    for (address, code, words) in [
        (
            "Bob@Alpha.example.org",
            0,
            &["delivered to bob@alpha.example.org, in /var/vmail/alpha.example.org/bob/", "owner 901:901"][..],
        ),
        (
            "hello@alpha.example.org",
            0,
            &[
                "hello@alpha.example.org -> info@alpha.example.org",
                "MailAlias mail/info: Synced",
                "in /var/vmail/alpha.example.org/alfred/",
            ],
        ),
        ("whoever@gamma.example.org", 0, &["catch-all:", "in /var/vmail/gamma.example.org/ben/"]),
        ("nobody@alpha.example.org", 1, &["refused with 550 5.1.1 <nobody@alpha.example.org>"]),
        ("someone@elsewhere.example.net", 1, &["refused with 554 5.7.1"]),
    ] {
        let mut said = String::new();
        // While the server of another test holds deletions back, nobody can tell about a domain that nothing declares.
        await_true(Duration::from_mins(1), &format!("explain {address} ends with {code}"), || {
            let exit;
            (exit, said) = plugin.ask(&["explain", address, "-n", "mail"]);
            exit == code
        });
        for words in words {
            assert!(said.contains(words), "{words:?} is not in\n{said}");
        }
    }
    let output = plugin.run(&["explain", "bob@alpha.example.org", "-n", "mail", "-o", "json"]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["verdict"]["destinations"][0]["way"], "Delivered");
}

/// A kubeconfig of a user who may read mail objects in the namespace mail and nothing else.
fn tenant(directory: &Path) -> PathBuf {
    for arguments in [
        "create serviceaccount tenant",
        "create role tenant --verb=get,list --resource=mailservers.vmail.dev,maildomains.vmail.dev,mailboxes.vmail.dev,mailaliases.vmail.dev",
        "create rolebinding tenant --role=tenant --serviceaccount=mail:tenant",
    ] {
        let made = kubectl(&arguments.split(' ').collect::<Vec<_>>());
        let there = String::from_utf8_lossy(&made.stderr).contains("already exists");
        assert!(there || made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }
    let token = must(&kubectl(&["create", "token", "tenant"]), "kubectl create token");
    let path = directory.join("tenant.kubeconfig");
    std::fs::copy(std::env::var("KUBECONFIG").unwrap(), &path).unwrap();
    let config = |arguments: &[&str]| {
        must(
            &tool("kubectl").arg("--kubeconfig").arg(&path).arg("config").args(arguments).output().unwrap(),
            "kubectl config",
        );
    };
    config(&["set-credentials", "tenant", "--token", token.trim()]);
    config(&["set-context", "--current", "--user=tenant", "--namespace=mail"]);
    path
}

fn a_user_of_one_namespace_is_told_what_he_does_not_see(plugin: &Plugin) {
    let directory = TempDir::new().unwrap();
    let kubeconfig = tenant(directory.path());
    let kubeconfig = kubeconfig.to_str().unwrap();
    let (code, said) = plugin.ask(&["explain", "bob@alpha.example.org", "--kubeconfig", kubeconfig]);
    assert_eq!(code, 3, "{said}");
    assert!(said.contains("you may list maildomains in the namespace mail only"), "{said}");
    assert!(said.contains("delivered to bob@alpha.example.org"), "{said}");
    let (code, said) =
        plugin.ask(&["explain", "bob@alpha.example.org", "--kubeconfig", kubeconfig, "-n", "mail"]);
    assert_eq!(code, 0, "{said}");
    let (code, said) = plugin.ask(&["check", "myhost", "--kubeconfig", kubeconfig, "-n", "mail"]);
    assert_eq!(code, 3, "{said}");
    assert!(said.contains("reading ConfigMap myhost-postfix"), "{said}");
}

fn what_can_not_be_answered_has_a_code_of_its_own(plugin: &Plugin) {
    assert_eq!(plugin.ask(&["explain", "not-an-address"]).0, 2);
    assert_eq!(plugin.ask(&["explain"]).0, 2);
    assert_eq!(plugin.ask(&["explain", "bob@alpha.example.org", "--context", "nowhere"]).0, 3);
    let (code, said) = plugin.ask(&["check", "elsewhere", "-n", "mail"]);
    assert_eq!(code, 3, "{said}");
    assert!(said.contains("there is no MailServer mail/elsewhere"), "{said}");
}

/// Checks until `is_right` says so of the exit code and what was said: a busy node may miss a few of the kubelet's
/// probes, and then the pod is not ready for a moment.
fn await_check(plugin: &Plugin, what: &str, is_right: impl Fn(i32, &str) -> bool) -> String {
    let mut last = String::new();
    await_true(Duration::from_mins(1), what, || {
        let (code, said) = plugin.check();
        let right = is_right(code, &said);
        if !right {
            eprintln!("{said}");
        }
        last = said;
        right
    });
    last
}

fn failures(said: &str) -> Vec<&str> {
    said.lines().filter(|line| line.starts_with("FAILED")).collect()
}

fn a_healthy_server_is_green(plugin: &Plugin) {
    let said =
        await_check(plugin, "a check without failures", |code, said| code == 0 && failures(said).is_empty());
    for name in ["status", "postconf", "queries", "look-up", "query log", "smtp", "mail store", "free space"]
    {
        assert!(
            said.lines().any(|line| line.starts_with("ok ") && line.contains(name)),
            "no {name} in\n{said}"
        );
    }
}

/// The checks make Postfix's programs say more than they do otherwise.
fn no_password_gets_into_the_log() {
    let pod = Pod { server: "myhost", number: 0 };
    let password = pod.run("sed -n 's/^password = //p' /run/vmail/postfix/mailbox_maps.cf");
    assert!(password.trim().len() > 8, "no password in mailbox_maps.cf");
    assert!(!pod.log().contains(password.trim()), "the password of the database is in the pod's log");
}

fn in_pod(command: &[&str]) {
    let exec = [&["exec", "myhost-postfix-0", "-c", "postfix", "--"], command].concat();
    must(&kubectl(&exec), "kubectl exec");
}

/// Exactly one line is FAILED, the one of `name`, and it has `words`.
fn assert_only_failure(plugin: &Plugin, name: &str, words: &str) {
    await_check(plugin, &format!("{name} as the only failure"), |code, said| {
        let failures = failures(said);
        code == 1 && failures.len() == 1 && failures[0].contains(name) && failures[0].contains(words)
    });
}

fn what_is_broken_is_named(plugin: &Plugin) {
    in_pod(&["chown", "0:0", "/var/vmail"]);
    assert_only_failure(plugin, "mail store", "/var/vmail belongs to 0:0");
    in_pod(&["chown", "901:901", "/var/vmail"]);

    in_pod(&["postconf", "-c", "/run/vmail/postfix", "-e", "disable_vrfy_command=no"]);
    assert_only_failure(plugin, "postconf", "disable_vrfy_command is \"no\" and should be \"yes\"");
    in_pod(&["postconf", "-c", "/run/vmail/postfix", "-e", "disable_vrfy_command=yes"]);

    let query = "s/^query = .*/query = SELECT 'x' FROM mailbox WHERE username = '%s'/";
    in_pod(&["cp", "-p", "/run/vmail/postfix/mailbox_maps.cf", "/run/vmail/kept"]);
    in_pod(&["sed", "-i", query, "/run/vmail/postfix/mailbox_maps.cf"]);
    await_check(plugin, "a failure of mailbox_maps.cf", |code, said| {
        code == 1 && failures(said).iter().any(|line| line.contains("mailbox_maps.cf"))
    });
    in_pod(&["mv", "/run/vmail/kept", "/run/vmail/postfix/mailbox_maps.cf"]);
    // A proxymap(8) that has opened the broken file keeps it.
    in_pod(&["sh", "-c", "kill -HUP $(cat /var/spool/postfix/pid/master.pid)"]);
    a_healthy_server_is_green(plugin);
}
