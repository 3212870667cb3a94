//! What does the log say at the launch about CrowdSec's LAPI, and about what is enforced?

use log::warn;

use crate::crowdsec::bouncer::{Bouncer, EnforceBy, OwnDecision};
use crate::crowdsec::lapi::Health;
use crate::crowdsec::printable::decisions;

/// One line for the log: how many decisions are in force, where they come from, and what is enforced.
pub fn protection(bouncer: &Bouncer) -> String {
    let own = bouncer.config.decisions.len();
    let (all, only_own) = (decisions(bouncer.decisions.len()), format!("{} of your own", decisions(own)));
    let known = match bouncer.lapi.connection.as_ref().map(|lapi| &lapi.at) {
        Some(at) if bouncer.health() == Health::Starting => {
            format!("CrowdSec's LAPI at {at} has not answered yet: {only_own} in force")
        }
        Some(at) if bouncer.live.is_some() => {
            format!("LIVE MODE: CrowdSec's LAPI at {at} is asked about each visitor, with {only_own} in force")
        }
        Some(at) if bouncer.contact.is_recalled() => format!(
            "{all} in force, {own} of them your own, the others from the snapshot until CrowdSec's LAPI at {at} answers"
        ),
        Some(at) => format!("{all} in force, {own} of them your own, with CrowdSec's LAPI at {at}"),
        None => format!("No CrowdSec: {only_own} in force"),
    };
    format!("{known}; {}.", enforcement(bouncer))
}

/// Which remediations are enforced, and by whom.
fn enforcement(bouncer: &Bouncer) -> String {
    let config = &bouncer.config;
    let what = match (&config.enforced[..], &bouncer.captcha, config.types.fallback) {
        ([], ..) => {
            "A TRIAL RUN: `enforce` is false, so no decision refuses anybody; the log tells whom it would refuse".into()
        }
        (enforced, ..) if enforced.len() < 3 => {
            let names: Vec<&str> = enforced.iter().map(|remediation| remediation.as_str()).collect();
            format!("as `enforce` says, only these are enforced: {}", names.join(", "))
        }
        (_, Some(_), _) => "bans and captchas are enforced".into(),
        (_, None, fallback) => {
            format!("bans are enforced, and captchas become `{fallback}`, since no `captcha.provider` is set")
        }
    };
    match config.enforce_by {
        EnforceBy::Fairing => what,
        EnforceBy::Guards => format!("{what}, BY GUARDS ALONE: a route without one serves everybody"),
    }
}

pub fn without_crowdsec(own: &[OwnDecision]) {
    let own: Vec<String> = own.iter().map(|own| format!("{} meets: {}", own.value.0, own.remediation)).collect();
    let (own, name) = (own.join(", "), env!("CARGO_PKG_NAME"));
    warn!(
        "NOT CONNECTED TO CROWDSEC: no key is set, so only your own `crowdsec.decisions` are enforced ({own}). Where CrowdSec \
         runs, run `cscli bouncers add {name}`, and set CROWDSEC_API_KEY to its key. Only the debug profile needs none."
    );
}
