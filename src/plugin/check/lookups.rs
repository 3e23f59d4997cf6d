//! Look-ups of an address with a known answer through every map of main.cf. Pure.

use std::collections::BTreeSet;

use super::configuration::parameters;
use super::report::Check;
use crate::api::Address;
use crate::plugin::pod::Said;
use crate::plugin::rows::Rows;

/// Parameters that name maps.
pub(super) const PARAMETERS: [&str; 8] = [
    "virtual_mailbox_domains",
    "virtual_alias_maps",
    "virtual_mailbox_maps",
    "relay_domains",
    "transport_maps",
    "smtpd_recipient_restrictions",
    "virtual_uid_maps",
    "virtual_gid_maps",
];

/// What a look-up has to give.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Expected {
    /// An answer, whatever it is: a domain's.
    Any,
    /// This answer.
    Text(String),
    /// These targets, and perhaps others that somebody else wrote there.
    Targets(BTreeSet<String>),
    /// The key itself, or nothing, which comes to the same: of a mailbox in look-up files.
    Itself,
    /// None.
    Nothing,
}

/// One key through the maps of one parameter, in their order.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Lookup {
    pub parameter: &'static str,
    /// Maps, as `postmap -q` takes them.
    pub maps: Vec<String>,
    /// What is looked up.
    pub key: String,
    expected: Expected,
}

/// The look-ups to try with `address`, a mailbox whose mail arrives. `printed` is what `postconf -x` prints of
/// [`PARAMETERS`].
pub(super) fn plan(printed: &str, rows: Rows<'_>, address: &Address) -> Vec<Lookup> {
    let parameters = parameters(printed);
    let expected = |parameter| match parameter {
        "virtual_alias_maps" => match rows.alias(address.as_str()) {
            Some(found) if rows.in_files() && found.row.goto == address.as_str() => Expected::Itself,
            Some(found) => Expected::Targets(targets(&found.row.goto)),
            None => Expected::Nothing,
        },
        "virtual_mailbox_maps" => rows
            .mailbox(address.as_str())
            .map_or(Expected::Nothing, |found| Expected::Text(found.row.maildir)),
        // The owner's are maps only where somebody names one; the server's own is the answer then too.
        "virtual_mailbox_domains" | "virtual_uid_maps" | "virtual_gid_maps" => Expected::Any,
        _ => Expected::Nothing,
    };
    PARAMETERS
        .into_iter()
        .filter_map(|parameter| {
            let maps = maps(parameters.get(parameter)?);
            let by_domain = matches!(parameter, "virtual_mailbox_domains" | "relay_domains");
            let key = if by_domain { address.domain() } else { address.as_str() };
            // The way of a domain's mail is the domain's own choice: that the map answers at all is enough.
            let expected = match rows.domain(address.domain()) {
                Some(found) if parameter == "transport_maps" && found.row.transport != "virtual" => {
                    Expected::Text(found.row.transport)
                }
                _ => expected(parameter),
            };
            (!maps.is_empty()).then(|| Lookup { parameter, maps, key: key.to_owned(), expected })
        })
        .collect()
}

/// The words of a value that name maps: `type:place`. Maps without a place have no accounts in them.
fn maps(value: &str) -> Vec<String> {
    let words = value.split([' ', ',', '\t']);
    words.filter(|word| word.contains(":/")).map(str::to_owned).collect()
}

fn targets(goto: &str) -> BTreeSet<String> {
    goto.split(',').map(|target| target.trim().to_owned()).filter(|target| !target.is_empty()).collect()
}

impl Lookup {
    /// Whether there has to be no answer.
    pub(super) fn expects_nothing(&self) -> bool {
        self.expected == Expected::Nothing
    }

    /// The maps that Postfix asks: the first that answers ends its search, and what a mailbox's own rows answer is in the first.
    pub(super) fn asked(&self) -> &[String] {
        let asked = if self.expects_nothing() { self.maps.len() } else { 1 };
        self.maps.get(..asked).unwrap_or_default()
    }

    /// Judges the answers of the maps, in their order.
    pub(super) fn judge(&self, answers: &[Said]) -> Check {
        let failed = self.maps.iter().zip(answers).find(|(_, said)| is_error(said));
        if let Some((map, said)) = failed {
            let why = said.stderr.lines().last().unwrap_or("no reason is told");
            let message =
                format!("{} {map} does not answer: {why}: see whether the database is up", self.parameter);
            return Check::failed("look-up", message);
        }
        let answer = answers.iter().find(|said| said.code == 0).map(|said| said.stdout.as_str());
        let told = answer.unwrap_or("nothing");
        let maps = match self.maps.len() {
            1 => "1 map".to_owned(),
            number => format!("{number} maps"),
        };
        let asked = format!("{} ({maps}) gives {told} for {}", self.parameter, self.key);
        match self.wanted_instead(answer) {
            None => Check::ok("look-up", asked),
            Some(wanted) => Check::failed(
                "look-up",
                format!(
                    "{asked} and should give {wanted}: see the conditions of the object, and who else writes to the tables"
                ),
            ),
        }
    }

    fn wanted_instead(&self, answer: Option<&str>) -> Option<String> {
        match (&self.expected, answer) {
            // access(5): as if nothing were found.
            (Expected::Any, Some(_))
            | (Expected::Nothing, None | Some("DUNNO"))
            | (Expected::Itself, None) => None,
            (Expected::Itself, Some(answer)) if answer == self.key => None,
            (Expected::Text(text), Some(answer)) if text == answer => None,
            (Expected::Targets(wanted), Some(answer)) if wanted.is_subset(&targets(answer)) => None,
            (Expected::Any, None) => Some("an answer".to_owned()),
            (Expected::Nothing, Some(_)) => Some("nothing".to_owned()),
            (Expected::Itself, Some(_)) => Some(self.key.clone()),
            (Expected::Text(text), _) => Some(text.clone()),
            (Expected::Targets(wanted), _) => {
                Some(wanted.iter().map(String::as_str).collect::<Vec<_>>().join(","))
            }
        }
    }
}

/// postmap(1) ends with 1 both for no answer and for an error, and says something only of the second.
fn is_error(said: &Said) -> bool {
    said.code > 1 || (said.code == 1 && !said.stderr.is_empty())
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use serde_json::json;

    use super::*;
    use crate::testing::{World, myhost};

    const PRINTED: &str = "virtual_mailbox_domains = mysql:/c/domains_maps.cf\n\
        virtual_alias_maps = mysql:/c/alias_maps.cf mysql:/c/alias_domain_maps.cf\n\
        virtual_mailbox_maps = mysql:/c/mailbox_maps.cf\ntransport_maps =\n\
        smtpd_recipient_restrictions = check_recipient_access mysql:/c/disabled_maps.cf\n";

    fn lookups() -> Vec<Lookup> {
        let mut world = World::with_alpha();
        world.mailbox(
            "mail",
            "alfred",
            2,
            json!({"address": "alfred@alpha.example.org", "forwardTo": ["x@elsewhere.org"]}),
        );
        let address = Address::parse("alfred@alpha.example.org").unwrap();
        plan(PRINTED, Rows { index: &world.index, server: &myhost(), maildirs: &HashMap::new() }, &address)
    }

    fn judge(parameter: &str, answers: &[(i32, &str, &str)]) -> Check {
        let said = |(code, stdout, stderr): &(i32, &str, &str)| Said {
            code: *code,
            stdout: (*stdout).to_owned(),
            stderr: (*stderr).to_owned(),
        };
        let lookups = lookups();
        let lookup = lookups.iter().find(|lookup| lookup.parameter == parameter).unwrap();
        lookup.judge(&answers.iter().map(said).collect::<Vec<_>>())
    }

    #[test]
    fn every_map_of_main_cf_is_asked() {
        let asked: Vec<_> =
            lookups().into_iter().map(|lookup| (lookup.parameter, lookup.maps.len(), lookup.key)).collect();
        let address = "alfred@alpha.example.org".to_owned();
        assert_eq!(
            asked,
            [
                ("virtual_mailbox_domains", 1, "alpha.example.org".to_owned()),
                ("virtual_alias_maps", 2, address.clone()),
                ("virtual_mailbox_maps", 1, address.clone()),
                ("smtpd_recipient_restrictions", 1, address),
            ]
        );
    }

    #[test]
    fn the_first_answer_counts_and_targets_of_others_are_no_fault() {
        let none = (1, "", "");
        assert!(judge("virtual_mailbox_domains", &[(0, "alpha.example.org", "")]).ok);
        assert!(!judge("virtual_mailbox_domains", &[none]).ok);
        assert!(judge("virtual_mailbox_maps", &[(0, "alpha.example.org/alfred/", "")]).ok);
        assert!(!judge("virtual_mailbox_maps", &[(0, "elsewhere/", "")]).ok);
        let goto = "alfred@alpha.example.org,other@elsewhere.org,x@elsewhere.org";
        assert!(judge("virtual_alias_maps", &[(0, goto, ""), none]).ok);
        assert!(!judge("virtual_alias_maps", &[(0, "alfred@alpha.example.org", ""), none]).ok);
        assert!(judge("smtpd_recipient_restrictions", &[none]).ok);
        assert!(judge("smtpd_recipient_restrictions", &[(0, "DUNNO", "")]).ok);
        assert!(!judge("smtpd_recipient_restrictions", &[(0, "550 5.1.1 mailbox disabled", "")]).ok);
    }

    #[test]
    fn a_mailbox_in_look_up_files_need_not_be_an_alias_of_itself() {
        let mut world = World::with_alpha();
        world.server("mail", "myhost", json!({"hostname": "myhost.example.org", "lookupTables": "lmdb"}));
        world.mailbox("mail", "alfred", 2, json!({"address": "alfred@alpha.example.org"}));
        let address = Address::parse("alfred@alpha.example.org").unwrap();
        let rows = Rows { index: &world.index, server: &myhost(), maildirs: &HashMap::new() };
        let lookups = plan("virtual_alias_maps = lmdb:/m/alias_maps\n", rows, &address);
        let is_ok = |code, stdout: &str| {
            lookups[0].judge(&[Said { code, stdout: stdout.to_owned(), stderr: String::new() }]).ok
        };
        assert!(is_ok(1, "") && is_ok(0, "alfred@alpha.example.org"));
        assert!(!is_ok(0, "x@elsewhere.org"));
    }

    #[test]
    fn an_error_is_not_taken_for_no_answer() {
        let check = judge("smtpd_recipient_restrictions", &[(1, "", "postmap: fatal: table x: query error")]);
        assert!(!check.ok && check.message.contains("postmap: fatal: table x: query error"));
    }
}
