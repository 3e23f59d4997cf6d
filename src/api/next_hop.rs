//! Where mail is handed to: hosts and ports that Postfix's clients can parse.
//!
//! smtp(8) and lmtp(8) end at a next hop that they can't parse (`smtp_parse_destination`, `smtp_connect.c`), whoever's mail they
//! hold: a single one would stop the mail of all domains. So what Postfix's `valid_hostname` and `valid_hostaddr` know is
//! checked here once more, a little more strictly.

use std::net::{Ipv4Addr, Ipv6Addr};

/// What `transport` may be, for people.
pub const TRANSPORT_MESSAGE: &str = "write virtual, lmtp:inet:HOST:PORT, or smtp: or relay: with a host, as in relay:[mx1.example.org]:25; a host has a letter or is an IP address (IPv6 in brackets), a port is from 1 to 65535";

/// What a host is, for people.
pub const HOST_MESSAGE: &str = "write a host name in lower case or an IPv4 address, as in smtp.example.net: labels of at most 63 letters, digits and inner -, a letter among them";

/// Longest label of a host name (RFC 1123, section 2.1); a longer run of its characters is none.
const LABEL: usize = 63;

/// What may be before an IPv6 address in brackets, in any case (RFC 5321, section 4.1.3; Postfix's `host_port.c`).
const IPV6_TAG: &str = "IPv6:";

/// [`is_host`] as a regular expression without anchors, but for the length of labels.
fn host_pattern(letters: &str) -> String {
    let label = format!("[{letters}0-9]([{letters}0-9-]*[{letters}0-9])?");
    let with_letter = format!("([0-9][0-9-]*)?[{letters}]([{letters}0-9-]*[{letters}0-9])?");
    let first_octet = "([1-9][0-9]?|1[0-9]{2}|2[0-4][0-9]|25[0-5])";
    let octet = "([0-9]|[1-9][0-9]|1[0-9]{2}|2[0-4][0-9]|25[0-5])";
    format!("(({label}[.])*{with_letter}([.]{label})*|{first_octet}([.]{octet}){{3}})")
}

/// [`is_transport`] as a CEL rule.
pub(super) fn transport_rule() -> String {
    let host = host_pattern("A-Za-z");
    let port = "(6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[1-9][0-9]{0,3})";
    let tag = "[Ii][Pp][Vv]6:";
    let next_hop = format!("({host}|[[]({host}|({tag})?[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*)[]])(:{port})?");
    let shape = format!("self.matches('^(virtual|(lmtp:inet|smtp|relay):{next_hop})$')");
    let labels = format!("!self.matches('[A-Za-z0-9-]{{{}}}')", LABEL + 1);
    let address = format!(
        "self.substring(self.indexOf('[') + (self.matches('^[^[]*[[]{tag}') ? {} : 1), self.indexOf(']'))",
        IPV6_TAG.len() + 1
    );
    let literal = format!("(!self.matches('^[^[]*[[][^]]*:[^]]*[]]') || isIP({address}))");
    format!("{shape} && {labels} && {literal}")
}

/// [`is_host`] in lower case as a CEL rule.
pub(super) fn host_rule() -> String {
    format!("self.matches('^{}$') && !self.matches('[a-z0-9-]{{{}}}')", host_pattern("a-z"), LABEL + 1)
}

/// Whether this is a transport that a `MailDomain` may name: `virtual`, or `lmtp:inet:`, `smtp:` or `relay:` with a next hop.
#[must_use]
pub fn is_transport(text: &str) -> bool {
    let next_hop = ["lmtp:inet:", "smtp:", "relay:"].iter().find_map(|service| text.strip_prefix(service));
    text == "virtual" || next_hop.is_some_and(is_next_hop)
}

/// A host or an address in brackets, and perhaps a port.
fn is_next_hop(text: &str) -> bool {
    let (is_host, port) = if let Some(inner) = text.strip_prefix('[') {
        let Some((host, port)) = inner.split_once(']') else { return false };
        (is_host(host) || without_tag(host).parse::<Ipv6Addr>().is_ok(), port)
    } else {
        let (host, port) = text.split_at(text.find(':').unwrap_or(text.len()));
        (is_host(host), port)
    };
    is_host && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port))
}

/// An IPv6 address without the tag that it may have.
fn without_tag(text: &str) -> &str {
    match text.split_at_checked(IPV6_TAG.len()) {
        Some((tag, address)) if tag.eq_ignore_ascii_case(IPV6_TAG) => address,
        _ => text,
    }
}

/// Whether this is a host name (RFC 1123, section 2.1) with a letter in it, or an IPv4 address that a host can have.
#[must_use]
pub fn is_host(text: &str) -> bool {
    if let Ok(address) = text.parse::<Ipv4Addr>() {
        return address.octets()[0] != 0;
    }
    text.split('.').all(is_label) && text.contains(|c: char| c.is_ascii_alphabetic())
}

fn is_label(text: &str) -> bool {
    let inner = |c: u8| c.is_ascii_alphanumeric() || c == b'-';
    let outer = |c: Option<&u8>| c.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    bytes.len() <= LABEL && bytes.iter().copied().all(inner) && outer(bytes.first()) && outer(bytes.last())
}

/// From 1 to 65535, without sign and leading zeros.
fn is_port(text: &str) -> bool {
    text.starts_with(|c: char| ('1'..='9').contains(&c)) && text.parse::<u16>().is_ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_host_is_what_postfix_takes_for_one() {
        let longest = format!("{}.example.org", "a".repeat(63));
        for host in ["a", "mx1.example.org", "MX1.example.org", "3com", "1.2.x", "1-a", "10.0.0.1", &longest]
        {
            assert!(is_host(host), "{host}");
        }
        let too_long = format!("{}.example.org", "a".repeat(64));
        for host in [
            "",
            ".",
            "..",
            "-",
            "a..b",
            ".a",
            "a.",
            "-a",
            "a-",
            "a.-b",
            "12345",
            "1-2",
            "1.2.3",
            "256.1.1.1",
            "01.2.3.4",
            "0.1.2.3",
            "1.2.3.4.5",
            "a_b",
            "a b",
            "a:b",
            "::1",
            "josé",
            "a\n",
            &too_long,
        ] {
            assert!(!is_host(host), "{host:?}");
        }
    }

    #[test]
    fn a_transport_has_a_next_hop_that_no_client_ends_at() {
        for transport in [
            "virtual",
            "lmtp:inet:dovecot.mail.svc:24",
            "lmtp:inet:10.1.2.3",
            "lmtp:inet:[fd00::7]:24",
            "smtp:example.org",
            "smtp:[mx.example.net]",
            "relay:[mx1.example.org]:25",
            "relay:[2001:db8::1]:65535",
            "relay:[IPv6:2001:db8::1]:25",
            "lmtp:inet:[ipv6:fd00::7]",
            "relay:[ipv6]",
            "relay:x:1",
        ] {
            assert!(is_transport(transport), "{transport}");
        }
        for transport in [
            "",
            "local",
            "relay:",
            "smtp::25",
            "relay:x:0",
            "relay:x:00025",
            "relay:x:99999",
            "relay:x:65536",
            "relay:x:",
            "relay:x:+25",
            "relay:x:smtp",
            "relay:..",
            "relay:-",
            "relay:a..b:25",
            "relay:12345",
            "relay:[]",
            "relay:[x",
            "relay:[x]25",
            "relay:x]",
            "relay:2001:db8::1",
            "relay:[2001:db8::1",
            "relay:[:::1]",
            "relay:[IPv6:]",
            "relay:[IPv6:10.0.0.1]",
            "relay:[IPv6:x.example.org]",
            "relay:[IPv6:IPv6:2001:db8::1]",
            "relay:IPv6:2001:db8::1",
            "relay:[IPv4:10.0.0.1]",
            "relay:[fe80::1%eth0]",
            "relay:[1.2.3]",
            "lmtp:x:24",
            "lmtp:unix:private/x",
            "virtual:x",
        ] {
            assert!(!is_transport(transport), "{transport:?}");
        }
    }

    proptest! {
        #[test]
        fn ports_are_the_numbers_that_tcp_has(port in 0_u32..70_000) {
            prop_assert_eq!(is_transport(&format!("relay:x:{port}")), (1..=65_535).contains(&port));
        }

        #[test]
        fn an_address_is_taken_in_brackets_and_ipv6_nowhere_else(bytes in any::<[u8; 16]>()) {
            let address = Ipv6Addr::from(bytes);
            let in_brackets = format!("relay:[{address}]:25");
            prop_assert!(is_transport(&in_brackets));
            let tagged = format!("relay:[IPv6:{address}]:25");
            prop_assert!(is_transport(&tagged));
            let bare = format!("relay:{address}");
            prop_assert!(!is_transport(&bare));
        }

        #[test]
        fn whatever_is_taken_has_none_of_what_postfix_refuses(text in "[a0.:-]{0,8}|(relay|smtp):[\\[]?[a0.:-]{0,8}[\\]]?(:[0-9]{0,6})?") {
            if let Some(hop) = text.strip_prefix("relay:").or(text.strip_prefix("smtp:")).filter(|_| is_transport(&text)) {
                let host = hop.trim_start_matches('[').split([']', ':']).next().unwrap_or_default();
                let is_literal = hop.starts_with('[') && hop.matches(':').count() > 1;
                prop_assert!(is_literal || !host.split('.').any(str::is_empty), "{}", text);
                prop_assert!(!host.starts_with('-') && !host.ends_with('-'), "{}", text);
            }
        }
    }
}
