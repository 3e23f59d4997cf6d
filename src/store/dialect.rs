//! Where `MariaDB` and `MySQL` differ in what the store says.

/// How a statement that inserts or updates names the values that it would insert.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Dialect {
    /// `VALUES(c)`, which every `MariaDB` takes, and every `MySQL`: since 8.0.20 with a warning that it is deprecated.
    Values,
    /// A row alias, which `MySQL` takes since 8.0.19 and `MariaDB` doesn't.
    RowAlias,
}

impl Dialect {
    /// From what `VERSION()` says, as in `10.11.14-MariaDB-0+deb12u2` or `9.7.4`.
    pub(super) fn of(version: &str) -> Self {
        let mut numbers = version.split(['.', '-']).map(|number| number.parse::<u32>().unwrap_or_default());
        let number: [u32; 3] = std::array::from_fn(|_| numbers.next().unwrap_or_default());
        if version.contains("MariaDB") || number < [8, 0, 20] { Self::Values } else { Self::RowAlias }
    }

    /// What follows the rows.
    pub(super) fn alias(self) -> &'static str {
        match self {
            Self::Values => "",
            Self::RowAlias => " AS new",
        }
    }

    /// `c=VALUES(c)`, or `c=new.c`, of each column.
    pub(super) fn updates<'a>(self, columns: impl IntoIterator<Item = &'a str>) -> String {
        let update = |column: &str| match self {
            Self::Values => format!("{column}=VALUES({column})"),
            Self::RowAlias => format!("{column}=new.{column}"),
        };
        columns.into_iter().map(update).collect::<Vec<_>>().join(",")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_decides() {
        for (version, dialect) in [
            ("10.11.14-MariaDB-0+deb12u2", Dialect::Values),
            ("11.8.6-MariaDB", Dialect::Values),
            ("5.7.44-log", Dialect::Values),
            ("8.0.19", Dialect::Values),
            ("8.0.20", Dialect::RowAlias),
            ("9.7.4", Dialect::RowAlias),
        ] {
            assert_eq!(Dialect::of(version), dialect, "{version}");
        }
    }
}
