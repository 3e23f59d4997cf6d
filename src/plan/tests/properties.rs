//! What holds of every plan, whatever is declared, whatever is in the tables, and whatever happened before.

use proptest::prelude::*;
use proptest::sample::select;

use super::database::{carry_out, drifting, strangers};
use super::passes::{Circumstances, Running, all_keys, circumstances, every_verdict, id};
use super::reached::Comparison;
use super::world::{Model, Scope, Step, beginning, servers, step, tell};
use super::*;
use crate::index::Index;

/// Whatever was before, the end is the same.
const WITHOUT_HISTORY: Scope = Scope { remains: false, both_servers_admins: false };

const EVERYTHING: Scope = Scope { remains: true, both_servers_admins: true };

fn index_after(steps: &[Step]) -> Index {
    let mut index = Index::default();
    for step in steps {
        tell(&mut index, step);
    }
    index
}

/// Steps of which some have been worked on before, in the order in which the keys sort them.
fn shuffled(steps: &[Step], keys: &[u16]) -> Vec<Step> {
    let mut order: Vec<usize> = (0..steps.len()).collect();
    order.sort_by_key(|at| keys[at % keys.len()].rotate_left(u32::try_from(at / keys.len()).unwrap()));
    order.into_iter().map(|at| steps[at].clone()).collect()
}

/// One way to come to `goal`: what is to be, and what comes and goes in between, in any order, with passes in between.
fn run(goal: &Model, noise: &[Step], keys: &[u16], passes: &[bool]) -> Running {
    let mut steps = shuffled(&[&Model::default().steps_to(goal), noise].concat(), keys);
    steps.extend(shuffled(&Model::after(&steps).steps_to(goal), keys));
    let mut running = Running::default();
    for (step, has_pass) in steps.iter().zip(passes.iter().cycle()) {
        running.tell(step);
        if *has_pass {
            running.pass();
        }
    }
    running.pass();
    running
}

/// Of several rows in the way another one may be told once a pass has let go of more: of a server that returned, or of an
/// object that is gone.
fn without_row(verdict: Verdict) -> Verdict {
    let is_in_the_way = verdict.reason == Reason::RowExists || verdict.message.ends_with("owns this row");
    if is_in_the_way { Verdict::new(&verdict.object, Reason::RowExists, "") } else { verdict }
}

fn steps(scope: Scope, most: usize) -> impl Strategy<Value = Vec<Step>> {
    let steps = prop::collection::vec(step(scope), 0..most);
    (beginning(), steps).prop_map(|(beginning, steps)| [beginning, steps].concat())
}

proptest! {
    #[test]
    fn a_plan_reaches_what_is_desired_and_harms_nobody(
        before in steps(EVERYTHING, 25),
        changes in prop::collection::vec(step(EVERYTHING), 0..12),
        strangers in strangers(),
        drifting in drifting(),
        circumstances in circumstances(),
    ) {
        let mut current = strangers;
        Circumstances::default().compare_all(&index_after(&before), &mut current);
        drifting.apply(&mut current);
        let steps = [before, changes].concat();
        let (index, model) = (index_after(&steps), Model::after(&steps));
        for server in &servers() {
            let was = current.clone();
            let keys = all_keys(&index, &was, server);
            let pass = circumstances.plan(&index, &was, server, keys, &mut Unobtained::default());
            carry_out(&mut current, &pass.plan, &id(server), circumstances.existing_rows);
            let (before, after, circumstances) = (&was, &current, &circumstances);
            Comparison { model: &model, index: &index, server, circumstances, before, after, pass: &pass }.check();
            let keys = all_keys(&index, &current, server);
            let again = circumstances.plan(&index, &current, server, keys, &mut Unobtained::default()).plan;
            prop_assert!(again.is_empty(), "a second plan is empty: {:?}", again);
        }
    }

    #[test]
    fn every_object_has_one_verdict(steps in steps(EVERYTHING, 40)) {
        let (index, model) = (index_after(&steps), Model::after(&steps));
        let mut told: Vec<ObjectId> = every_verdict(&index, &model).into_iter().map(|verdict| verdict.object).collect();
        told.sort();
        prop_assert_eq!(told, model.objects.keys().cloned().collect::<Vec<_>>());
    }

    #[test]
    fn no_order_of_events_changes_the_end(
        steps in steps(WITHOUT_HISTORY, 25),
        noise in prop::collection::vec(step(WITHOUT_HISTORY), 0..12),
        keys in prop::array::uniform2(prop::collection::vec(any::<u16>(), 16)),
        passes in prop::collection::vec(prop::bool::weighted(0.3), 1..12),
    ) {
        let mut goal = Model::after(&steps);
        // Rows of a server that is gone stay, for another of its name.
        let begun = Model::after(&steps[..2]);
        goal.servers.extend(begun.servers.into_iter().filter(|(name, _)| !goal.servers.contains_key(name)).collect::<Vec<_>>());
        let [one, other] = keys.map(|keys| run(&goal, &noise, &keys, &passes));
        prop_assert_eq!(&one.current.rows, &other.current.rows);
        prop_assert_eq!(&one.current.owners, &other.current.owners);
        for (object, said) in &one.said {
            prop_assert_eq!(Some(said), other.said.get(object));
        }
        prop_assert_eq!(one.said.len(), goal.objects.len());
        prop_assert_eq!(other.said.len(), goal.objects.len());
    }

    #[test]
    fn passes_over_touched_keys_end_where_a_full_comparison_does(
        steps in steps(Scope { both_servers_admins: false, ..EVERYTHING }, 50),
        strangers in strangers(),
        existing_rows in select(vec![ExistingRows::Fail, ExistingRows::Adopt]),
        passes in prop::collection::vec(any::<bool>(), 1..12),
    ) {
        let (mut current, circumstances) = (strangers, Circumstances { existing_rows, ..Circumstances::default() });
        // What another server leaves is no event for this one: it waits for the next full comparison.
        circumstances.compare_all(&index_after(&steps[..2]), &mut current);
        let mut running = Running { current, circumstances, ..Running::default() };
        for (step, has_pass) in steps.iter().zip(passes.iter().cycle()) {
            running.tell(step);
            if *has_pass {
                running.pass();
            }
        }
        running.pass();
        let Running { index, current, circumstances, said, .. } = running;
        for server in servers() {
            let keys = all_keys(&index, &current, &server);
            let pass = circumstances.plan(&index, &current, &server, keys, &mut Unobtained::default());
            prop_assert!(pass.plan.is_empty(), "{:?}", pass.plan);
            for verdict in pass.wanted.into_iter().flat_map(|(_, desired)| desired.verdicts) {
                let said = said.get(&verdict.object).cloned().map(without_row);
                prop_assert_eq!(said, Some(without_row(verdict)), "what a pass said still holds");
            }
        }
        let objects: Vec<ObjectId> = Model::after(&steps).objects.into_keys().collect();
        prop_assert_eq!(said.into_keys().collect::<Vec<_>>(), objects, "and everybody was told");
    }
}
