//! How many keys a pass reads and writes together.

use crate::index::Key;

/// Keys in one transaction, about.
const CHUNK: usize = 1000;

/// Some keys, given in order, about [`CHUNK`] at a time; a domain stays with its catch-all, whose fate its verdict tells.
pub(super) fn chunks(keys: impl IntoIterator<Item = Key>) -> impl Iterator<Item = Vec<Key>> {
    let mut keys = keys.into_iter().peekable();
    std::iter::from_fn(move || {
        let mut chunk: Vec<Key> = keys.by_ref().take(CHUNK).collect();
        chunk.extend(keys.next_if(Key::is_catch_all));
        (!chunk.is_empty()).then_some(chunk)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::DomainName;

    #[test]
    fn a_domain_stays_with_its_catch_all() {
        let [alpha, beta] =
            ["alpha", "beta"].map(|name| DomainName::parse(&format!("{name}.example.org")).unwrap());
        let mut keys: Vec<Key> =
            (1..CHUNK).map(|number| Key::Address(alpha.address(&format!("u{number:04}")))).collect();
        keys.extend([
            Key::Domain(beta.clone()),
            Key::Address(beta.catch_all()),
            Key::Address(beta.address("bob")),
        ]);
        let chunked: Vec<Vec<Key>> = chunks(keys.clone()).collect();
        assert_eq!(chunked.iter().map(Vec::len).collect::<Vec<_>>(), [CHUNK + 1, 1]);
        assert_eq!(chunked.concat(), keys);
        assert_eq!(chunks(Vec::new()).next(), None);
    }
}
