//! Mail addresses and domain names as users write them, lower-cased, with the rules that keep them harmless in a map
//! file, in an SQL value and in a path.
//!
//! The accepted local part is narrower than RFC 5321's: no `/`, no `..`, no quotes, spaces or control characters,
//! ASCII only, and none of `%` and `!`, which Postfix rewrites (`allow_percent_hack`, `swap_bangpath`). A leading `-`
//! is refused as Postfix does itself (`allow_min_user = no`).

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Longest local part, in bytes (RFC 5321 section 4.5.3.1.1).
pub const MAX_LOCAL_PART: usize = 64;
/// Longest domain, in bytes (RFC 5321 section 4.5.3.1.2; PostfixAdmin's column holds as many).
pub const MAX_DOMAIN: usize = 255;
/// Longest address that fits PostfixAdmin's `varchar(255)` columns and Postfix's own path limit (RFC 5321 section 4.5.3.1.3).
pub const MAX_ADDRESS: usize = 254;

const LOCAL_PART: &str = "[A-Za-z0-9_+=&~#*{}|?^-]+([.][A-Za-z0-9_+=&~#*{}|?^-]+)*";
const LABEL: &str = "[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?";

/// Why a text is not an address or a domain. The display text says what to write instead.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ParseError {
    /// No `@`, or more than one.
    #[error("{ADDRESS_SHAPE}")]
    Shape,
    /// The part before the `@` has a character that is not allowed, or a dot in a wrong place.
    #[error("{LOCAL_PART_RULE}")]
    LocalPart,
    /// The part before the `@` or the whole is too long.
    #[error("{LENGTH_RULE}")]
    Length,
    /// The domain is not a dotted host name.
    #[error("{DOMAIN_RULE}")]
    Domain,
}

const ADDRESS_SHAPE: &str = "write one local part, one @ and one domain, as in alfred@alpha.example.org";
const ALIAS_SHAPE: &str = "write an address as in info@alpha.example.org, or @alpha.example.org to catch what no other address takes";
const LOCAL_PART_RULE: &str = "before the @ write letters, digits and _ + = & ~ # * { } | ? ^ - with single dots between them, \
     not beginning with -: no spaces, quotes, slashes, %, ! or non-ASCII characters";
const LENGTH_RULE: &str = "write at most 64 characters before the @ and at most 254 in all";
const DOMAIN_RULE: &str = "write a domain of two or more labels, as in alpha.example.org: letters, digits and inner dashes, \
     at most 63 in a label and 255 in all";

fn is_local_part(text: &str) -> bool {
    let allowed = |c: u8| c.is_ascii_alphanumeric() || b"_+=&~#*{}|?^-".contains(&c);
    !text.starts_with('-') && text.split('.').all(|atom| !atom.is_empty() && atom.bytes().all(allowed))
}

fn is_label(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && !text.starts_with('-')
        && !text.ends_with('-')
        && text.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-')
}

fn check_domain(text: &str) -> Result<(), ParseError> {
    let dotted = text.contains('.') && text.len() <= MAX_DOMAIN;
    if dotted && text.split('.').all(is_label) { Ok(()) } else { Err(ParseError::Domain) }
}

/// A fully qualified domain of at least two labels, lower-cased.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct DomainName(Arc<str>);

impl DomainName {
    /// Parses and lower-cases.
    ///
    /// # Errors
    /// [`ParseError::Domain`] for a text without a dot, with an empty or overlong label, or with a foreign character.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        check_domain(text)?;
        Ok(Self(text.to_ascii_lowercase().into()))
    }

    /// The lower-cased text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The address `@domain` that catches what no other address of the domain takes.
    #[must_use]
    pub fn catch_all(&self) -> Address {
        self.address("")
    }

    /// An address of the domain whose local part has been parsed before.
    pub(crate) fn address(&self, local_part: &str) -> Address {
        Address::joined(local_part, &self.0)
    }
}

/// An address, lower-cased. Its local part is empty only for the catch-all of a domain ([`AliasAddress`]).
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Address {
    text: Arc<str>,
    at: u8,
}

impl Address {
    /// Parses and lower-cases `local@domain`.
    ///
    /// # Errors
    /// The first rule that the text breaks, see [`ParseError`].
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let (local, domain) = text.split_once('@').ok_or(ParseError::Shape)?;
        if domain.contains('@') || local.is_empty() {
            return Err(ParseError::Shape);
        }
        if local.len() > MAX_LOCAL_PART || text.len() > MAX_ADDRESS {
            return Err(ParseError::Length);
        }
        if !is_local_part(local) {
            return Err(ParseError::LocalPart);
        }
        check_domain(domain)?;
        let at = u8::try_from(local.len()).map_err(|_| ParseError::Length)?;
        Ok(Self { text: text.to_ascii_lowercase().into(), at })
    }

    /// The lower-cased text, `local@domain` or `@domain`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What stands before the `@`; empty for a catch-all.
    #[must_use]
    pub fn local_part(&self) -> &str {
        &self.text[..usize::from(self.at)]
    }

    /// What stands after the `@`.
    #[must_use]
    pub fn domain(&self) -> &str {
        &self.text[usize::from(self.at) + 1..]
    }

    /// What an extension may have been added to, with any of these characters to begin it; itself where none can have been.
    /// The first of the characters counts that is not the first of the local part. To be compared only: it may end with
    /// a dot, so that no object could declare it.
    pub(crate) fn trunk(&self, delimiters: &BTreeSet<char>) -> Self {
        let mut local_part = self.local_part().char_indices().skip(1);
        match local_part.find_map(|(at, c)| delimiters.contains(&c).then_some(at)) {
            Some(at) => Self::joined(&self.local_part()[..at], self.domain()),
            None => self.clone(),
        }
    }

    /// The same local part in another domain. To be compared only: it may be longer than an address that can be declared.
    pub(crate) fn at(&self, domain: &DomainName) -> Self {
        Self::joined(self.local_part(), domain.as_str())
    }

    /// Of two parts that have been parsed before, so that the first is at most [`MAX_LOCAL_PART`] long.
    fn joined(local_part: &str, domain: &str) -> Self {
        let at = u8::try_from(local_part.len()).unwrap_or(u8::MAX);
        Self { text: [local_part, "@", domain].concat().into(), at }
    }

    /// The catch-all of its domain.
    #[must_use]
    pub fn catch_all(&self) -> Self {
        Self::joined("", self.domain())
    }
}

/// The address of an alias: `local@domain`, or `@domain` for the catch-all.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct AliasAddress(pub Address);

impl AliasAddress {
    /// Parses and lower-cases.
    ///
    /// # Errors
    /// As [`Address::parse`].
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        match text.strip_prefix('@') {
            Some(domain) => Ok(Self(DomainName::parse(domain)?.catch_all())),
            None => Address::parse(text).map(Self),
        }
    }
}

/// A rule of the schema: a CEL expression and the sentence that the user reads when it is false.
fn rule(expression: &str, message: &str) -> serde_json::Value {
    serde_json::json!({"rule": expression, "message": message})
}

fn text_schema(description: &str, rules: &[serde_json::Value]) -> Schema {
    // The bound keeps the estimated cost of the rules within the API server's budget; the rules give the real limits.
    json_schema!({"type": "string", "maxLength": 512, "description": description, "x-kubernetes-validations": rules})
}

fn address_rules() -> Vec<serde_json::Value> {
    vec![
        rule("self.matches('^[^@]+@[^@]+$')", ADDRESS_SHAPE),
        rule(
            &format!(
                "!self.matches('^[^@]+@[^@]+$') || (!self.startsWith('-') && self.matches('^{LOCAL_PART}@'))"
            ),
            LOCAL_PART_RULE,
        ),
        rule("size(self) <= 254 && !self.matches('^[^@]{65}')", LENGTH_RULE),
        rule(
            &format!("!self.matches('^[^@]+@[^@]+$') || self.matches('@({LABEL}[.])+{LABEL}$')"),
            DOMAIN_RULE,
        ),
    ]
}

fn alias_address_rules() -> Vec<serde_json::Value> {
    vec![
        rule("self.matches('^[^@]*@[^@]+$')", ALIAS_SHAPE),
        rule(
            &format!(
                "!self.matches('^[^@]*@[^@]+$') || (!self.startsWith('-') && self.matches('^({LOCAL_PART})?@'))"
            ),
            LOCAL_PART_RULE,
        ),
        rule("size(self) <= 254 && !self.matches('^[^@]{65}')", LENGTH_RULE),
        rule(
            &format!("!self.matches('^[^@]*@[^@]+$') || self.matches('@({LABEL}[.])+{LABEL}$')"),
            DOMAIN_RULE,
        ),
    ]
}

macro_rules! text_type {
    ($name:ident, $as_str:expr, $description:literal, $rules:expr) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let text: fn(&Self) -> &str = $as_str;
                f.write_str(text(self))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = Cow::<str>::deserialize(deserializer)?;
                Self::parse(&text).map_err(de::Error::custom)
            }
        }

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                text_schema($description, &$rules)
            }
        }
    };
}

text_type!(Address, Address::as_str, "A mail address, as in alfred@alpha.example.org.", address_rules());
text_type!(
    AliasAddress,
    |alias| alias.0.as_str(),
    "A mail address, as in info@alpha.example.org, or @alpha.example.org for the catch-all of a domain.",
    alias_address_rules()
);
text_type!(
    DomainName,
    DomainName::as_str,
    "A domain of two or more labels, as in alpha.example.org.",
    [rule(&format!("size(self) <= 255 && self.matches('^({LABEL}[.])+{LABEL}$')"), DOMAIN_RULE)]
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lower_cases_and_splits() {
        let address = Address::parse("Alfred+Tag@Alpha.Example.ORG").unwrap();
        assert_eq!(address.as_str(), "alfred+tag@alpha.example.org");
        assert_eq!((address.local_part(), address.domain()), ("alfred+tag", "alpha.example.org"));
    }

    #[test]
    fn refuses_what_could_harm_a_map_a_query_or_a_path() {
        for (text, error) in [
            ("alfred", ParseError::Shape),
            ("a@b@alpha.example.org", ParseError::Shape),
            ("@alpha.example.org", ParseError::Shape),
            ("../x@alpha.example.org", ParseError::LocalPart),
            ("a..b@alpha.example.org", ParseError::LocalPart),
            ("a b@alpha.example.org", ParseError::LocalPart),
            ("o'brien@alpha.example.org", ParseError::LocalPart),
            ("\"a\"@alpha.example.org", ParseError::LocalPart),
            ("a\n@alpha.example.org", ParseError::LocalPart),
            ("josé@alpha.example.org", ParseError::LocalPart),
            ("-a@alpha.example.org", ParseError::LocalPart),
            ("alfred@localhost", ParseError::Domain),
            ("alfred@-alpha.example.org", ParseError::Domain),
            ("alfred@alpha..org", ParseError::Domain),
        ] {
            assert_eq!(Address::parse(text), Err(error), "{text}");
        }
        let long = "a".repeat(65);
        assert_eq!(Address::parse(&format!("{long}@alpha.example.org")), Err(ParseError::Length));
    }

    #[test]
    fn catch_all_is_an_alias_address_only() {
        let catch_all = AliasAddress::parse("@Gamma.example.org").unwrap();
        assert_eq!(catch_all.0.as_str(), "@gamma.example.org");
        assert_eq!((catch_all.0.local_part(), catch_all.0.domain()), ("", "gamma.example.org"));
        assert_eq!(DomainName::parse("ALL"), Err(ParseError::Domain));
    }
}
