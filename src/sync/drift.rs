//! Managed rows that somebody else changed: which of them are new, and how to say it. Pure.

use std::collections::BTreeSet;

use crate::index::Key;
use crate::plan::RowId;
use crate::tables::Table;

/// Rows that differ from what is declared and are left as they are.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Drifted(BTreeSet<RowId>);

impl Drifted {
    /// Takes over what a comparison of `keys` found; gives what was not known before.
    pub(super) fn update(&mut self, keys: &[Key], found: &[RowId]) -> Vec<RowId> {
        let known = std::mem::take(&mut self.0);
        let compared: BTreeSet<(Table, &str)> =
            keys.iter().flat_map(|key| key.tables().iter().map(|table| (*table, key.as_str()))).collect();
        self.0.extend(known.iter().filter(|(table, key)| !compared.contains(&(*table, key))).cloned());
        self.0.extend(found.iter().cloned());
        found.iter().filter(|id| !known.contains(*id)).cloned().collect()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// A sentence with the number and three examples; `None` where nothing differs.
    pub(super) fn message(&self) -> Option<String> {
        let examples = examples(&self.0);
        (!self.0.is_empty()).then(|| {
            format!(
                "{} rows were changed by somebody else and are left as they are, {examples} among them",
                self.len()
            )
        })
    }
}

/// What to say of rows that were corrected.
pub(super) fn corrected(rows: &[RowId]) -> String {
    format!(
        "{} rows had been changed by somebody else and are corrected, {} among them",
        rows.len(),
        examples(rows)
    )
}

fn examples<'a>(rows: impl IntoIterator<Item = &'a RowId>) -> String {
    let examples = rows.into_iter().take(3).map(|(table, key)| format!("{} {key}", table.as_str()));
    examples.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(key: &str) -> RowId {
        (Table::Alias, key.to_owned())
    }

    #[test]
    fn only_new_drift_is_news_and_mended_rows_are_forgotten() {
        let keys = ["a@x.org", "b@x.org"].map(|key| Key::from_row(key).unwrap());
        let mut drifted = Drifted::default();
        assert_eq!(drifted.update(&keys, &[row("a@x.org")]), [row("a@x.org")]);
        assert!(drifted.update(&keys[..1], &[row("a@x.org")]).is_empty());
        assert_eq!(drifted.update(&keys[1..], &[row("b@x.org")]), [row("b@x.org")]);
        assert!(drifted.message().unwrap().starts_with("2 rows"));
        drifted.update(&keys, &[]);
        assert_eq!(drifted.message(), None);
    }
}
