//! What rows need of the configuration that nothing declares: rows stay where a deletion is held back, where an object can't
//! be read, and where its policy says so, and Postfix goes on finding them.

use std::collections::BTreeMap;

use super::{MAIN_CF, MailOwner, Needs, owners};
use crate::postfix::maps::Map;

/// What some rows need of the configuration.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Kept {
    /// Some domain has a transport of its own, or is switched off.
    pub transports: bool,
    /// Some mailbox is switched off.
    pub disabled: bool,
    /// Directories and mbox files of rows that name an owner.
    pub owners: Vec<MailOwner>,
}

impl Kept {
    /// All that a rendered configuration looks up, by the names of its files.
    #[must_use]
    pub fn looked_up(files: &BTreeMap<String, String>) -> Self {
        let main_cf = files.get(MAIN_CF).map_or("", String::as_str);
        let value = |parameter: &str| {
            let of = |line: &'_ str| line.strip_prefix(parameter)?.strip_prefix(" = ").map(str::to_owned);
            main_cf.lines().find_map(of).unwrap_or_default()
        };
        let names = |parameter: &str, map: Map| value(parameter).contains(&format!("/{}", map.as_str()));
        // The list has the directories of mbox files too, whoever owns them.
        let list = files.get(owners::FILE).filter(|_| names("virtual_uid_maps", Map::Uid));
        Self {
            transports: !value("transport_maps").is_empty(),
            disabled: names("smtpd_recipient_restrictions", Map::Disabled),
            owners: list.map(|list| owners::parse(list)).unwrap_or_default(),
        }
    }
}

impl Needs {
    /// With what is kept; where both name an owner, that of what is declared counts.
    #[must_use]
    pub fn with(mut self, kept: &Kept) -> Self {
        let all = kept.owners.iter().chain(&self.owners).map(|owner| (owner.path.clone(), owner.clone()));
        self.owners = all.collect::<BTreeMap<_, _>>().into_values().collect();
        self.transports |= kept.transports;
        self.disabled |= kept.disabled;
        self
    }
}
