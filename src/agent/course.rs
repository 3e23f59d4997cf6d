//! What to do next about what is mounted. Pure: the time is told.
//!
//! A configuration that Postfix refuses is kept out, and nothing else with it: accounts, certificates, credentials and what
//! is asked of the pod are taken along with the configuration that runs.

use std::time::Instant;

use super::Error;
use super::config::Mounted;
use super::contract::Refused;
use super::retry::Retry;

#[cfg(test)]
mod tests;

/// What runs, what became of the last try, and what is wrong.
pub(super) struct Course {
    running: Mounted,
    /// Whether what runs is in place as well: not after an exchange that failed half-way.
    in_place: bool,
    /// The last candidate, unless it was all that is mounted and refused.
    tried: Retry<Mounted>,
    refusal: Option<Refusal>,
    /// Why the last try failed, where that was no refusal.
    failure: Option<String>,
    complaints: Complaints,
}

/// A configuration that is kept out.
struct Refusal {
    /// What was mounted, its accounts not counted.
    of: Retry<Mounted>,
    error: String,
}

/// What is wrong with a configuration that runs.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Complaints {
    /// With Secrets, which the configuration does without.
    pub secrets: Option<String>,
    /// With the mail store: everybody else's mail goes on.
    pub store: Option<String>,
}

/// What may be taken next.
pub(super) struct Candidate {
    pub mounted: Mounted,
    /// Whether it is all that is mounted; else it is the configuration that runs, with the rest of what is mounted.
    pub is_wanted: bool,
}

impl Candidate {
    /// All that is mounted.
    pub(super) fn wanted(mounted: Mounted) -> Self {
        Self { mounted, is_wanted: true }
    }
}

/// What is to be done about a candidate.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Step {
    /// Nothing now.
    Rest,
    /// It runs, and something in the mail store may still be to be done.
    Own,
    /// It is to be checked, put in place and reloaded.
    Exchange,
}

impl Course {
    /// Begins with a configuration that runs.
    pub(super) fn new(running: Mounted) -> Self {
        Self {
            running,
            in_place: true,
            tried: Retry::default(),
            refusal: None,
            failure: None,
            complaints: Complaints::default(),
        }
    }

    pub(super) fn running(&self) -> &Mounted {
        &self.running
    }

    /// What of the mounted files, whose look-up files are still to be compiled, may be taken.
    pub(super) fn candidate(&mut self, wanted: &Mounted, now: Instant) -> Candidate {
        if let Some(refusal) = &self.refusal {
            let refused = wanted.without_accounts();
            if !refusal.of.is_last(&refused) {
                self.refusal = None;
            } else if !refusal.of.is_due(&refused, now) {
                return Candidate { mounted: wanted.configured_as(&self.running), is_wanted: false };
            }
        }
        Candidate::wanted(wanted.clone())
    }

    /// What is to be done about a candidate, of which `usable` can be used.
    pub(super) fn step(&self, candidate: &Candidate, usable: &Mounted, now: Instant) -> Step {
        // What could not be compiled before may be what runs.
        let is_again = candidate.is_wanted && self.refusal.is_some();
        if !is_again && !self.tried.is_due(&candidate.mounted, now) {
            Step::Rest
        } else if self.in_place && *usable == self.running {
            Step::Own
        } else {
            Step::Exchange
        }
    }

    /// Postfix refuses the mounted configuration, which is kept out until another one is mounted, but for a try now and then.
    pub(super) fn refused(&mut self, wanted: &Mounted, error: &Error, now: Instant) {
        if self.refusal.is_none() {
            self.failure = None;
        }
        let mut of = self.refused_before();
        of.refused(wanted.without_accounts(), now);
        self.refusal = Some(Refusal { of, error: error.to_string() });
    }

    /// The look-up files of the type that the mounted configuration names can't be compiled, which may pass.
    pub(super) fn not_compiled(&mut self, wanted: &Mounted, error: &Error, now: Instant) {
        let mut of = self.refused_before();
        of.failed(wanted.without_accounts(), now);
        self.refusal = Some(Refusal { of, error: error.to_string() });
    }

    fn refused_before(&mut self) -> Retry<Mounted> {
        self.refusal.take().map(|refusal| refusal.of).unwrap_or_default()
    }

    /// Not even with the configuration that runs can the look-up files be compiled. They are tried again at the next look.
    pub(super) fn left(&mut self, error: &Error) {
        self.failure = Some(error.to_string());
        self.tried.forget();
    }

    /// A candidate could not be taken.
    pub(super) fn failed(&mut self, candidate: Candidate, error: &Error, now: Instant) {
        self.failure = Some(error.to_string());
        if candidate.is_wanted {
            self.refusal = None;
        }
        if error.is_final() {
            self.tried.refused(candidate.mounted, now);
        } else {
            self.tried.failed(candidate.mounted, now);
            self.in_place = false;
        }
    }

    /// A candidate runs, as `usable`. Gives whether mail may have been put off for what is in order now: its owner, or
    /// something in the mail store.
    pub(super) fn done(
        &mut self,
        candidate: Candidate,
        usable: Mounted,
        complaints: Complaints,
        now: Instant,
    ) -> bool {
        let is_mended = complaints.store != self.complaints.store || usable.owners() != self.running.owners();
        if candidate.is_wanted {
            self.refusal = None;
        }
        if complaints.store.is_some() {
            self.tried.failed(candidate.mounted, now);
        } else {
            self.tried.settled(candidate.mounted);
        }
        (self.running, self.in_place, self.failure, self.complaints) = (usable, true, None, complaints);
        is_mended
    }

    /// What is told of the mounted configuration, if not all of it is in force.
    pub(super) fn told(&self, wanted: &Mounted) -> Option<Refused> {
        let refusal = self.refusal.as_ref().map(|refusal| refusal.error.as_str());
        let kept_out = [refusal, self.failure.as_deref()];
        let is_kept_out = kept_out.iter().any(Option::is_some);
        let parts = [self.complaints.secrets.as_deref(), self.complaints.store.as_deref()];
        let mut errors: Vec<&str> = kept_out.into_iter().chain(parts).flatten().collect();
        errors.dedup();
        (!errors.is_empty()).then(|| Refused {
            config_hash: if is_kept_out { wanted.hash() } else { self.running.hash() },
            error: errors.join("; "),
        })
    }
}
