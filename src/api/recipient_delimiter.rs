//! Postfix's `recipient_delimiter`: where the extension of an address begins, as in bob+lists@.

use super::mail_server::{DEFAULT_RECIPIENT_DELIMITER, MailServerSpec};

/// Local parts that are never split (`split_addr.c`).
const NEVER_SPLIT: [&str; 3] = ["postmaster", "mailer-daemon", "double-bounce"];

/// The characters that begin an extension for one server, and which addresses have none all the same; split as Postfix does
/// (`split_addr.c`).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct RecipientDelimiter {
    characters: Box<str>,
    /// `owner_request_special` counts only where `-` is among the characters.
    spares_lists: bool,
}

impl From<&MailServerSpec> for RecipientDelimiter {
    fn from(spec: &MailServerSpec) -> Self {
        let postfix = spec.postfix.as_ref();
        let written = postfix.and_then(|postfix| postfix.recipient_delimiter.as_deref());
        let characters = written.unwrap_or(DEFAULT_RECIPIENT_DELIMITER);
        let special = postfix
            .and_then(|postfix| postfix.parameters.as_ref()?.get("owner_request_special"))
            .is_none_or(|special| !special.trim().eq_ignore_ascii_case("no"));
        Self { characters: characters.into(), spares_lists: special && characters.contains('-') }
    }
}

impl RecipientDelimiter {
    /// The characters, in no order; none: no address has an extension.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.characters
    }

    /// A lower-cased local part without its extension, and the extension with the character that begins it. The first of
    /// the characters counts; a local part that begins with it has no extension.
    #[must_use]
    pub fn split<'a>(&self, local_part: &'a str) -> Option<(&'a str, &'a str)> {
        let is_list = local_part.starts_with("owner-")
            || local_part.strip_suffix("-request").is_some_and(|list| !list.is_empty());
        if NEVER_SPLIT.contains(&local_part) || (self.spares_lists && is_list) {
            return None;
        }
        let at = local_part.find(|c| self.characters.contains(c)).filter(|at| *at > 0)?;
        Some(local_part.split_at(at))
    }

    /// An address without its extension; `None` where it has none.
    #[must_use]
    pub fn stripped(&self, address: &str) -> Option<String> {
        let (local_part, domain) = address.split_once('@')?;
        self.split(local_part).map(|(base, _)| format!("{base}@{domain}"))
    }

    /// Whether the local part may be another one with an extension behind it.
    #[must_use]
    pub fn may_extend_another(&self, local_part: &str) -> bool {
        self.characters.chars().any(|c| local_part.rfind(c).is_some_and(|at| at > 0))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn delimiter(characters: &str, parameters: &serde_json::Value) -> RecipientDelimiter {
        let postfix = json!({"recipientDelimiter": characters, "parameters": parameters});
        let spec = json!({"hostname": "myhost.example.org", "postfix": postfix});
        RecipientDelimiter::from(&serde_json::from_value::<MailServerSpec>(spec).unwrap())
    }

    #[test]
    fn a_local_part_is_split_as_postfix_splits_it() {
        for (characters, local_part, split) in [
            ("+", "bob+lists", Some(("bob", "+lists"))),
            ("+", "bob+a+b", Some(("bob", "+a+b"))),
            ("+", "bob-lists", None),
            ("+", "+lists", None),
            ("+", "+a+b", None),
            ("-", "bob-lists", Some(("bob", "-lists"))),
            ("-", "bob+lists", None),
            ("+-", "bob-a+b", Some(("bob", "-a+b"))),
            ("+-", "bob+a-b", Some(("bob", "+a-b"))),
            (".", "bob.lists", Some(("bob", ".lists"))),
            ("", "bob+lists", None),
            ("-", "owner-lists", None),
            ("-", "lists-request", None),
            ("+-", "lists+x-request", None),
            ("+", "owner-lists+x", Some(("owner-lists", "+x"))),
            ("-", "-request", None),
            ("-", "mailer-daemon", None),
            ("-", "double-bounce", None),
        ] {
            assert_eq!(
                delimiter(characters, &json!({})).split(local_part),
                split,
                "{characters} {local_part}"
            );
        }
        let plain = delimiter("-", &json!({"owner_request_special": "no"}));
        assert_eq!(plain.split("owner-lists"), Some(("owner", "-lists")));
    }

    #[test]
    fn plus_begins_an_extension_where_nothing_is_named() {
        let spec: MailServerSpec = serde_json::from_value(json!({"hostname": "myhost.example.org"})).unwrap();
        assert_eq!(RecipientDelimiter::from(&spec).as_str(), "+");
        assert_eq!(RecipientDelimiter::from(&spec).stripped("a+b@c.org").as_deref(), Some("a@c.org"));
    }
}
