//! Networks as Postfix's access lists want them, postconf(5) `mynetworks`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// As wide as private networks are (RFC 1918's 10/8): all wider ones hold strangers.
const WIDEST_V4: u32 = 8;

/// As wide as unique local addresses are (RFC 4193's `fc00::/7`).
const WIDEST_V6: u32 = 7;

/// A network in CIDR notation as Postfix reads it: `None` when `text` is not one, or one so wide that trusting it makes
/// an open relay. Host bits are cleared, since Postfix
/// refuses a pattern that has any, and IPv6 addresses stand in brackets, since `:` also introduces a table.
pub(super) fn pattern(text: &str) -> Option<String> {
    let (address, prefix) = text.split_once('/')?;
    if prefix.is_empty() || !prefix.bytes().all(|c| c.is_ascii_digit()) {
        return None;
    }
    let prefix: u32 = prefix.parse().ok()?;
    match address.parse().ok()? {
        IpAddr::V4(address) if (WIDEST_V4..=Ipv4Addr::BITS).contains(&prefix) => {
            let mask = u32::MAX.checked_shl(Ipv4Addr::BITS - prefix).unwrap_or(0);
            Some(format!("{}/{prefix}", Ipv4Addr::from_bits(address.to_bits() & mask)))
        }
        IpAddr::V6(address) if (WIDEST_V6..=Ipv6Addr::BITS).contains(&prefix) => {
            let mask = u128::MAX.checked_shl(Ipv6Addr::BITS - prefix).unwrap_or(0);
            Some(format!("[{}]/{prefix}", Ipv6Addr::from_bits(address.to_bits() & mask)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_what_postfix_reads() {
        for (text, expected) in [
            ("10.1.0.0/16", "10.1.0.0/16"),
            ("10.1.2.3/16", "10.1.0.0/16"),
            ("192.0.2.7/32", "192.0.2.7/32"),
            ("2001:db8::1/32", "[2001:db8::]/32"),
            ("::1/128", "[::1]/128"),
            ("fc00::/7", "[fc00::]/7"),
        ] {
            assert_eq!(pattern(text).as_deref(), Some(expected), "{text}");
        }
        for text in [
            "",
            "10.1.0.0",
            "10.1.0.0/33",
            "0.0.0.0/0",
            "0.0.0.0/1",
            "::/0",
            "10.1.0.0/",
            "10.1.0.0/+8",
            "!10.0.0.0/8",
            "::/129",
            "[::1]/128",
            "static:all/0",
        ] {
            assert_eq!(pattern(text), None, "{text}");
        }
    }
}
