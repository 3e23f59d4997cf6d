//! Rows that should go and that the database keeps: a foreign key of somebody else's, say. No object is left to be told. Pure.

use std::collections::BTreeSet;

use crate::index::Key;

/// The keys of such rows.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Refused(BTreeSet<Key>);

impl Refused {
    /// The rows under these keys are tried again.
    pub(super) fn forget(&mut self, keys: &[Key]) {
        if !self.0.is_empty() {
            for key in keys {
                self.0.remove(key);
            }
        }
    }

    /// The database refused to let the rows under a key go.
    pub(super) fn add(&mut self, key: Key) {
        self.0.insert(key);
    }

    /// A sentence with the number and three examples; `None` where there are none.
    pub(super) fn message(&self) -> Option<String> {
        let examples = self.0.iter().take(3).map(Key::to_string).collect::<Vec<_>>().join(", ");
        (!self.0.is_empty()).then(|| {
            format!(
                "the database refuses to remove the rows of {} keys, {examples} among them: the operator's log says why",
                self.0.len()
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_refused_is_told_until_it_is_tried_again() {
        let keys = ["a@x.org", "b@x.org"].map(|key| Key::from_row(key).unwrap());
        let mut refused = Refused::default();
        assert_eq!(refused.message(), None);
        for key in keys.clone() {
            refused.add(key);
        }
        assert!(refused.message().unwrap().contains("2 keys, a@x.org, b@x.org"));
        refused.forget(&keys);
        assert_eq!(refused.message(), None);
    }
}
