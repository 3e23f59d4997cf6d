//! A database as the properties have it: it does what a plan says, refuses what no plan may say, and others write to it.

use proptest::prelude::*;
use proptest::sample::select;

use super::world::{ADDRESSES, DOMAINS, USERNAMES};
use super::*;
use crate::api::DeletionPolicy;
use crate::tables::{AdminRow, AliasDomainRow, DomainRow, IdRow};

/// Carries out what the set loop `server` planned.
pub(super) fn carry_out(current: &mut Current, plan: &Plan, server: &str, existing_rows: ExistingRows) {
    let id_of = |row: &Row| (row.table(), row.key().to_owned());
    let before = current.clone();
    let owner = |id: &RowId| before.owners.get(id);
    let is_ours = |id: &RowId| owner(id).is_some_and(|owner| owner.server == server);
    let is_taken = |id: &RowId| plan.owned.iter().any(|owner| (owner.table, &owner.key) == (id.0, &id.1));
    let is_of_cluster = |id: &RowId| owner(id).is_none_or(|owner| owner.server.starts_with("cluster/"));
    for row in &plan.inserts {
        let id = id_of(row);
        let may_take = is_of_cluster(&id) && is_taken(&id);
        assert!(is_ours(&id) || may_take, "{id:?} is inserted and is somebody else's");
        assert_eq!(current.rows.insert(id, row.clone()), None, "an insert takes nothing over");
    }
    for Update { before, row } in &plan.updates {
        let id = id_of(row);
        let adopts = existing_rows == ExistingRows::Adopt && is_taken(&id) && owner(&id).is_none();
        let takes_over = is_taken(&id) && owner(&id).is_some() && is_of_cluster(&id);
        assert!(is_ours(&id) || takes_over || adopts, "{id:?} is updated and is somebody else's");
        assert_eq!(current.rows.insert(id, row.clone()).as_ref(), Some(before), "an update has a row");
    }
    let may_remove = |id: &RowId| is_ours(id) || (owner(id).is_some() && is_of_cluster(id) && is_taken(id));
    for id in &plan.deletes {
        assert!(may_remove(id), "{id:?} is deleted and is somebody else's");
        assert!(current.rows.remove(id).is_some(), "{id:?} is deleted and not there");
    }
    for owner in &plan.owned {
        let id = (owner.table, owner.key.clone());
        assert!(is_of_cluster(&id) && owner.server == server, "{id:?} is taken from somebody else");
        let is_let_go = plan.disowned.contains(&id);
        assert!(is_let_go || current.rows.contains_key(&id), "{id:?} is owned and is not there");
        let adopts = before.rows.contains_key(&id) && !before.owners.contains_key(&id);
        assert!(!adopts || existing_rows == ExistingRows::Adopt, "{id:?} is adopted");
        current.owners.insert(id, owner.clone());
    }
    for id in &plan.disowned {
        assert!(may_remove(id), "{id:?} is disowned and is somebody else's");
        current.owners.remove(id);
    }
}

fn text(text: &str) -> String {
    text.to_owned()
}

fn domain_of(key: &str) -> String {
    key.rsplit('@').next().unwrap().to_owned()
}

/// A row as somebody else makes one.
fn row(table: Table, key: &str) -> Row {
    match table {
        Table::Domain => Row::Domain(DomainRow {
            domain: text(key),
            description: text("by hand"),
            transport: text("virtual"),
            backupmx: false,
            aliases: 7,
            mailboxes: 7,
            maxquota: 7,
            quota: 7,
            active: true,
        }),
        Table::AliasDomain => Row::AliasDomain(AliasDomainRow {
            alias_domain: text(key),
            target_domain: text("hand.example.org"),
            active: true,
        }),
        Table::Mailbox => Row::Mailbox(MailboxRow {
            username: text(key),
            password: text("theirs"),
            name: text("By Hand"),
            maildir: text("hand/"),
            quota: 7 * 1_024_000,
            local_part: key.split('@').next().unwrap().to_owned(),
            domain: domain_of(key),
            active: true,
        }),
        Table::Alias => Row::Alias(AliasRow {
            address: text(key),
            goto: text("z@elsewhere.org"),
            domain: domain_of(key),
            description: text("by hand"),
            active: true,
        }),
        Table::Id => Row::Id(IdRow { key: text(key), uid: 1, gid: 1 }),
        Table::Admin => Row::Admin(AdminRow {
            username: text(key),
            password: text("theirs"),
            superadmin: true,
            active: true,
            domains: ["ALL".to_owned()].into(),
        }),
    }
}

fn owner(server: &str, table: Table, key: &str) -> OwnerRow {
    OwnerRow {
        table,
        key: text(key),
        server: text(server),
        object_uid: text("a stranger"),
        object: text("Mailbox tenant/stranger"),
        policy: DeletionPolicy::Delete,
        desired: String::new(),
        password: String::new(),
        goto: String::new(),
        named: String::new(),
    }
}

/// Somewhere that rows of ours may come to be.
fn place() -> impl Strategy<Value = RowId> {
    let domains = (select(vec![Table::Domain, Table::AliasDomain, Table::Id]), select(DOMAINS.to_vec()));
    let addresses = (select(vec![Table::Mailbox, Table::Alias, Table::Id]), select(ADDRESSES.to_vec()));
    let admins = (Just(Table::Admin), select(USERNAMES.to_vec()));
    prop_oneof![2 => domains, 4 => addresses, 1 => admins].prop_map(|(table, key)| (table, key.to_owned()))
}

/// What was there before us: rows that nobody of ours owns, and those of another cluster, of another server, and of objects
/// that are gone; and owners without a row.
pub(super) fn strangers() -> impl Strategy<Value = Current> {
    let server = select(vec!["elsewhere/mail/myhost", "cluster/mail/other", "cluster/mail/gone", SERVER]);
    let [has_row, is_active] = [0.8, 0.7].map(prop::bool::weighted);
    let one = (place(), prop::option::weighted(0.6, server), has_row, is_active);
    prop::collection::vec(one, 0..7).prop_map(|all| {
        let mut current = Current::default();
        for (id, server, has_row, is_active) in all {
            if let Some(server) = server {
                current.owners.insert(id.clone(), owner(server, id.0, &id.1));
            }
            if has_row || server.is_none() {
                let mut row = row(id.0, &id.1);
                if let Some(active) = row.active_mut() {
                    *active = is_active;
                }
                current.rows.insert(id, row);
            }
        }
        current
    })
}

/// What somebody else does to a row.
#[derive(Clone, Copy, Debug)]
enum Tampering {
    Remove,
    RemoveOwner,
    ChangeOwner,
    SwitchOff,
    AddTarget,
    Overwrite,
}

/// Somebody else writes to the tables.
#[derive(Clone, Debug)]
pub(super) struct Drifting(Vec<(prop::sample::Index, Tampering)>);

pub(super) fn drifting() -> impl Strategy<Value = Drifting> {
    use Tampering::{AddTarget, ChangeOwner, Overwrite, Remove, RemoveOwner, SwitchOff};
    let tampering = select(vec![Remove, RemoveOwner, ChangeOwner, SwitchOff, AddTarget, Overwrite]);
    prop::collection::vec((any::<prop::sample::Index>(), tampering), 0..5).prop_map(Drifting)
}

impl Drifting {
    pub(super) fn apply(&self, current: &mut Current) {
        for (which, tampering) in &self.0 {
            // In order: a failure that is replayed has to be the same.
            let mut ids: Vec<RowId> = current.rows.keys().cloned().collect();
            ids.sort();
            if ids.is_empty() {
                return;
            }
            let id = which.get(&ids);
            match tampering {
                Tampering::Remove => {
                    current.rows.remove(id);
                }
                Tampering::RemoveOwner => {
                    current.owners.remove(id);
                }
                Tampering::ChangeOwner => {
                    let others: BTreeMap<RowId, OwnerRow> = current.owners.clone().into_iter().collect();
                    let others: Vec<OwnerRow> = others.into_values().collect();
                    if let Some(owner) = current.owners.get_mut(id) {
                        let other = which.get(&others).clone();
                        (owner.object, owner.object_uid) = (other.object, other.object_uid);
                    }
                }
                Tampering::Overwrite => {
                    current.rows.insert(id.clone(), row(id.0, &id.1));
                }
                Tampering::SwitchOff => {
                    if let Some(active) = current.rows.get_mut(id).and_then(Row::active_mut) {
                        *active = false;
                    }
                }
                Tampering::AddTarget => {
                    if let Some(Row::Alias(alias)) = current.rows.get_mut(id) {
                        alias.goto.push_str(",w@elsewhere.org");
                    }
                }
            }
        }
    }
}
