//! When a password expires: `PostfixAdmin` writes it with each password of a domain that wants passwords renewed, and its
//! IMAP query lets nobody in after that. So a password that came from a Secret would be expired from its first day.

use std::collections::BTreeMap;

use super::columns::Columns;
use super::names::Names;
use super::statement::{Statement, pieces};
use crate::plan::LOCKED_PASSWORD;
use crate::tables::{MailboxRow, Row, Table};

/// What is written now, of which the passwords' time begins.
#[derive(Clone, Copy)]
pub(super) enum Renewed {
    /// All of the rows: they are new, and have been written.
    All,
    /// Those whose password differs from what is there: they are about to be written.
    Changed,
}

/// Whether the tables know of it: younger `PostfixAdmin`s' do.
fn is_known(columns: &Columns) -> bool {
    [Table::Domain, Table::Mailbox].iter().all(|table| columns.has(table.as_str(), "password_expiry"))
}

/// Gives the passwords of mailboxes the days that their domains name; where nobody can log in there is nothing to expire. One
/// statement a domain: the tables' own columns may be
/// of collations that can't be compared with each other.
pub(super) fn renew<'q>(
    names: &Names,
    columns: &Columns,
    rows: &[&'q Row],
    renewed: Renewed,
) -> Vec<Statement<'q>> {
    if !is_known(columns) {
        return Vec::new();
    }
    let mut by_domain: BTreeMap<&str, Vec<&'q MailboxRow>> = BTreeMap::new();
    for row in rows {
        if let Row::Mailbox(row) = row
            && row.password != LOCKED_PASSWORD
        {
            by_domain.entry(&row.domain).or_default().push(row);
        }
    }
    let of_domain = |(domain, rows): (&'q str, Vec<&'q MailboxRow>)| {
        let statement = |piece: &[&'q MailboxRow]| of_piece(names, domain, piece, renewed);
        pieces(&rows, |row| row.username.len() + row.password.len())
            .into_iter()
            .map(statement)
            .collect::<Vec<_>>()
    };
    by_domain.into_iter().flat_map(of_domain).collect()
}

fn of_piece<'q>(names: &Names, domain: &'q str, rows: &[&'q MailboxRow], renewed: Renewed) -> Statement<'q> {
    let which = match renewed {
        Renewed::All => "m.username = ?",
        Renewed::Changed => "(m.username = ? AND m.password <> ?)",
    };
    let sql = format!(
        "UPDATE {} m, {} d SET m.password_expiry = NOW() + INTERVAL d.password_expiry DAY \
         WHERE d.domain = ? AND d.password_expiry > 0 AND ({})",
        names.table(Table::Mailbox),
        names.table(Table::Domain),
        vec![which; rows.len()].join(" OR ")
    );
    rows.iter().fold(Statement::new(sql).bind(domain), |statement, row| match renewed {
        Renewed::All => statement.bind(&row.username),
        Renewed::Changed => statement.bind(&row.username).bind(&row.password),
    })
}
