//! Which settings are allowed but hardly meant? Each gives one warning at the launch, which says what to do.

use figment::Figment;

use super::{FILE, MISSING_FILE, UNKNOWN};
use crate::crowdsec::setting::{Reading, meant};

/// Adds the warnings that belong to no room.
pub fn told(reading: &mut Reading<'_>) {
    let missing: Option<String> = reading.figment.extract_inner(MISSING_FILE).ok();
    // The debug profile does without a Rocket.toml, unless another file was asked for by its name.
    if let Some(name) = missing.filter(|name| !reading.debug || name != FILE) {
        let folder = std::env::current_dir().map(|folder| format!(", looked for from {} upwards", folder.display()));
        reading.warnings.push(format!(
            "There is no {name}{}: every setting that no variable sets has its default. Start the application in the \
             folder where that file lies, or write its path into ROCKET_CONFIG.",
            folder.unwrap_or_default()
        ));
    }
    if let Some(address) = reading.address().filter(|address| reading.debug && !address.is_loopback()) {
        reading.warnings.push(format!(
            "This is the debug profile, and others can reach it at {address}: it shows them decisions, CrowdSec's address \
             and previews. Set ROCKET_PROFILE=release or start a release build; to try things out, leave ROCKET_ADDRESS at \
             127.0.0.1."
        ));
    }
    misspelt_profiles(reading);
}

/// Any name may be that of a profile of the owner's own, and what stands in a profile counts in no other: hence a warning.
fn misspelt_profiles(reading: &mut Reading<'_>) {
    let usual = ["default", "debug", "release", "global"];
    for profile in reading.figment.profiles().filter(|profile| *profile != reading.figment.profile()) {
        let name = profile.as_str().as_str();
        if let Some(meant) = meant(name, usual).filter(|_| !usual.contains(&name)) {
            reading.warnings.push(format!(
                "Nothing in [{name}] counts. If [{meant}] was meant, write that; else start with ROCKET_PROFILE={name}."
            ));
        }
    }
}

/// Names the variables that look like ours and are not. They stop nothing: Kubernetes sets some for every Service, and
/// programs may share a file of variables.
pub fn unknown_variables(figment: &Figment) -> Option<String> {
    let names: Vec<String> = figment.extract_inner(UNKNOWN).unwrap_or_default();
    let told = format!(
        "Not used, since no setting is called so, or it holds what Kubernetes sets for a Service: {}. Check the spelling, \
         which is CROWDSEC_<KEY> as in CROWDSEC_API_KEY. Those that Kubernetes sets do no harm.",
        names.join(", ")
    );
    Some(told).filter(|_| !names.is_empty())
}
