//! The domains that an admin manages: the rows of `domain_admins`, which has no unique key but a number of its own.
//!
//! All rows of an admin's username are the admin's. What is there is read and the difference is written, so that two
//! writes of one admin leave one row for each domain.

use std::collections::{BTreeSet, HashMap};

use futures::TryStreamExt;
use sqlx::Row as _;
use sqlx::mysql::MySqlConnection;

use super::Error;
use super::columns::Columns;
use super::names::Names;
use super::read::asking;
use super::statement::{Statement, padded, pieces, placeholders};
use crate::plan::RowId;
use crate::tables::{ALL_DOMAINS, AdminRow, Row, Table};

const TABLE: &str = "domain_admins";

/// A row that gives a domain to an admin.
struct Grant {
    username: String,
    domain: String,
    active: bool,
}

/// Completes the rows of admins with their domains.
pub(super) async fn read(
    connection: &mut MySqlConnection,
    names: &Names,
    columns: &Columns,
    usernames: &[&str],
    rows: &mut HashMap<RowId, Row>,
) -> Result<(), Error> {
    for grant in there(connection, names, usernames).await?.into_iter().filter(|grant| grant.active) {
        if let Some(Row::Admin(row)) = rows.get_mut(&(Table::Admin, grant.username)) {
            // Before there was a column of it, the grant alone made somebody a super admin.
            row.superadmin |= grant.domain == ALL_DOMAINS && !columns.has("admin", "superadmin");
            row.domains.insert(grant.domain);
        }
    }
    Ok(())
}

async fn there(
    connection: &mut MySqlConnection,
    names: &Names,
    usernames: &[&str],
) -> Result<Vec<Grant>, Error> {
    let mut grants = Vec::new();
    for (chunk, size) in padded(usernames) {
        let sql = format!(
            "SELECT username, domain, active <> 0 FROM {} WHERE username IN ({})",
            names.of(TABLE),
            placeholders(size)
        );
        let mut found = asking(sql, chunk, size).prepared().fetch(&mut *connection);
        while let Some(row) = found.try_next().await? {
            let (username, domain): (String, String) = (row.try_get(0)?, row.try_get(1)?);
            // An existing table may hold its keys in mixed case; ours are lower-cased.
            let domain = if domain == ALL_DOMAINS { domain } else { domain.to_lowercase() };
            let active = row.try_get::<i64, _>(2)? != 0;
            grants.push(Grant { username: username.to_lowercase(), domain, active });
        }
    }
    Ok(grants)
}

/// Gives admins the domains that their rows name, and no others.
pub(super) async fn write(
    connection: &mut MySqlConnection,
    names: &Names,
    columns: &Columns,
    admins: &[&AdminRow],
) -> Result<(), Error> {
    let wanted: BTreeSet<(&str, &str)> = admins
        .iter()
        .flat_map(|row| row.domains.iter().map(|domain| (row.username.as_str(), domain.as_str())))
        .collect();
    let usernames: Vec<&str> = admins.iter().map(|row| row.username.as_str()).collect();
    let there = there(connection, names, &usernames).await?;
    let pair = |grant: &'_ Grant| (grant.username.clone(), grant.domain.clone());
    let is_wanted = |grant: &Grant| grant.active && wanted.contains(&(&grant.username, &grant.domain));
    let extra: BTreeSet<(String, String)> =
        there.iter().filter(|grant| !is_wanted(grant)).map(pair).collect();
    let kept: BTreeSet<(String, String)> =
        there.iter().map(pair).filter(|pair| !extra.contains(pair)).collect();
    revoke(connection, names, &extra.into_iter().collect::<Vec<_>>()).await?;
    let missing: Vec<(&str, &str)> = wanted
        .into_iter()
        .filter(|(username, domain)| !kept.contains(&((*username).to_owned(), (*domain).to_owned())))
        .collect();
    give(connection, names, columns, &missing).await
}

async fn revoke(
    connection: &mut MySqlConnection,
    names: &Names,
    grants: &[(String, String)],
) -> Result<(), Error> {
    for piece in pieces(grants, |(username, domain)| username.len() + domain.len()) {
        let pairs = vec!["(?,?)"; piece.len()].join(",");
        let sql = format!("DELETE FROM {} WHERE (username, domain) IN ({pairs})", names.of(TABLE));
        let statement = piece
            .iter()
            .fold(Statement::new(sql), |statement, (username, domain)| statement.bind(username).bind(domain));
        statement.prepared().execute(&mut *connection).await?;
    }
    Ok(())
}

async fn give(
    connection: &mut MySqlConnection,
    names: &Names,
    columns: &Columns,
    grants: &[(&str, &str)],
) -> Result<(), Error> {
    let (column, value) = if columns.has(TABLE, "created") { (",created", ",NOW()") } else { ("", "") };
    for piece in pieces(grants, |(username, domain)| username.len() + domain.len()) {
        let values = vec![format!("(?,?,1{value})"); piece.len()].join(",");
        let sql = format!("INSERT INTO {} (username,domain,active{column}) VALUES {values}", names.of(TABLE));
        let statement = piece.iter().fold(Statement::new(sql), |statement, (username, domain)| {
            statement.bind(*username).bind(*domain)
        });
        statement.prepared().execute(&mut *connection).await?;
    }
    Ok(())
}

/// Takes every domain from those of these usernames that are no admins any more.
pub(super) async fn delete(
    connection: &mut MySqlConnection,
    names: &Names,
    usernames: impl Iterator<Item = &str>,
) -> Result<(), Error> {
    let usernames: Vec<&str> = usernames.collect();
    for piece in pieces(&usernames, |username| username.len()) {
        let (grants, admins) = (names.of(TABLE), names.table(Table::Admin));
        // The two tables need not have one collation.
        let sql = format!(
            "DELETE FROM {grants} WHERE username IN ({}) AND NOT EXISTS (SELECT 1 FROM {admins} a \
             WHERE LOWER(a.username) = CONVERT(LOWER({grants}.username) USING utf8mb4) COLLATE utf8mb4_bin)",
            placeholders(piece.len())
        );
        asking(sql, piece, piece.len()).prepared().execute(&mut *connection).await?;
    }
    Ok(())
}
