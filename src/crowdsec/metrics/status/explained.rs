//! Why is this address refused? Everything that stands against it, and what lifts it.

use std::net::IpAddr;
use std::time::Duration;

use serde::Serialize;

use crate::crowdsec::bouncer::{Bouncer, Judgement, Record, Verdict};
use crate::crowdsec::decisions::{Country, Remediation};
use crate::crowdsec::guards::DecisionView;
use crate::crowdsec::printable::printable;
use crate::crowdsec::timestamp::timestamp;
use crate::crowdsec::visitor::Unnamed;
use crate::crowdsec::visitor::proxies::address;

/// What an operator asked for, and what there is to say of it.
#[derive(Debug, Default, Serialize)]
pub struct Explained {
    /// What was asked for, as it was written.
    pub asked: String,
    /// `address`, `reference`, or `None` for what is neither.
    pub kind: Option<&'static str>,
    /// The address, also that of the refusal with this reference; `None` where there is none.
    pub address: Option<IpAddr>,
    /// What a visitor who has solved no captcha meets there now: `admit`, `throttle`, `captcha`, `ban`, `hidden` or
    /// `starting`.
    pub verdict: Option<&'static str>,
    /// What the verdict would be if `enforce` did not let them in.
    pub trial: Option<&'static str>,
    /// The greatest comes first.
    pub decisions: Vec<Explanation>,
    /// Those of the last refusals that are theirs.
    pub refusals: Vec<Record>,
}

#[derive(Debug, Serialize)]
pub struct Explanation {
    #[serde(flatten)]
    pub decision: DecisionView,
    /// Whether the verdict rests on it.
    pub counts: bool,
    /// When it ends; `None` for the operator's own.
    pub until: Option<String>,
    /// The command that lifts it. It is made of the number alone: no word of a decision ever stands in a command. `None` for
    /// the operator's own, which stand in Rocket.toml, and where LAPI sends no number.
    pub lift: Option<String>,
    pub own: bool,
}

impl Explained {
    pub fn of(bouncer: &Bouncer, asked: &str, last: &[Record]) -> Self {
        let (asked, written) = (asked.trim(), printable(asked.trim()));
        let (kind, refusals) = match (address(asked), reference(asked)) {
            (Some(address), _) => (Some("address"), of_them(last, |refused| refused.address == address)),
            (None, Some(reference)) => (Some("reference"), of_them(last, |refused| refused.reference == reference)),
            (None, None) => (None, Vec::new()),
        };
        let address = address(asked).or_else(|| refusals.first().map(|refused| refused.address));
        let explained = Self { asked: written, kind, refusals, ..Self::default() };
        match address {
            Some(address) => explained.standing(bouncer, address),
            None => explained,
        }
    }

    fn standing(self, bouncer: &Bouncer, address: IpAddr) -> Self {
        let judgement = foreseen(bouncer, address, &self.refusals);
        let name = |verdict: Verdict| verdict.name();
        let allowed = judgement.greatest().filter(|greatest| greatest.remediation == Remediation::Allow);
        let behind = allowed.or_else(|| judgement.behind(judgement.verdict));
        let decisions = judgement.standing.iter().map(|standing| {
            let view = DecisionView::from(standing);
            let own = standing.id.is_none() && standing.expires_in.is_none();
            Explanation {
                counts: behind.is_some_and(|behind| std::ptr::eq(behind, standing)),
                until: standing.expires_in.map(|left| timestamp(bouncer.unix_now() + left.as_secs())),
                lift: standing.id.map(|id| format!("cscli decisions delete --id {id}")),
                own,
                decision: DecisionView {
                    kind: printable(&view.kind),
                    origin: printable(&view.origin),
                    scenario: printable(&view.scenario),
                    scope: printable(&view.scope),
                    ..view
                },
            }
        });
        Self {
            address: Some(address),
            verdict: Some(name(judgement.verdict)),
            trial: judgement.trial.map(name),
            decisions: decisions.collect(),
            ..self
        }
    }
}

fn of_them(last: &[Record], is_theirs: impl Fn(&Record) -> bool) -> Vec<Record> {
    last.iter().filter(|refused| is_theirs(refused)).cloned().collect()
}

/// The judgement on a request from an address that has solved no captcha. Its country and its AS are those of the
/// databases; where a proxy's header alone names them, the country is that of its last refusal.
fn foreseen(bouncer: &Bouncer, address: IpAddr, refusals: &[Record]) -> Judgement {
    let (at, databases) = (bouncer.now(), &bouncer.client_ip.config.geoip);
    let seen = || refusals.first()?.country.as_deref().and_then(Country::read);
    let country = || databases.iter().find_map(|database| database.country(address)).or_else(seen);
    let system = || databases.iter().find_map(|database| database.system(address));
    let standing = bouncer.decisions.against(address, country, system, at);
    let is_proxy = bouncer.client_ip.config.are_meant && bouncer.client_ip.trusts(address);
    // Nobody but a proxy that names no visitor comes from a proxy's address.
    let unnamed = is_proxy.then_some(Unnamed::Missing);
    let mut judgement = Judgement { address, at, verdict: Verdict::Admit, trial: None, standing, unnamed };
    // They have solved nothing, and are not counted.
    bouncer.decide(&mut judgement, &|| false, &|| Some(Duration::ZERO));
    judgement
}

/// A reference as a page shows it, or as somebody has typed it: in small letters, without the dash.
fn reference(text: &str) -> Option<String> {
    let letters: String = text.chars().filter(|letter| !matches!(letter, '-' | ' ')).collect();
    let is_one = letters.len() == 8 && letters.bytes().all(|byte| byte.is_ascii_alphanumeric());
    is_one.then(|| format!("{}-{}", &letters[..4], &letters[4..]).to_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_references_are_read_as_people_write_them() {
        for text in ["192.0.2.1", "::ffff:192.0.2.1", "192.0.2.1:80"] {
            assert_eq!(address(text), Some(IpAddr::from([192, 0, 2, 1])), "{text}");
        }
        assert_eq!(address("[2001:DB8::1]"), "2001:db8::1".parse().ok());
        for text in ["", "192.0.2.0/24", "example.org", "[192.0.2.1", "7QK3-0M2F"] {
            assert_eq!(address(text), None, "{text}");
        }
        for text in ["7QK3-0M2F", "7qk30m2f", "7qk3 0m2f"] {
            assert_eq!(reference(text).as_deref(), Some("7QK3-0M2F"), "{text}");
        }
        for text in ["", "7QK3-0M2", "7QK3-0M2FF", "äöüäöü", "192.0.2.1", "2001:db8::1", "<b>abcde"] {
            assert_eq!(reference(text), None, "{text}");
        }
    }
}
