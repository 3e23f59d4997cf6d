//! Rows that would defer mail, and which of them are left out.
//!
//! * Of every loop the youngest row is left out. What it answered for goes to the domain's catch-all then, as any address
//!   without a row, and that may close another loop: such a catch-all is left out too.
//! * Of what is left, every row is left out whose own expansion is too far. A row that leads to such a row is too far
//!   itself, so no row that stays leads to one that goes.
//!
//! So what stays can always be expanded. A row with a problem is judged by what it leads to, never by what leads to it.

use std::collections::HashSet;

use super::expansion::{EXPANSION_LIMIT, LOOK_UP_LIMIT, Unreasonable, expand};
use super::rows::{Router, Row, Written};
use crate::api::address::MAX_LOCAL_PART;
use crate::api::{Address, Reason};

/// Most addresses that the search for a loop looks at. It begins only where Postfix would give up.
const SEARCH_LIMIT: usize = 2 * EXPANSION_LIMIT;

/// Most addresses of a loop that a message shows.
const SHOWN: usize = 6;

/// Why a row is not written.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Problem {
    /// It leads back to itself, through these addresses.
    Loop(Vec<String>),
    /// It expands too far.
    TooFar(Unreasonable),
}

impl Problem {
    /// The reason for the object's condition.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::Loop(_) => Reason::AliasLoop,
            Self::TooFar(_) => Reason::TooManyTargets,
        }
    }
}

impl std::fmt::Display for Problem {
    /// A part of a sentence for people.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Loop(path) => {
                let mut shown: Vec<&str> = path.iter().map(String::as_str).collect();
                if shown.len() > SHOWN {
                    shown.splice(SHOWN - 1..shown.len() - 1, ["..."]);
                }
                write!(
                    f,
                    "mail would go in a circle and be deferred again and again, take one of these targets out: {}",
                    shown.join(" -> ")
                )
            }
            Self::TooFar(why) => write!(
                f,
                "{why}, and Postfix would defer every message to it: use fewer targets, or a mailing list"
            ),
        }
    }
}

enum Search {
    Nothing,
    Back(Vec<String>),
    TooMany,
}

/// The stages that leave rows out, in their order.
const STAGES: [Written; 3] = [Written::WithoutLoops, Written::WithoutCircles, Written::All];

impl Router<'_> {
    /// Why the row of an address is not written, if so; `None` also where it has no row.
    pub(super) fn problem(&self, address: &Address) -> Option<Problem> {
        let row = self.declared(address.local_part(), address.domain()).filter(|row| !self.is_sound(row))?;
        STAGES.into_iter().find_map(|stage| self.left_out_for(&row, stage))
    }

    /// Whether a row is not among those that count at a stage.
    pub(super) fn is_left_out(&self, row: &Row<'_>, stage: Written) -> bool {
        stage > Written::Declared
            && !self.is_sound(row)
            && STAGES.into_iter().filter(|at| *at <= stage).any(|at| self.left_out_for(row, at).is_some())
    }

    /// Whether all that is declared can be expanded from a row, and from each row on the way. Then none of them is left out.
    pub(super) fn is_sound(&self, row: &Row<'_>) -> bool {
        row.is_identity()
            || self.known(row, Written::Declared, || self.unsound(row).map(Problem::TooFar)).is_none()
    }

    /// A row on the way is met without a tag, say, and is left out for what its tagged addresses lead to: so each is followed
    /// from its own addresses too, those aside that were met.
    fn unsound(&self, row: &Row<'_>) -> Option<Unreasonable> {
        let mut met: HashSet<String> = HashSet::new();
        let mut seen: HashSet<Address> = [row.address.clone()].into();
        let mut rows = vec![row.address.clone()];
        let mut at = 0;
        while at < rows.len() {
            let own = rows[at].clone();
            for root in std::iter::once(own.to_string()).chain(self.tagged(&own)) {
                if met.contains(&root) {
                    continue;
                }
                let expanded = expand(self, &root, Written::Declared, |address, hit| {
                    met.insert(address.to_owned());
                    if !hit.row.is_identity() && seen.insert(hit.row.address.clone()) {
                        rows.push(hit.row.address.clone());
                    }
                });
                if let Err(why) = expanded {
                    return Some(why);
                }
            }
            at += 1;
        }
        let sound = rows.into_iter().map(|address| ((address, Written::Declared), None));
        self.known.borrow_mut().extend(sound);
        None
    }

    /// Why a row that counted until then is left out for a stage. Looks only at the rows of the stage before.
    fn left_out_for(&self, row: &Row<'_>, stage: Written) -> Option<Problem> {
        self.known(row, stage, || match stage {
            Written::Declared => None,
            Written::WithoutLoops => self.closes_a_loop(row),
            Written::WithoutCircles => self.is_in_a_circle(row),
            Written::All => self.unreasonable(row, Written::WithoutCircles).map(Problem::TooFar),
        })
    }

    fn known(
        &self,
        row: &Row<'_>,
        stage: Written,
        find: impl FnOnce() -> Option<Problem>,
    ) -> Option<Problem> {
        let key = (row.address.clone(), stage);
        if let Some(known) = self.known.borrow().get(&key) {
            return known.clone();
        }
        let found = find();
        self.known.borrow_mut().insert(key, found.clone());
        found
    }

    fn closes_a_loop(&self, row: &Row<'_>) -> Option<Problem> {
        let older = |other: &Row<'_>| self.rank(other) < self.rank(row);
        let search = |root: &str, kind| {
            Option::<Problem>::from(self.search(row, root, kind, Written::Declared, older))
        };
        search(row.address.as_str(), Loop::Same).or_else(|| {
            self.tagged(&row.address)
                .find_map(|tagged| search(&tagged, Loop::Same).or_else(|| search(&tagged, Loop::Growing)))
        })
    }

    fn is_in_a_circle(&self, row: &Row<'_>) -> Option<Problem> {
        if !row.address.local_part().is_empty() {
            return None;
        }
        self.unreasonable(row, Written::WithoutLoops)?;
        self.search(row, row.address.as_str(), Loop::Same, Written::WithoutLoops, |_| true).into()
    }

    /// Why Postfix would give up on mail for the row's address, without a tag or with one.
    fn unreasonable(&self, row: &Row<'_>, written: Written) -> Option<Unreasonable> {
        let give_up = |root: &str| expand(self, root, written, |_, _| {}).err();
        give_up(row.address.as_str())
            .or_else(|| self.tagged(&row.address).find_map(|tagged| give_up(&tagged)))
    }

    /// The address with tags that no row has, one for each delimiter: no address with dots like these can be declared. What
    /// a catch-all or a row for a tagged address leads to gets no tag from there. Delimiters differ: `owner-...` is no
    /// tagged address, while `owner+...` is.
    fn tagged(&self, address: &Address) -> impl Iterator<Item = String> {
        let (local_part, domain) = (address.local_part(), address.domain());
        let tagged = self.delimiters().chars().map(move |delimiter| format!("{local_part}{delimiter}..."));
        tagged
            .filter(move |tagged| self.split(tagged).is_some_and(|(base, _)| base == local_part))
            .map(move |tagged| format!("{tagged}@{domain}"))
    }

    /// Follows a row from one of its addresses over rows that `may_follow` admits until it comes back, nearest first.
    fn search(
        &self,
        row: &Row<'_>,
        root: &str,
        kind: Loop,
        written: Written,
        may_follow: impl Fn(&Row<'_>) -> bool,
    ) -> Search {
        // The root is not among them: it has to be found again.
        let mut seen: HashSet<String> = HashSet::new();
        let mut found: Vec<(String, usize)> = vec![(root.to_owned(), 0)];
        let mut at = 0;
        while at < found.len() {
            let address = found[at].0.as_str();
            let hit =
                self.look_up(address, written).filter(|hit| kind == Loop::Growing || !hit.ends_at(address));
            match hit {
                Some(hit)
                    if at > 0
                        && hit.row.address == row.address
                        && (kind == Loop::Same || local_part(address).len() > local_part(root).len()) =>
                {
                    return Search::Back(path(&found, at, root));
                }
                Some(hit) if at == 0 || may_follow(&hit.row) => {
                    let new = hit
                        .results
                        .into_iter()
                        .filter(|result| is_short(result) && seen.insert(result.to_string()));
                    found.extend(new.map(|result| (result.into_owned(), at)).collect::<Vec<_>>());
                }
                _ => {}
            }
            if found.len() > SEARCH_LIMIT || self.look_ups.get() > LOOK_UP_LIMIT {
                return Search::TooMany;
            }
            at += 1;
        }
        Search::Nothing
    }
}

/// How a row may come back to itself for ever.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Loop {
    /// Over rows whose own address is not in their results: Postfix expands any other address once only.
    Same,
    /// With a tag that grows each time, so that no address is met twice.
    Growing,
}

fn local_part(address: &str) -> &str {
    address.split_once('@').map_or(address, |(local_part, _)| local_part)
}

/// Whether an address is not longer than one that can be declared: a longer one has grown, and leads where a shorter one
/// led already.
fn is_short(address: &str) -> bool {
    local_part(address).len() <= MAX_LOCAL_PART
}

impl From<Search> for Option<Problem> {
    fn from(search: Search) -> Self {
        match search {
            Search::Nothing => None,
            Search::Back(path) => Some(Problem::Loop(path)),
            Search::TooMany => Some(Problem::TooFar(Unreasonable::Work)),
        }
    }
}

/// The way from the start to the address at `at`, which the row of the start answers for.
fn path(found: &[(String, usize)], mut at: usize, start: &str) -> Vec<String> {
    let mut path = if found[at].0 == start { Vec::new() } else { vec![start.to_owned()] };
    while at > 0 {
        path.push(found[at].0.clone());
        at = found[at].1;
    }
    path.push(start.to_owned());
    path.reverse();
    path
}
