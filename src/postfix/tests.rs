use serde_json::{Value, json};

use super::*;

pub(super) mod hostile;

const DATABASE: DatabaseEndpoint<'_> = DatabaseEndpoint {
    host: "myhost-database.mail.svc",
    port: 3306,
    name: "mail",
    tls: false,
    table_prefix: "",
};

fn spec(value: Value) -> MailServerSpec {
    serde_json::from_value(value).unwrap()
}

fn rendered(value: Value, database: &DatabaseEndpoint<'_>) -> Result<RenderedConfig, Error> {
    render(&ObjectName::new("mail", "myhost"), &spec(value), Some(database), &Needs::default())
}

fn file(value: Value, name: &str) -> String {
    rendered(value, &DATABASE).unwrap().files[name].clone()
}

/// Lines of a file of parameters the way Postfix reads them: name and value.
fn parameters(text: &str) -> Vec<(&str, &str)> {
    let body = text.split_terminator('\n').skip_while(|line| line.starts_with('#'));
    body.map(|line| line.split_once(" =").map(|(name, value)| (name, value.trim())).expect(line)).collect()
}

#[test]
fn the_smallest_server() {
    let config = rendered(json!({"hostname": "myhost.example.org"}), &DATABASE).unwrap();
    assert_eq!(
        config.files.keys().collect::<Vec<_>>(),
        [
            "alias_domain_maps.cf",
            "alias_maps.cf",
            "disabled_maps.cf",
            "domains.digest",
            "domains_maps.cf",
            "mailbox_maps.cf",
            "main.cf",
            "master.cf",
            "mysql.cnf",
            "relay_domains_maps.cf",
            "transport_maps.cf"
        ]
    );
    insta::assert_snapshot!("main_cf", config.files[MAIN_CF]);
    insta::assert_snapshot!("master_cf", config.files[MASTER_CF]);
    insta::assert_snapshot!("domains_maps", config.files["domains_maps.cf"]);
    insta::assert_snapshot!("mailbox_maps", config.files["mailbox_maps.cf"]);
    insta::assert_snapshot!("alias_maps", config.files["alias_maps.cf"]);
    insta::assert_snapshot!("alias_domain_maps", config.files["alias_domain_maps.cf"]);
    insta::assert_snapshot!("relay_domains_maps", config.files["relay_domains_maps.cf"]);
    insta::assert_snapshot!("transport_maps", config.files["transport_maps.cf"]);
    insta::assert_snapshot!("disabled_maps", config.files["disabled_maps.cf"]);
    insta::assert_snapshot!("mysql", config.files["mysql.cnf"]);
}

#[test]
fn a_server_with_every_field() {
    let value = json!({
        "hostname": "mx1.example.org",
        "lookupTables": "mysql",
        "mailStore": {"path": "/srv/mail", "uid": 1001, "gid": 1002, "minimumUid": 1000},
        "postfix": {
            "trustedNetworks": ["10.1.2.3/16", "2001:db8::/32"],
            "messageSizeLimit": "50Mi",
            "relayHost": {"host": "smtp.example.net", "port": 587, "credentialsSecretRef": {"name": "relay"}},
            "tls": {"secretName": "mx1-tls"},
            "recipientDelimiter": "",
            "banner": "ESMTP Example",
            "parameters": {"biff": "yes", "mail_name": "mail #1 = \"ours\""},
        },
    });
    insta::assert_snapshot!("main_cf_with_every_field", file(value, MAIN_CF));
}

/// What is asked only where something is declared for it.
#[test]
fn a_server_with_every_look_up_in_the_database() {
    let needs = Needs {
        transports: true,
        disabled: true,
        owners: vec![MailOwner { path: "alpha.example.org/".to_owned(), uid: 950, gid: 951 }],
        ..Needs::default()
    };
    for tables in ["proxy:mysql", "mysql"] {
        let spec = spec(json!({"hostname": "myhost.example.org", "lookupTables": tables}));
        let config = render(&ObjectName::new("mail", "myhost"), &spec, Some(&DATABASE), &needs).unwrap();
        let plain =
            render(&ObjectName::new("mail", "myhost"), &spec, Some(&DATABASE), &Needs::default()).unwrap();
        let plain = parameters(&plain.files[MAIN_CF]);
        let more = parameters(&config.files[MAIN_CF]).into_iter().filter(|line| !plain.contains(line));
        let more: Vec<_> = more.map(|(name, value)| format!("{name} = {value}")).collect();
        insta::assert_snapshot!(format!("every_look_up_{}", tables.replace(':', "_")), more.join("\n"));
        assert_eq!(config.files[owners::FILE], "950 951 alpha.example.org/\n");
    }
}

#[test]
fn owners_are_looked_up_as_the_mailbox_is() {
    let value = json!({"hostname": "mx1.example.org", "mailStore": {"uid": 1001, "gid": 1002}});
    let needs = Needs {
        owners: vec![MailOwner { path: "alpha.example.org/".to_owned(), uid: 950, gid: 950 }],
        ..Needs::default()
    };
    let database = DatabaseEndpoint { table_prefix: "pfa_", ..DATABASE };
    let name = ObjectName::new("mail", "myhost");
    let config = render(&name, &spec(value), Some(&database), &needs).unwrap();
    insta::assert_snapshot!("main_cf_with_owners", config.files[MAIN_CF]);
    assert!(
        config.files[MASTER_CF].contains("\nvirtual   unix      - n n - 6 virtual -o max_use=1000\n"),
        "three connections each"
    );
    insta::assert_snapshot!("uid_maps", config.files["uid_maps.cf"]);
    insta::assert_snapshot!("gid_maps", config.files["gid_maps.cf"]);
}

#[test]
fn tls_to_the_database_checks_authority_and_name() {
    let database = DatabaseEndpoint { tls: true, ..DATABASE };
    let config = rendered(json!({"hostname": "myhost.example.org"}), &database).unwrap();
    insta::assert_snapshot!("alias_maps_with_tls", config.files["alias_maps.cf"]);
}

#[test]
fn with_look_up_files_nothing_names_a_database() {
    let spec = spec(json!({"hostname": "myhost.example.org", "lookupTables": "lmdb"}));
    let needs = Needs {
        domains: Vec::new(),
        transports: true,
        disabled: true,
        owners: vec![MailOwner { path: "alpha.example.org/".to_owned(), uid: 950, gid: 950 }],
        directories: Vec::new(),
    };
    let config = render(&ObjectName::new("mail", "myhost"), &spec, None, &needs).unwrap();
    assert_eq!(config.files.keys().collect::<Vec<_>>(), ["main.cf", "master.cf", "owners"]);
    let main = &config.files[MAIN_CF];
    assert_eq!(look_up_files(main), Some(LookupTables::Lmdb));
    assert!(!main.contains("mysql"));
    let tables = parameters(main).into_iter().filter(|(_, value)| value.contains("lmdb:"));
    let tables: Vec<_> = tables.map(|(name, value)| format!("{name} = {value}")).collect();
    insta::assert_snapshot!("look_up_files", tables.join("\n"));
    let database = rendered(json!({"hostname": "myhost.example.org"}), &DATABASE).unwrap();
    assert_eq!(look_up_files(&database.files[MAIN_CF]), None);
}

#[test]
fn every_type_of_look_up_files_is_told_from_the_others() {
    for type_ in [LookupTables::Hash, LookupTables::Lmdb, LookupTables::Cdb, LookupTables::Texthash] {
        let spec = spec(json!({"hostname": "myhost.example.org", "lookupTables": type_.as_str()}));
        let config = render(&ObjectName::new("mail", "myhost"), &spec, None, &Needs::default()).unwrap();
        assert_eq!(look_up_files(&config.files[MAIN_CF]), Some(type_));
    }
}

#[test]
fn directories_of_mbox_files_need_no_look_up_of_owners() {
    let directory = |path: &str, uid| MailOwner { path: path.to_owned(), uid, gid: 901 };
    let spec = spec(json!({"hostname": "myhost.example.org", "lookupTables": "lmdb"}));
    let needs = Needs {
        directories: vec![directory("alpha.org/", 901), directory("beta.org/", 901)],
        ..Needs::default()
    };
    let config = render(&ObjectName::new("mail", "myhost"), &spec, None, &needs).unwrap();
    assert_eq!(config.files[owners::FILE], "901 901 alpha.org/\n901 901 beta.org/\n");
    assert!(config.files[MAIN_CF].contains("virtual_uid_maps = static:901"));
    let needs = Needs { owners: vec![directory("beta.org/", 950)], ..needs };
    let config = render(&ObjectName::new("mail", "myhost"), &spec, None, &needs).unwrap();
    assert_eq!(config.files[owners::FILE], "901 901 alpha.org/\n950 901 beta.org/\n");
}

#[test]
fn the_probe_is_exempt_from_limits_on_clients() {
    let main = file(json!({"hostname": "myhost.example.org"}), MAIN_CF);
    assert!(main.contains(&format!("smtpd_client_event_limit_exceptions = $mynetworks, {PROBE_ADDRESS}\n")));
}

#[test]
fn a_parameter_of_the_user_is_written_once() {
    let value =
        json!({"hostname": "myhost.example.org", "postfix": {"parameters": {"notify_classes": "bounce"}}});
    let main = file(value, MAIN_CF);
    let values: Vec<_> =
        parameters(&main).into_iter().filter(|(name, _)| *name == "notify_classes").collect();
    assert_eq!(values, [("notify_classes", "bounce")]);
}

#[test]
fn the_hash_follows_names_and_texts() {
    let one = BTreeMap::from([("a".to_owned(), "bc".to_owned())]);
    let other = BTreeMap::from([("ab".to_owned(), "c".to_owned())]);
    assert_eq!(hash(&one), hash(&one.clone()));
    assert_ne!(hash(&one), hash(&other));
    assert_eq!(hash(&one).len(), 16);
}

#[test]
fn what_the_operator_owns_can_not_be_set() {
    for name in
        ["virtual_transport", "mydestination", "smtpd_relay_restrictions", "UPPER", "a b", "a=b", "-o", ""]
    {
        let value = json!({"hostname": "myhost.example.org", "postfix": {"parameters": {name: "x"}}});
        assert!(rendered(value, &DATABASE).is_err(), "{name}");
    }
}

#[test]
fn a_password_is_not_sent_without_tls() {
    let level = |level: &str| {
        let relay = json!({"host": "smtp.example.net", "credentialsSecretRef": {"name": "relay"}});
        let parameters = json!({"smtp_tls_security_level": level});
        let postfix = json!({"relayHost": relay, "parameters": parameters});
        rendered(json!({"hostname": "myhost.example.org", "postfix": postfix}), &DATABASE)
    };
    assert!(level("may").is_err() && level("none").is_err());
    assert!(level("secure").unwrap().files[MAIN_CF].contains("\nsmtp_tls_security_level = secure\n"));
}

#[test]
fn transports_are_looked_up_only_where_a_domain_has_one() {
    let spec = spec(json!({"hostname": "myhost.example.org"}));
    let main_cf = |transports| {
        let needs = Needs { transports, ..Needs::default() };
        render(&ObjectName::new("mail", "myhost"), &spec, Some(&DATABASE), &needs).unwrap().files[MAIN_CF]
            .clone()
    };
    assert!(!main_cf(false).contains("transport_maps"));
    assert!(main_cf(true).contains("transport_maps = proxy:mysql:$config_directory/transport_maps.cf\n"));
}

#[test]
fn disabled_mailboxes_are_looked_up_only_where_there_may_be_one() {
    let spec = spec(json!({"hostname": "myhost.example.org"}));
    let main_cf = |disabled| {
        let needs = Needs { disabled, ..Needs::default() };
        render(&ObjectName::new("mail", "myhost"), &spec, Some(&DATABASE), &needs).unwrap().files[MAIN_CF]
            .clone()
    };
    assert!(!main_cf(false).contains("disabled_maps"));
    let restriction = "smtpd_recipient_restrictions = check_recipient_access proxy:mysql:$config_directory/disabled_maps.cf\n";
    assert!(main_cf(true).contains(restriction));
}

#[test]
fn a_database_host_that_is_a_socket_is_refused() {
    for host in ["localhost", "LocalHost"] {
        let database = DatabaseEndpoint { host, ..DATABASE };
        let error = rendered(json!({"hostname": "myhost.example.org"}), &database).unwrap_err();
        assert_eq!(error.field, "database.external.host");
    }
    let database = DatabaseEndpoint { host: "localhost.example.org", ..DATABASE };
    assert!(rendered(json!({"hostname": "myhost.example.org"}), &database).is_ok());
}

#[test]
fn a_prefix_stands_before_the_name_of_every_table() {
    let database = DatabaseEndpoint { table_prefix: "pfa_", ..DATABASE };
    let needs = Needs {
        owners: vec![MailOwner { path: "alpha.example.org/".to_owned(), uid: 950, gid: 950 }],
        ..Needs::default()
    };
    let spec = spec(json!({"hostname": "myhost.example.org"}));
    let config = render(&ObjectName::new("mail", "myhost"), &spec, Some(&database), &needs).unwrap();
    for (file, text) in config.files.iter().filter(|(file, _)| file.ends_with("_maps.cf")) {
        let tables = text.split_whitespace().zip(text.split_whitespace().skip(1));
        let is_table =
            |(word, name): &(&str, &str)| ["FROM", "JOIN"].contains(word) && !name.starts_with('(');
        let named: Vec<_> = tables.filter(is_table).map(|(_, name)| name).collect();
        assert!(!named.is_empty() && named.iter().all(|name| name.starts_with("pfa_")), "{file}: {text}");
    }
}

/// The operator compares its hash with the one that an agent of another version reports: the two must not differ.
#[test]
fn the_hash_of_the_same_files_never_changes() {
    let files = BTreeMap::from([("main.cf".to_owned(), "myhostname = a.example.org\n".to_owned())]);
    assert_eq!(hash(&files), "8b612d410705bb19");
}
