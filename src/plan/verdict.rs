//! What a plan finds out, told to the objects. Pure.

use crate::api::Reason;
use crate::desired::{Desired, Verdict, Warning};
use crate::index::Key;
use crate::index::rows::ObjectId;

/// Puts a verdict in the place of the one on the same object; gives it back where there is none.
pub(super) fn correct(verdicts: &mut [Verdict], verdict: Verdict) -> Option<Verdict> {
    let Some(old) = verdicts.iter_mut().find(|old| old.object == verdict.object) else {
        return Some(verdict);
    };
    let warning = verdict.warning.clone().or_else(|| old.warning.take());
    let maildir = old.maildir.take();
    *old = Verdict { maildir, ..verdict.with_warning(warning) };
    None
}

/// A `MailDomain` is told of its catch-all under its domain, the key before; what is wrong with the domain itself comes first.
pub(super) fn tell_domain(before: &mut [(Key, Desired)], key: &Key, told: Verdict) {
    let Some((Key::Domain(domain), desired)) = before.last_mut() else { return };
    let is_sound = |verdict: &Verdict| verdict.object == told.object && verdict.reason == Reason::Synced;
    if domain.as_str() == key.domain() && desired.verdicts.iter().any(is_sound) {
        correct(&mut desired.verdicts, told);
    }
}

/// Tells the object that its rows under the key at a place among `keys` are refused; what others are told there stays.
pub fn tell_refused(keys: &mut [(Key, Desired)], at: usize, message: &str) {
    let (before, rest) = keys.split_at_mut(at);
    let Some((key, desired)) = rest.first_mut() else { return };
    let Some(object) = desired.wants.first().map(|want| want.object.clone()) else { return };
    let refused = Verdict::new(&object, Reason::RowRefused, message.to_owned());
    match desired.verdicts.iter_mut().find(|verdict| verdict.object == object) {
        Some(verdict) => *verdict = refused,
        None => tell_domain(before, key, refused),
    }
}

/// Adds a warning to what an object is told. It has one reason: that of the first.
pub(super) fn warn(verdicts: &mut [Verdict], object: &ObjectId, (reason, message): Warning) {
    if let Some(verdict) = verdicts.iter_mut().find(|verdict| verdict.object == *object) {
        verdict.warning = Some(match verdict.warning.take() {
            Some((first, before)) => (first, format!("{before}; {message}").into()),
            None => (reason, message),
        });
    }
}
