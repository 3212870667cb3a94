//! How does an answer of LAPI's become what we remember?

use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnet::IpNet;

use super::table::Fields;
use super::{DecisionSet, PARTS, PINNED, Source, Types, read, write};
use crate::crowdsec::answer::Receive;
use crate::crowdsec::decision::{Decision, Remediation};

/// An answer of LAPI's on its way into the set. Dropped before it is complete, it leaves what it added, which is real,
/// and removes nothing that it did not name.
///
/// A full answer is applied in place: what it names is added or renewed at once, and what it did not name goes only
/// when it ended complete and is believed. So a look-up never finds less than what both the old state and the new hold.
/// Networks show all their changes at its end.
pub struct Takeover {
    set: Arc<DecisionSet>,
    types: Types,
    now: Instant,
    full: bool,
    epoch: u16,
    /// Decisions without an id that this answer named as new. Newer LAPIs send `new` first, so a `deleted` of the same
    /// key that follows in the same answer means the decision before this one.
    new_without_id: Vec<(IpNet, String, String)>,
    pub taken: Taken,
}

/// What an answer held.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Taken {
    pub new: usize,
    /// Of the new ones, those that were known already.
    pub renewed: usize,
    /// Decisions that ended before their time.
    pub ended: usize,
    pub unreadable: usize,
    pub first_unreadable: Option<String>,
    /// Decisions of type `allow`, which exempt nobody.
    pub allows: usize,
    /// Captchas that nobody could show, so that the fallback stands in.
    pub captchas_without_provider: usize,
}

impl Taken {
    /// Decisions that were not known before.
    pub fn added(&self) -> usize {
        self.new - self.renewed
    }
}

/// A full answer that would end most of what stands. LAPI 1.7 answers 200 with a short, well-formed list when its
/// database fails in mid-way, so the caller asks again before it believes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Implausible {
    pub would_end: usize,
    pub of: usize,
}

impl Takeover {
    pub fn new(set: &Arc<DecisionSet>, types: Types, now: Instant, full: bool) -> Self {
        let mut last = write(&set.epoch);
        if full {
            *last = (*last + 1) % PINNED;
        }
        let epoch = *last;
        drop(last);
        Self { set: set.clone(), types, now, full, epoch, new_without_id: Vec::new(), taken: Taken::default() }
    }

    /// The answer ended complete. Of a full one, ends what it did not name, unless that is implausibly much.
    pub fn complete(self) -> Result<Taken, Implausible> {
        let would_end = self.unnamed();
        let of = would_end + self.taken.renewed;
        if self.full && of >= 100 && would_end * 2 > of {
            return Err(Implausible { would_end, of });
        }
        Ok(self.complete_and_believed())
    }

    /// The same for an answer that is believed whatever it ends: the second of two that say the same.
    pub fn complete_and_believed(mut self) -> Taken {
        if self.full {
            self.taken.ended = self.unnamed();
            let epoch = self.epoch;
            self.set.retain(0..PARTS, |fields| fields.epoch == epoch || fields.epoch == PINNED);
        }
        std::mem::take(&mut self.taken)
    }

    /// A decision that a snapshot brings back into an empty set, where there is none to renew.
    pub fn recalled(&mut self, value: IpNet, id: u64, left: Duration, source: &Arc<Source>) {
        if let Some(remediation) = self.types.remediation(&source.kind).filter(|_| !left.is_zero()) {
            let source = write(&self.set.sources).intern(source.clone());
            self.put(value, id, left, source, remediation, |_| false);
        }
    }

    fn put(
        &mut self,
        value: IpNet,
        id: u64,
        duration: Duration,
        source: u32,
        remediation: Remediation,
        same: impl Fn(Fields) -> bool,
    ) {
        let fields =
            Fields { id, expires: self.set.end_of(self.now, duration), source, epoch: self.epoch, remediation };
        self.taken.new += 1;
        self.taken.renewed += usize::from(self.set.put(value, fields, same));
    }

    /// How many decisions stand that a full answer did not name.
    fn unnamed(&self) -> usize {
        let (now, epoch) = (self.set.tenths_at(self.now), self.epoch);
        let mut unnamed = 0;
        self.set.each(|_, fields| {
            unnamed += usize::from(fields.epoch != epoch && fields.epoch != PINNED && fields.expires > now);
        });
        unnamed
    }

    /// Recognises the entry that a decision renews or deletes: by id, or where there is none by scope and type.
    fn same(&self, decision: &Decision) -> impl Fn(Fields) -> bool + use<> {
        let wanted = decision.id.unwrap_or(0);
        // Indexes of the sources with this scope and type; only wanted where no id tells decisions apart.
        let alike = match decision.id {
            Some(_) => Vec::new(),
            None => read(&self.set.sources).alike(&decision.scope, &decision.kind),
        };
        move |fields| fields.epoch != PINNED && fields.id == wanted && (wanted != 0 || alike.contains(&fields.source))
    }
}

/// Wherever the answer ended.
impl Drop for Takeover {
    fn drop(&mut self) {
        self.set.settle();
    }
}

impl Receive for Takeover {
    fn added(&mut self, decision: Decision) {
        let Some(remediation) = self.types.remediation(&decision.kind) else {
            self.taken.allows += 1;
            return;
        };
        // One that has ended already (LAPI says `0s`) would only take up room.
        if decision.duration.is_zero() {
            return;
        }
        let is_captcha = Remediation::from_type(&decision.kind) == Some(Remediation::Captcha);
        self.taken.captchas_without_provider += usize::from(is_captcha && remediation != Remediation::Captcha);
        let same = self.same(&decision);
        let Decision { id, origin, scenario, scope, kind, value, duration } = decision;
        if id.is_none() && !self.full {
            self.new_without_id.push((value, scope.clone(), kind.clone()));
        }
        let source = write(&self.set.sources).intern(Source { origin, scenario, scope, kind });
        self.put(value, id.unwrap_or(0), duration, source, remediation, same);
    }

    fn deleted(&mut self, decision: Decision) {
        // A full answer lists every decision that ever ended; those it does not name as new go at its end anyway.
        if self.full {
            return;
        }
        let named = |(value, scope, kind): &(IpNet, String, String)| {
            decision.value == *value && decision.scope == *scope && decision.kind == *kind
        };
        if decision.id.is_none() && self.new_without_id.iter().any(named) {
            return;
        }
        // LAPI names those too that ended by themselves, give or take a second between its clock and ours.
        let soon = self.set.tenths_at(self.now) + 10;
        let removed = self.set.remove(decision.value, self.same(&decision));
        self.taken.ended += usize::from(removed.is_some_and(|fields| fields.expires > soon));
    }

    fn unreadable(&mut self, reason: String) {
        self.taken.unreadable += 1;
        self.taken.first_unreadable.get_or_insert(reason);
    }
}
