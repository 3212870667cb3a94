//! Why is this address refused? Everything that stands against it, and what lifts it.

use std::net::IpAddr;
use std::ptr;
use std::time::Duration;

use rocket::serde::json::{Value, json};

use crate::crowdsec::bouncer::{Bouncer, Judgement, Record, Verdict};
use crate::crowdsec::decisions::{Country, Remediation, Standing};
use crate::crowdsec::guards::DecisionView;
use crate::crowdsec::printable::printable;
use crate::crowdsec::timestamp::timestamp;
use crate::crowdsec::visitor::{Unnamed, address};

/// What there is to say about an address, or about the address that was refused with a reference: the verdict on a
/// visitor from this address who has solved no captcha, what stands against them, and which of the `last` refusals were theirs.
pub fn explained(bouncer: &Bouncer, asked: &str, last: &[Record]) -> Value {
    let asked = asked.trim();
    let (address, reference) = (address(asked), reference(asked));
    let is_theirs = |refused: &&Record| match address {
        Some(address) => refused.address == address,
        None => reference.as_ref() == Some(&refused.reference),
    };
    let refusals: Vec<&Record> = last.iter().filter(is_theirs).collect();
    let kind = address.map(|_| "address").or(reference.as_ref().map(|_| "reference"));
    let address = address.or(refusals.first().map(|refused| refused.address));
    let judgement = address.map(|address| foreseen(bouncer, address, &refusals));
    json!({
        "asked": printable(asked),
        "kind": kind,
        "address": address,
        "verdict": judgement.as_ref().map(|judgement| judgement.verdict.name()),
        "trial": judgement.as_ref().and_then(|judgement| judgement.trial).map(Verdict::name),
        "decisions": judgement.map_or(Vec::new(), |judgement| decisions(bouncer, &judgement)),
        "refusals": refusals,
    })
}

/// All decisions against a visitor, the greatest first, and which of them the verdict rests on.
fn decisions(bouncer: &Bouncer, judgement: &Judgement) -> Vec<Value> {
    let allowed = judgement.standing.first().filter(|greatest| greatest.remediation == Remediation::Allow);
    let behind = allowed.or_else(|| judgement.ground());
    let decision = |standing: &Standing| {
        let mut told = json!(DecisionView::from(standing));
        for text in ["type", "origin", "scenario", "scope"] {
            told[text] = printable(told[text].as_str().unwrap_or_default()).into();
        }
        told["until"] = json!(standing.expires_in.map(|left| timestamp(bouncer.unix_now() + left.as_secs())));
        told["counts"] = behind.is_some_and(|behind| ptr::eq(behind, standing)).into();
        // Made of the id alone: no word of a decision ever stands in a command.
        told["lift"] = json!(standing.id.map(|id| format!("cscli decisions delete --id {id}")));
        told["own"] = (standing.id.is_none() && standing.expires_in.is_none()).into();
        told
    };
    judgement.standing.iter().map(decision).collect()
}

/// The judgement on a request from an address that has solved no captcha. Country and AS come from the databases. Where
/// these do not know the country, it is that of the last refusal, which a proxy's header may have named.
fn foreseen(bouncer: &Bouncer, address: IpAddr, refusals: &[&Record]) -> Judgement {
    let (at, databases) = (bouncer.now(), &bouncer.client_ip.config.geoip);
    let seen = || refusals.first()?.country.as_deref().and_then(Country::read);
    let country = || databases.iter().find_map(|database| database.country(address)).or_else(seen);
    let system = || databases.iter().find_map(|database| database.system(address));
    let is_proxy = bouncer.client_ip.config.are_meant && bouncer.client_ip.trusts(address);
    // A request counts as a proxy's own only if the proxy names no visitor.
    let unnamed = is_proxy.then_some(Unnamed::Missing);
    let mut judgement = Judgement::new(address, at, unnamed);
    // As for a request: a decision on a proxy's own address does not stand against those behind the proxy.
    if unnamed.is_none() {
        judgement.standing = bouncer.decisions.against(address, country, system, at);
    }
    // This visitor has solved nothing, and `throttle` does not count them.
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
