//! What Postfix's configuration has to look up: what is declared needs it, or rows that stay although nothing declares them.
//! Pure.
//!
//! A look-up that is missing does harm: mail for a domain that is switched off leaves for its MX hosts, or is delivered as
//! somebody who doesn't own the mailbox. So none goes before the set loop has said that no row needs it: until then the
//! configuration in force counts beside what is declared.

use k8s_openapi::api::core::v1::ConfigMap;

use crate::desired::domain_classes;
use crate::desired::owner::{mbox_directories, owners};
use crate::index::Index;
use crate::object::ObjectName;
use crate::postfix::{Kept, Needs};
use crate::report::ServerReport;

/// What the configuration of the server called `name` needs. `tables`: those that it names. `report` is the set loop's last,
/// `in_force` what Postfix was handed last.
pub(super) fn needs(
    index: &Index,
    (name, tables): (&ObjectName, u64),
    report: Option<&ServerReport>,
    in_force: Option<&ConfigMap>,
) -> Needs {
    let declared = Needs {
        domains: domain_classes(index, name),
        transports: index.has_transports(name),
        disabled: index.has_guarded(name),
        owners: owners(index, name),
        directories: mbox_directories(index, name),
    };
    let settled = report.filter(|report| report.complete == Some(tables));
    let settled = settled.and_then(|report| report.settled.as_ref());
    if let Some(settled) = settled.filter(|settled| settled.needs == index.needs_version(name)) {
        return declared.with(&settled.kept);
    }
    let files = in_force.and_then(|config_map| config_map.data.as_ref());
    declared.with(&files.map(Kept::looked_up).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::api::{MailServerSpec, Reason};
    use crate::postfix::{self, MailOwner};
    use crate::report::{Counts, Finding, Settled};
    use crate::testing::{World, myhost};

    const TABLES: u64 = 7;

    fn report(needs: u64, kept: Kept) -> ServerReport {
        ServerReport {
            database: None,
            tables: Finding::good(Reason::Synced, ""),
            complete: Some(TABLES),
            needs,
            settled: Some(Settled { needs, kept }),
            released: None,
            drifted: 0,
            counts: Counts::default(),
        }
    }

    /// A world in which everything is looked up, and the configuration that was made of it.
    fn everything() -> (World, ConfigMap) {
        let mut world = World::with_alpha();
        let spec = json!({"serverRef": {"name": "myhost"}, "domain": "beta.example.org", "active": false, "uid": 950});
        world.domain("mail", "beta", 1, spec);
        world.mailbox(
            "mail",
            "bob",
            2,
            json!({"address": "bob@alpha.example.org", "active": false, "uid": 960}),
        );
        let needs = needs(&world.index, (&myhost(), TABLES), None, None);
        let spec: MailServerSpec =
            serde_json::from_value(json!({"hostname": "myhost.example.org", "lookupTables": "lmdb"}))
                .unwrap();
        let files = postfix::render(&myhost(), &spec, None, &needs).unwrap().files;
        (world, ConfigMap { data: Some(files), ..ConfigMap::default() })
    }

    fn prune(world: &mut World) {
        world.index.remove_domain(&ObjectName::new("mail", "beta"));
        world.index.remove_mailbox(&ObjectName::new("mail", "bob"));
    }

    fn looked_up(needs: &Needs) -> (bool, bool, Vec<&str>) {
        (needs.transports, needs.disabled, needs.owners.iter().map(|owner| owner.path.as_str()).collect())
    }

    const ALL: [&str; 3] = ["alpha.example.org/", "alpha.example.org/bob/", "beta.example.org/"];

    #[test]
    fn no_look_up_goes_before_the_tables_are_known_not_to_need_it() {
        let (mut world, live) = everything();
        let before = world.index.needs_version(&myhost());
        prune(&mut world);
        let now = world.index.needs_version(&myhost());
        let settled = |needs| report(needs, Kept::default());
        for (case, told) in [
            ("an operator that has just started", None),
            ("a pass that is under way", Some(settled(before))),
            ("an outage", Some(ServerReport { settled: None, ..settled(now) })),
            ("other tables", Some(ServerReport { complete: Some(TABLES + 1), ..settled(now) })),
        ] {
            let needs = needs(&world.index, (&myhost(), TABLES), told.as_ref(), Some(&live));
            assert_eq!(looked_up(&needs), (true, true, ALL.to_vec()), "{case}");
        }
        let needs = needs(&world.index, (&myhost(), TABLES), Some(&settled(now)), Some(&live));
        assert_eq!(looked_up(&needs), (false, false, vec![]));
    }

    #[test]
    fn what_rows_need_that_nothing_declares_is_looked_up() {
        let (mut world, _) = everything();
        prune(&mut world);
        let owner = MailOwner { path: "beta.example.org/".to_owned(), uid: 950, gid: 901 };
        let kept = Kept { transports: true, disabled: true, owners: vec![owner] };
        let told = report(world.index.needs_version(&myhost()), kept);
        let needs = needs(&world.index, (&myhost(), TABLES), Some(&told), None);
        assert_eq!(looked_up(&needs), (true, true, vec!["beta.example.org/"]));
    }

    #[test]
    fn an_owner_that_is_declared_counts_before_one_that_is_kept() {
        let (world, _) = everything();
        let owner = MailOwner { path: "beta.example.org/".to_owned(), uid: 970, gid: 970 };
        let kept = Kept { owners: vec![owner], ..Kept::default() };
        let told = report(world.index.needs_version(&myhost()), kept);
        let needs = needs(&world.index, (&myhost(), TABLES), Some(&told), None);
        assert_eq!(needs.owners.iter().map(|owner| owner.uid).collect::<Vec<_>>(), [901, 960, 950]);
    }

    /// Else Postfix would be reloaded, and all deferred mail tried, at every start of the operator.
    #[test]
    fn what_is_in_force_is_rendered_again_as_it_is() {
        let spec: MailServerSpec = serde_json::from_value(
            json!({"hostname": "myhost.example.org", "lookupTables": "lmdb", "mailStore": {"format": "Mbox"}}),
        )
        .unwrap();
        let mut world = World::with_alpha();
        world.server("mail", "myhost", serde_json::to_value(&spec).unwrap());
        world.domain(
            "mail",
            "beta",
            1,
            json!({"serverRef": {"name": "myhost"}, "domain": "beta.example.org"}),
        );
        world.mailbox("mail", "bob", 2, json!({"address": "bob@alpha.example.org", "uid": 950}));
        let told = report(world.index.needs_version(&myhost()), Kept::default());
        let rendered = |report, live: Option<&ConfigMap>| {
            let needs = needs(&world.index, (&myhost(), TABLES), report, live);
            postfix::render(&myhost(), &spec, None, &needs).unwrap().files
        };
        let settled = rendered(Some(&told), None);
        assert!(settled[postfix::owners::FILE].contains("beta.example.org/"), "{settled:?}");
        let live = ConfigMap { data: Some(settled.clone()), ..ConfigMap::default() };
        assert_eq!(rendered(None, Some(&live)), settled);
    }

    #[test]
    fn a_configuration_with_one_owner_names_none() {
        let live =
            |files: Value| ConfigMap { data: serde_json::from_value(files).unwrap(), ..ConfigMap::default() };
        let mbox = live(
            json!({"main.cf": "virtual_uid_maps = static:901\n", "owners": "901 901 alpha.example.org/\n"}),
        );
        let needs = needs(&World::with_alpha().index, (&myhost(), TABLES), None, Some(&mbox));
        assert_eq!(looked_up(&needs), (false, false, vec![]));
    }
}
