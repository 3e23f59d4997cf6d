//! No value of a manifest adds a line, a parameter, a query or a path: generated values, one field at a time with all others
//! as they should be.
//!
//! For each field: what is good is rendered as one line with that value, and every other line and file is as before; what
//! Postfix would read as more than a value is refused, and the field is named.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::api::{Address, AliasAddress, DomainName};
use crate::index::rows::tests::server_row;
use crate::postfix::queries::credential_lines;
use crate::postfix::relay_host::password_table;

/// What an attacker would try, and anything else.
pub(in crate::postfix) fn hostile() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => prop::sample::select(vec![
            "\n", "\r\n", "\n ", "\n\t", "\0", "\u{b}", "\t", "$", "${mynetworks}", "$(id)", "#", "%", "%s", "%u@%d",
            "'", "\"", "`", "\\", "{", "}", "{{/^/ OK}}", ",", ";", " ", "=", "@", "+", "-", "-o", "/", "//", ".", "..",
            "../", "/..", "!", "[", "]", ":", "\u{2028}", "\u{85}", "\u{a0}", "é", "ß", "İ", "名",
            "mynetworks = 0.0.0.0/0", "query = SELECT 1", "hosts = evil.example.org", "' OR '1'='1", "; DROP TABLE mailbox; --",
            "/srv/mail", "10.0.0.0/8", "virtual", "smtp:[evil.example.org]", "pipe:flags=R", "localhost", "example.org",
        ]).prop_map(str::to_owned),
        2 => "[a-z0-9._-]{1,8}",
        1 => any::<String>(),
    ];
    vec(piece, 0..5).prop_map(|pieces| pieces.concat())
}

/// Whether Postfix would read more than a value.
fn is_more_than_a_value(value: &str) -> bool {
    value.contains(|c: char| c.is_control() || c == '$') || value.starts_with(['#', ' '])
}

const HOSTNAME: &str = "myhost.example.org";

/// A field of a `MailServer` and the line that it becomes.
struct Field {
    /// As errors name it.
    name: &'static str,
    parameter: &'static str,
    /// Texts that are good, as a regular expression.
    good: &'static str,
    spec: fn(&str) -> Value,
    written: fn(&str) -> String,
}

fn with_postfix(postfix: &Value) -> Value {
    json!({"hostname": HOSTNAME, "postfix": postfix})
}

const FIELDS: [Field; 6] = [
    Field {
        name: "hostname",
        parameter: "myhostname",
        good: "[a-z][a-z0-9]{0,9}(-[a-z0-9]{1,3})?[.][a-z]{2,9}",
        spec: |value| json!({"hostname": value}),
        written: str::to_lowercase,
    },
    Field {
        name: "postfix.banner",
        parameter: "smtpd_banner",
        good: "[!-\"%-~]([ -#%-~]{0,30}[!-#%-~])?",
        spec: |value| with_postfix(&json!({"banner": value})),
        written: |value| format!("{HOSTNAME} {value}"),
    },
    Field {
        name: "postfix.recipientDelimiter",
        parameter: "recipient_delimiter",
        good: "[+-]?",
        spec: |value| with_postfix(&json!({"recipientDelimiter": value})),
        written: str::to_owned,
    },
    Field {
        name: "postfix.relayHost.host",
        parameter: "relayhost",
        good: "([a-z0-9]([a-z0-9-]{0,9}[a-z0-9])?[.]){0,2}[a-z]([a-z0-9-]{0,9}[a-z0-9])?",
        spec: |value| with_postfix(&json!({"relayHost": {"host": value}})),
        written: |value| format!("[{value}]:25"),
    },
    Field {
        name: "postfix.trustedNetworks",
        parameter: "mynetworks",
        good: "10[.](0|[1-9][0-9]?)[.](0|[1-9][0-9]?)[.]0/24",
        spec: |value| with_postfix(&json!({"trustedNetworks": [value]})),
        written: |value| value.to_owned(),
    },
    Field {
        name: "mailStore.path",
        parameter: "virtual_mailbox_base",
        good: "/srv(/[A-Za-z0-9_-][A-Za-z0-9._-]{0,9}){1,2}",
        spec: |value| json!({"hostname": HOSTNAME, "mailStore": {"path": value}}),
        written: str::to_owned,
    },
];

impl Field {
    /// What a value of the field makes of the configuration; `Err`: the name of the field that is refused.
    fn render(&self, value: &str) -> Result<RenderedConfig, String> {
        let spec = serde_json::from_value((self.spec)(value)).map_err(|_| self.name.to_owned())?;
        let config = render(&ObjectName::new("mail", "myhost"), &spec, Some(&DATABASE), &Needs::default());
        config.map_err(|error| error.field)
    }

    fn is_one_line_or_refused(&self, value: &str) -> Result<(), TestCaseError> {
        match self.render(value) {
            Ok(config) => {
                let written = (self.written)(value);
                prop_assert!(!is_more_than_a_value(&written), "{}: {value:?} is taken", self.name);
                one_line_more(&config, MAIN_CF, self.parameter, &written)
            }
            Err(field) => {
                prop_assert_eq!(&field, self.name, "{:?}", value);
                Ok(())
            }
        }
    }
}

/// Beside `parameter`, which has this value once, every file is as that of a server without anything special.
fn one_line_more(
    config: &RenderedConfig,
    file: &str,
    parameter: &str,
    value: &str,
) -> Result<(), TestCaseError> {
    let plain = rendered(json!({"hostname": HOSTNAME}), &DATABASE).unwrap();
    for (name, text) in &config.files {
        let of = |text| -> Vec<(String, String)> {
            let lines = if name == MAIN_CF || name.ends_with(queries::SUFFIX) {
                parameters(text)
            } else {
                vec![("", text)]
            };
            lines.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
        };
        let (mut lines, mut others) = (of(text), of(&plain.files[name]));
        if name == file {
            let named: Vec<_> =
                lines.iter().filter(|(name, _)| name == parameter).map(|(_, value)| value.as_str()).collect();
            prop_assert_eq!(named, [value.trim()], "{}", parameter);
            lines.retain(|(name, _)| name != parameter);
            others.retain(|(name, _)| name != parameter);
        }
        prop_assert_eq!(lines, others, "{}", name);
    }
    prop_assert_eq!(config.files.len(), plain.files.len());
    Ok(())
}

fn any_field() -> impl Strategy<Value = usize> {
    0..FIELDS.len()
}

/// A field with a text that is good for it.
fn good() -> impl Strategy<Value = (usize, String)> {
    any_field().prop_flat_map(|field| (Just(field), FIELDS[field].good))
}

/// A field with a good text that something was put into.
fn spoilt() -> impl Strategy<Value = (usize, String)> {
    (good(), hostile(), any::<prop::sample::Index>()).prop_map(|((field, text), hostile, at)| {
        let at = at.index(text.chars().count() + 1);
        let at = text.char_indices().nth(at).map_or(text.len(), |(at, _)| at);
        (field, [&text[..at], &hostile, &text[at..]].concat())
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn what_is_good_is_one_line((field, value) in good()) {
        let field = &FIELDS[field];
        let config = field.render(&value).map_err(|error| TestCaseError::fail(format!("{value:?}: {error}")))?;
        one_line_more(&config, MAIN_CF, field.parameter, &(field.written)(&value))?;
    }

    #[test]
    fn a_hostile_value_is_one_line_or_refused(field in any_field(), value in hostile()) {
        FIELDS[field].is_one_line_or_refused(&value)?;
    }

    #[test]
    fn a_good_value_with_something_in_it_is_one_line_or_refused((field, value) in spoilt()) {
        FIELDS[field].is_one_line_or_refused(&value)?;
    }

    #[test]
    fn the_mail_store_is_an_absolute_path_without_dots(value in prop_oneof![hostile(), hostile().prop_map(|text| format!("/{text}"))]) {
        let spec = spec(json!({"hostname": HOSTNAME, "mailStore": {"path": value}}));
        if render(&ObjectName::new("mail", "myhost"), &spec, Some(&DATABASE), &Needs::default()).is_ok() {
            let segments: Vec<_> = value.split('/').collect();
            prop_assert!(segments.len() > 1 && segments[0].is_empty(), "{value:?}");
            prop_assert!(segments[1..].iter().all(|name| !name.is_empty() && !name.starts_with('.')), "{value:?}");
        }
    }

    #[test]
    fn a_parameter_of_the_user_is_one_line_or_refused(
        name in prop_oneof![4 => "notify_[a-z0-9_]{1,9}", 2 => hostile(), 1 => "virtual_[a-z]{1,9}"],
        value in prop_oneof![2 => "[!-\"%-~][ -#%-~]{0,20}", 3 => hostile()],
    ) {
        let object = with_postfix(&json!({"parameters": {&name: &value}}));
        let is_ours = name.starts_with("virtual_") || OWNED.contains(&name.as_str());
        let is_bad = is_ours || !is_name(&name) || is_more_than_a_value(&value);
        match rendered(object, &DATABASE) {
            Ok(config) => {
                prop_assert!(!is_bad, "{name:?} = {value:?} is taken");
                one_line_more(&config, MAIN_CF, &name, &value)?;
            }
            Err(error) => {
                prop_assert!(is_bad, "{name:?} = {value:?}: {error}");
                prop_assert!(error.field.starts_with("postfix.parameters"), "{}", error.field);
            }
        }
    }

    #[test]
    fn the_name_of_the_object_is_a_comment_or_refused(name in prop_oneof![2 => "[a-z][a-z0-9-]{0,20}", 3 => hostile()]) {
        let spec = spec(json!({"hostname": HOSTNAME}));
        let plain = rendered(json!({"hostname": HOSTNAME}), &DATABASE).unwrap();
        match render(&ObjectName::new("mail", &name), &spec, Some(&DATABASE), &Needs::default()) {
            Ok(config) => {
                prop_assert!(!name.contains(|c: char| c.is_control() || c == '$'));
                let main = &config.files[MAIN_CF];
                prop_assert_eq!(main.split('\n').filter(|line| line.starts_with('#')).count(), 1);
                prop_assert_eq!(parameters(main), parameters(&plain.files[MAIN_CF]));
            }
            Err(error) => {
                prop_assert_eq!(error.field, "metadata.name");
                prop_assert!(name.contains(|c: char| c.is_control() || c == '$'), "{name:?} is refused");
            }
        }
    }

    #[test]
    fn a_database_is_named_on_one_line_or_refused(
        which in 0..3,
        value in prop_oneof![2 => "[a-z0-9_]{1,12}", 1 => "[a-z0-9]([a-z0-9.-]{0,9}[a-z0-9])?", 4 => hostile()],
    ) {
        let (field, good, database) = match which {
            0 => ("host", is_host(&value), DatabaseEndpoint { host: &value, ..DATABASE }),
            1 => ("name", is_word(&value, b"_-") && !value.is_empty(), DatabaseEndpoint { name: &value, ..DATABASE }),
            _ => ("tablePrefix", is_word(&value, b"_"), DatabaseEndpoint { table_prefix: &value, ..DATABASE }),
        };
        match rendered(json!({"hostname": HOSTNAME}), &database) {
            Err(error) => {
                prop_assert_eq!(error.field, format!("database.external.{field}"));
                prop_assert!(!good, "{field}: {value:?} is refused");
            }
            Ok(config) => {
                prop_assert!(good, "{field}: {value:?} is taken");
                for (file, query) in queries::ALL {
                    let query = query.replace("{p}", database.table_prefix);
                    let hosts = format!("{0}:3306 {0}:3306", database.host);
                    prop_assert_eq!(
                        parameters(&config.files[file]),
                        [
                            ("query", query.as_str()),
                            ("hosts", hosts.as_str()),
                            ("retry_interval", "1"),
                            ("option_file", "/run/vmail/postfix/mysql.cnf"),
                            ("dbname", database.name),
                        ]
                    );
                }
            }
        }
    }

    #[test]
    fn an_account_of_the_database_is_two_lines_or_refused(
        value in prop_oneof![1 => "[!-~]([ -~]{0,20}[!-~])?", 2 => hostile()],
        is_password in any::<bool>(),
    ) {
        let (username, password) = if is_password { ("reader", value.as_str()) } else { (value.as_str(), "secret") };
        let bad = value.contains(char::is_control) || value.trim() != value || value.is_empty();
        match credential_lines(username, password) {
            Ok(lines) => {
                prop_assert!(!bad, "{value:?} is taken");
                prop_assert_eq!(parameters(&lines), [("user", username), ("password", password)]);
            }
            Err((key, _)) => {
                prop_assert!(bad, "{value:?} is refused");
                prop_assert_eq!(key, if is_password { "password" } else { "username" });
            }
        }
    }

    #[test]
    fn an_account_at_the_relay_host_is_one_line_or_refused(
        value in prop_oneof![1 => "[!-~]([ -~]{0,20}[!-~])?", 2 => hostile()],
        is_password in any::<bool>(),
    ) {
        let (username, password) = if is_password { ("me", value.as_str()) } else { (value.as_str(), "secret") };
        let bad = value.contains(char::is_control) || value.trim() != value || value.is_empty()
            || (!is_password && value.contains(':'));
        match password_table("relayhost = [smtp.example.net]:587\n", username, password) {
            Ok(table) => {
                prop_assert!(!bad, "{value:?} is taken");
                prop_assert_eq!(table, Some(format!("[smtp.example.net]:587 {username}:{password}\n")));
            }
            Err((key, _)) => {
                prop_assert!(bad, "{value:?} is refused");
                prop_assert_eq!(key, if is_password { "password" } else { "username" });
            }
        }
    }

    /// They become keys, values of queries and directories.
    #[test]
    fn an_address_and_a_domain_are_harmless_or_refused(
        local in prop_oneof!["[a-z0-9]([a-z0-9._+-]{0,9}[a-z0-9])?", hostile()],
        domain in prop_oneof!["[a-z]{1,9}([.][a-z]{2,5}){1,2}", hostile()],
    ) {
        if let Ok(domain) = DomainName::parse(&domain) {
            let letters = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
            prop_assert!(domain.as_str().split('.').all(|label| !label.is_empty() && !label.starts_with('-') && label.bytes().all(letters)));
        } else {
            prop_assert!(AliasAddress::parse(&format!("@{domain}")).is_err(), "{domain:?}");
            prop_assert!(Address::parse(&format!("a@{domain}")).is_err(), "{domain:?}");
        }
        if let Ok(address) = Address::parse(&format!("{local}@{domain}")) {
            prop_assert!(address.as_str().bytes().all(|c| c.is_ascii_graphic() && !b"\"'`\\/$%!,:;<>()[]".contains(&c)), "{address:?}");
            prop_assert_eq!(address.as_str().matches('@').count(), 1);
            let path = crate::desired::maildir(&server_row(), &address);
            let names: Vec<_> = path.split('/').collect();
            prop_assert_eq!(names.len(), 3, "{}", path);
            prop_assert!(names[..2].iter().all(|name| !name.is_empty() && !name.starts_with(['.', '-'])), "{path}");
        }
    }
}

/// Parameters that a user could be expected to try.
const OWNED: [&str; 3] = ["mynetworks", "relayhost", "mydestination"];

fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase()) && is_word(name, b"_") && name.to_lowercase() == name
}

fn is_word(text: &str, others: &[u8]) -> bool {
    text.bytes().all(|c| c.is_ascii_alphanumeric() || others.contains(&c))
}

fn is_host(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && is_word(text, b".-")
        && !text.eq_ignore_ascii_case("localhost")
}
