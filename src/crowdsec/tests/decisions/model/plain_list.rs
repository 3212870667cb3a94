//! What do the rules say of a plain list of decisions, as plainly as they can be said?

use std::net::IpAddr;

use ipnet::IpNet;

use super::{ACCOUNTS, APART, VISITORS};
use crate::crowdsec::decisions::{Decision, Entry, Remediation};

#[derive(Clone)]
pub struct Known {
    decision: Decision,
    remediation: Remediation,
    pub end: u64,
    pub missed: Option<u64>,
}

impl Known {
    fn is(&self, other: &Decision) -> bool {
        let this = &self.decision;
        let keyed =
            this.id.is_some() || (this.source.scope == other.source.scope && this.source.kind == other.source.kind);
        meaning(this) == meaning(other) && this.id == other.id && keyed
    }
}

/// Whom a decision stands against, in one spelling, whatever spelling was typed.
fn meaning(decision: &Decision) -> (String, String) {
    let (scope, typed) = (decision.source.scope.to_lowercase(), decision.source.scenario.as_str());
    match scope.as_str() {
        "country" => (scope, typed.trim().to_uppercase()),
        "as" => (scope, typed.to_lowercase().replace("as", "").trim().to_owned()),
        "ip" | "range" => ("address".into(), decision.value.to_string()),
        _ => (decision.source.scope.clone(), typed.to_owned()),
    }
}

/// The plain list, with a method for each rule.
#[derive(Clone, Default)]
pub struct Model(pub Vec<Known>);

impl Model {
    pub fn add(&mut self, now: u64, new: &Decision) {
        let remediation = match new.source.kind.to_lowercase().as_str() {
            "allow" => return,
            "captcha" => Remediation::Captcha,
            _ => Remediation::Ban,
        };
        if new.duration.is_zero() {
            return;
        }
        self.0.retain(|known| !known.is(new));
        let end = now + new.duration.as_millis() as u64 / 100;
        self.0.push(Known { decision: new.clone(), remediation, end, missed: None });
    }

    /// New decisions count as they come. A decision that is known when it is named as deleted ends with the answer, unless
    /// the answer was cut.
    pub fn changes(&mut self, now: u64, cut: bool, entries: &[Entry]) {
        let (mut new, mut deleted) = (Vec::new(), Vec::new());
        for entry in entries {
            match entry {
                Entry::New(decision) => {
                    self.add(now, decision);
                    // Kept also if `add` ignores it: a deletion in the same answer must not count.
                    new.push(Known { decision: decision.clone(), remediation: Remediation::Ban, end: 0, missed: None });
                }
                Entry::Deleted(gone) if self.0.iter().any(|known| known.is(gone)) => deleted.push(gone),
                _ => {}
            }
        }
        for gone in deleted.into_iter().filter(|_| !cut) {
            if gone.id.is_some() || !new.iter().any(|known| known.is(gone)) {
                self.0.retain(|known| !known.is(gone));
            }
        }
    }

    /// Returns how many of the missing decisions LAPI has to confirm.
    pub fn everything(&mut self, now: u64, confirmed: bool, entries: &[Entry]) -> usize {
        let mut new = Model::default();
        for entry in entries {
            if let Entry::New(decision) = entry {
                new.add(now, decision);
            }
        }
        let is_deleted =
            |known: &Known| entries.iter().any(|entry| matches!(entry, Entry::Deleted(deleted) if known.is(deleted)));
        let mut to_confirm = 0;
        for mut old in std::mem::take(&mut self.0) {
            if old.end <= now || is_deleted(&old) || new.0.iter().any(|known| known.is(&old.decision)) {
                continue;
            }
            if old.end > now + 100 {
                let is_due = old.missed.is_some_and(|missed| missed + APART <= now);
                to_confirm += usize::from(is_due || old.missed.is_none());
                if is_due && confirmed {
                    continue;
                }
                old.missed = if confirmed { old.missed.or(Some(now)) } else { None };
            }
            new.0.push(old);
        }
        *self = new;
        to_confirm
    }

    pub fn strongest(&self, about: impl Fn(&Decision) -> bool, now: u64) -> Option<(Remediation, u64)> {
        let against = self.0.iter().filter(|known| known.end > now && about(&known.decision));
        against.map(|known| (known.remediation, known.end)).max()
    }

    /// What each visitor and each account meets, and until when.
    pub fn met(&self, now: u64) -> Vec<Option<(Remediation, u64)>> {
        let visitors = VISITORS.iter().map(|(address, country, system)| {
            let address = address.parse::<IpAddr>().unwrap().to_canonical();
            let about = |decision: &Decision| match meaning(decision) {
                (scope, text) if scope == "country" => text == *country,
                (scope, text) if scope == "as" => text == system.to_string(),
                (_, text) => text.parse::<IpNet>().is_ok_and(|net| net.contains(&address)),
            };
            self.strongest(about, now)
        });
        let accounts = ACCOUNTS.iter().map(|(scope, name)| {
            self.strongest(|decision| meaning(decision) == ((*scope).to_owned(), (*name).to_owned()), now)
        });
        visitors.chain(accounts).collect()
    }
}
