//! What is allowed in a configuration, and hardly meant? Each is one warning at the launch that says what to do.

use std::net::IpAddr;

use ipnet::IpNet;

use super::FILE;

/// Names those variables that look like ours and are not. They stop nothing: Kubernetes sets some for every Service, and a
/// file of variables may be shared.
pub fn unknown_variables(names: &[String]) -> Option<String> {
    (!names.is_empty()).then(|| {
        format!(
            "Not used, since no setting is called so, or it holds what Kubernetes sets for a Service: {}. Check the spelling, \
             which is CROWDSEC_<KEY> as in CROWDSEC_API_KEY. Those that Kubernetes sets do no harm.",
            names.join(", ")
        )
    })
}

/// The debug profile does without a Rocket.toml, unless another file was asked for by its name.
pub fn missing_file(name: &str, debug: bool) -> Option<String> {
    let folder = std::env::current_dir().map(|folder| format!(", looked for from {} upwards", folder.display()));
    (!debug || name != FILE).then(|| {
        format!(
            "There is no {name}{}: every setting that no variable sets has its default. Start the application in the \
             folder where that file lies, or write its path into ROCKET_CONFIG.",
            folder.unwrap_or_default()
        )
    })
}

pub fn reachable_debug(address: IpAddr) -> Option<String> {
    (!address.is_loopback()).then(|| {
        format!(
            "This is the debug profile, and others can reach it at {address}: it shows them decisions, CrowdSec's address \
             and previews. Set ROCKET_PROFILE=release or start a release build; to try things out, leave ROCKET_ADDRESS at \
             127.0.0.1."
        )
    })
}

/// Networks that hold most visitors. fc00::/7 and fe80::/10 are as private as 10.0.0.0/8.
pub fn everybody(proxies: &[IpNet]) -> Option<String> {
    let is_wide = |net: &&IpNet| match net {
        IpNet::V4(v4) => v4.prefix_len() < 8,
        IpNet::V6(v6) => v6.prefix_len() < 16 && !v6.addr().is_unique_local() && !v6.addr().is_unicast_link_local(),
    };
    proxies.iter().find(is_wide).map(|net| {
        format!(
            "`crowdsec.trusted_proxies` holds {net}, and with it most visitors. Whoever is in it counts as a proxy, and a \
             request that names only proxies is refused. List your proxies' own addresses, as in [\"10.0.0.1\"]."
        )
    })
}

/// CrowdSec's own. Other programs that write decisions may use further ones.
pub const ORIGINS: [&str; 7] = ["crowdsec", "cscli", "cscli-import", "CAPI", "lists", "console", "remediation_sync"];

/// LAPI compares an origin letter by letter, and has no decision of one that is misspelt.
pub fn origins(origins: &[String]) -> impl Iterator<Item = String> {
    origins.iter().filter_map(|origin| {
        let remedy = match ORIGINS.iter().find(|known| known.eq_ignore_ascii_case(origin.trim())) {
            Some(known) if known == origin => return None,
            Some(known) => format!("write \"{known}\""),
            None => {
                let list = origin.strip_prefix("lists:")?;
                format!("write \"lists\", and for this list alone scenarios_containing = [\"{list}\"]")
            }
        };
        Some(format!("`crowdsec.origins` has \"{origin}\", of which LAPI knows no decision: {remedy}."))
    })
}
