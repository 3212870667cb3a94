//! Which verdict follows from all that stands against a visitor?

use std::time::Duration;

use super::{Bouncer, Judgement, Verdict};
use crate::crowdsec::decisions::{Remediation, Value};
use crate::crowdsec::lapi::{Health, OnStartupFailure};

impl Bouncer {
    /// Judges an account of the application's own, whose visitor was judged already.
    pub fn judge_account(&self, visitor: &Judgement, account: &Value, has_solved: bool) -> Judgement {
        let standing = self.decisions.on(account, self.now());
        let mut judgement = Judgement { verdict: Verdict::Admit, trial: None, standing, ..visitor.clone() };
        if !visitor.has(Remediation::Allow) {
            self.decide(&mut judgement, &|| has_solved, &|| self.throttle.count(account, visitor.at).err());
        }
        judgement
    }

    /// The order is the policy: the operator's `allow`, a request that names nobody, a ban (which no solved captcha outweighs),
    /// LAPI's silence at the start, a captcha, `throttle`. The verdict is the first of these that is enforced and that the
    /// visitor has not satisfied; the trial is the first before the verdict that `enforce` leaves out. `wait` counts a visitor
    /// under `throttle`, and says how long they have to wait.
    pub fn decide(&self, judgement: &mut Judgement, solved: &dyn Fn() -> bool, wait: &dyn Fn() -> Option<Duration>) {
        // Fails closed, as the operator asked: before the first answer nobody knows who is banned.
        let is_closed =
            || self.lapi.on_startup_failure == OnStartupFailure::Closed && self.health() == Health::Starting;
        let nothing_stands = judgement.standing.is_empty() && judgement.has_a_name() && !is_closed();
        if nothing_stands || judgement.has(Remediation::Allow) {
            return;
        }
        let reasons: [&dyn Fn() -> Option<Verdict>; 5] = [
            &|| judgement.unnamed.map(|_| Verdict::Hidden),
            &|| judgement.has(Remediation::Ban).then_some(Verdict::BAN),
            &|| is_closed().then_some(Verdict::NotYet),
            &|| (judgement.has(Remediation::Captcha) && !solved()).then_some(Verdict::Captcha),
            &|| judgement.has(Remediation::Throttle).then(wait).flatten().map(Verdict::Throttle),
        ];
        let (mut verdict, mut trial) = (Verdict::Admit, None);
        for reason in reasons.iter().filter_map(|reason| reason()) {
            if self.is_enforced(reason) {
                verdict = reason;
                break;
            }
            trial.get_or_insert(reason);
        }
        (judgement.verdict, judgement.trial) = (verdict, trial);
    }

    /// Whether a remediation is enforced, and not only on trial.
    pub fn enforces(&self, remediation: Remediation) -> bool {
        let enforced = &self.config.enforced;
        // `pass` refuses nobody, except by the guard `NoDecision`.
        enforced.contains(&remediation) || remediation == Remediation::Pass && !enforced.is_empty()
    }

    /// A refusal without a decision is enforced if any remediation is.
    pub fn is_enforced(&self, verdict: Verdict) -> bool {
        verdict.remediation().map_or(!self.config.enforced.is_empty(), |remediation| self.enforces(remediation))
    }
}
