//! What Postfix asks the database for a mailbox, as a query log would tell: which query, how many times, and how many rows
//! come back. Pure.

use std::collections::BTreeMap;

use super::lookups::Lookup;
use super::report::Check;
use crate::plugin::pod::Said;

/// Says, in the pod, what postmap(1) asks: `$0` is the configuration directory, `$1` the key and `$2` the map. Of all that
/// it says with `-v` only these lines leave the pod, and none goes to the pod's log: another one has the password. So it
/// reads a main.cf of its own without `maillog_file`: an empty one, as a `mysql_table(5)` has all it needs in its own file,
/// and an old one, because Postfix lets a new one cool down for two seconds.
pub(super) const SCRIPT: &str = "quiet=$(mktemp -d \"$0-check-XXXXXX\") && trap 'rm -rf \"$quiet\"' EXIT || exit; \
    touch -d @0 \"$quiet/main.cf\" && postmap -v -c \"$quiet\" -q \"$1\" \"$2\" 2>&1 | \
    grep -E '^postmap: (expanded and quoted query: >|dict_mysql_lookup: retrieved [0-9]+ rows)'";

/// Before the text of a query, which `<` ends, in what postmap(1) says (`dict_mysql.c`).
const QUERY: &str = "postmap: expanded and quoted query: >";

/// Before the number of rows.
const ROWS: &str = "postmap: dict_mysql_lookup: retrieved ";

/// One key in one map, and what the database should be asked for it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Query {
    file: String,
    /// The map, as `postmap -q` takes it.
    pub map: String,
    /// What is looked up.
    pub key: String,
    text: String,
    rows: u64,
}

/// The look-ups that ask the database. `rendered` has the line with the query of each look-up file.
pub(super) fn plan(rendered: &BTreeMap<&str, String>, lookups: &[Lookup]) -> Vec<Query> {
    let query = |(lookup, map): (&Lookup, &String)| {
        // proxymap(8) would ask in its own name, and say nothing here.
        let map = map.trim_start_matches("proxy:");
        let (file, line) = rendered.get_key_value(map.strip_prefix("mysql:")?.rsplit('/').next()?)?;
        let pattern = line.strip_prefix("query = ")?;
        // An aggregate of sub-queries is always one row, of NULL where there is no answer.
        let is_one_row = pattern.starts_with("SELECT COALESCE(");
        Some(Query {
            file: (*file).to_owned(),
            map: map.to_owned(),
            key: lookup.key.clone(),
            text: expand(pattern, &lookup.key)?,
            rows: u64::from(is_one_row || !lookup.expects_nothing()),
        })
    };
    let maps = lookups.iter().flat_map(|lookup| lookup.asked().iter().map(move |map| (lookup, map)));
    maps.filter_map(query).collect()
}

/// `mysql_table(5)`, for a key with nothing to quote, as declared addresses are: `%s` is the key, `%u` and `%d` its parts; a query that wants a domain is not asked without one.
fn expand(pattern: &str, key: &str) -> Option<String> {
    let (user, domain) = key.rsplit_once('@').map_or((key, None), |(user, domain)| (user, Some(domain)));
    let mut text = String::new();
    let mut characters = pattern.chars();
    while let Some(character) = characters.next() {
        let place = if character == '%' { characters.next()? } else { '%' };
        match place {
            _ if character != '%' => text.push(character),
            's' => text.push_str(key),
            'u' => text.push_str(user),
            'd' => text.push_str(domain?),
            other => text.push(other),
        }
    }
    Some(text)
}

impl Query {
    /// Judges what [`SCRIPT`] says.
    pub(super) fn judge(&self, said: &Said) -> Check {
        let Self { file, key, .. } = self;
        let lines = said.stdout.lines();
        let queries: Vec<&str> =
            lines.clone().filter_map(|line| line.strip_prefix(QUERY)?.strip_suffix('<')).collect();
        let rows: Option<u64> =
            lines.filter_map(|line| line.strip_prefix(ROWS)?.split(' ').next()?.parse().ok()).next_back();
        let fault = match (queries.as_slice(), rows) {
            ([], _) | (_, None) => "is not answered by the database: see whether it is up".to_owned(),
            ([query], _) if *query != self.text => {
                format!("is asked as {query} and should be as {}: see the check queries", self.text)
            }
            ([_], Some(rows)) if rows == self.rows => {
                return Check::ok("query log", format!("{file}: one query for {key}, rows: {rows}"));
            }
            ([_], Some(rows)) => format!(
                "gives {rows} rows and should give {}: see the conditions of the object, and who else writes to the tables",
                self.rows
            ),
            (several, _) => format!("is asked {} times: the database loses connections", several.len()),
        };
        Check::failed("query log", format!("{file}: {key} {fault}"))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use serde_json::json;

    use super::*;
    use crate::api::Address;
    use crate::plugin::check::lookups;
    use crate::plugin::rows::Rows;
    use crate::testing::{World, myhost};

    const PRINTED: &str = "virtual_mailbox_domains = proxy:mysql:/c/domains_maps.cf\n\
        virtual_alias_maps = proxy:mysql:/c/alias_maps.cf, proxy:mysql:/c/alias_domain_maps.cf\n\
        virtual_mailbox_maps = hash:/m/mailbox_maps\n\
        relay_domains = mysql:/c/relay_domains_maps.cf\n";

    fn queries() -> Vec<Query> {
        let mut world = World::with_alpha();
        world.mailbox("mail", "alfred", 2, json!({"address": "alfred@alpha.example.org"}));
        let address = Address::parse("alfred@alpha.example.org").unwrap();
        let rows = Rows { index: &world.index, server: &myhost(), maildirs: &HashMap::new() };
        let rendered = BTreeMap::from([
            ("domains_maps.cf", "query = SELECT domain FROM domain WHERE domain = '%s'".to_owned()),
            (
                "relay_domains_maps.cf",
                "query = SELECT domain FROM domain WHERE domain = '%s' AND backupmx = 1".to_owned(),
            ),
            (
                "alias_maps.cf",
                "query = SELECT COALESCE((SELECT goto FROM alias WHERE address = '%u@%d'))".to_owned(),
            ),
            // Not asked: the map before it answers.
            ("alias_domain_maps.cf", "query = SELECT goto FROM alias WHERE address = '%s'".to_owned()),
        ]);
        plan(&rendered, &lookups::plan(PRINTED, rows, &address))
    }

    fn judge(file: &str, stdout: &str) -> Check {
        let queries = queries();
        let query = queries.iter().find(|query| query.file == file).unwrap();
        query.judge(&Said { stdout: stdout.to_owned(), ..Said::default() })
    }

    #[test]
    fn every_map_in_the_database_is_asked_past_proxymap_with_what_stands_in_its_query() {
        let planned: Vec<_> =
            queries().into_iter().map(|query| (query.map, query.text, query.rows)).collect();
        let expected = [
            ("mysql:/c/domains_maps.cf", "SELECT domain FROM domain WHERE domain = 'alpha.example.org'", 1),
            (
                "mysql:/c/alias_maps.cf",
                "SELECT COALESCE((SELECT goto FROM alias WHERE address = 'alfred@alpha.example.org'))",
                1,
            ),
            (
                "mysql:/c/relay_domains_maps.cf",
                "SELECT domain FROM domain WHERE domain = 'alpha.example.org' AND backupmx = 1",
                0,
            ),
        ]
        .map(|(map, text, rows)| (map.to_owned(), text.to_owned(), rows));
        assert_eq!(planned, expected);
    }

    #[test]
    fn one_query_as_rendered_with_the_rows_that_it_should_give_is_well() {
        let asked = "postmap: expanded and quoted query: >SELECT domain FROM domain WHERE domain = 'alpha.example.org'<\n";
        let check = judge("domains_maps.cf", &format!("{asked}postmap: dict_mysql_lookup: retrieved 1 rows"));
        assert!(check.ok, "{check:?}");
        for (said, told) in [
            (format!("{asked}postmap: dict_mysql_lookup: retrieved 0 rows"), "gives 0 rows and should give 1"),
            (format!("{asked}{asked}postmap: dict_mysql_lookup: retrieved 1 rows"), "is asked 2 times"),
            (asked.to_owned(), "is not answered"),
            (String::new(), "is not answered"),
            (
                "postmap: expanded and quoted query: >SELECT 1<\npostmap: dict_mysql_lookup: retrieved 1 rows".to_owned(),
                "is asked as SELECT 1 and should be as SELECT domain",
            ),
        ] {
            let check = judge("domains_maps.cf", &said);
            assert!(!check.ok && check.message.contains(told), "{check:?}");
        }
    }

    #[test]
    fn a_query_that_wants_a_domain_is_not_asked_without_one() {
        assert_eq!(expand("SELECT '%d'", "alpha.example.org"), None);
        assert_eq!(
            expand("SELECT '%u', 5 %% 2", "alpha.example.org").unwrap(),
            "SELECT 'alpha.example.org', 5 % 2"
        );
    }
}
