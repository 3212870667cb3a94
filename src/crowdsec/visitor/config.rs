//! Whom do we believe who a visitor is? The settings of this room, read and checked.

use ipnet::IpNet;
use reqwest::header::HeaderName;
use serde::Deserialize;

use crate::crowdsec::decisions::network;
use crate::crowdsec::setting::{List, Network, Reading, Told};

/// Each key as Rocket.toml and the variables write it; docs/configuration.md says what each means.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Settings {
    /// `None` where no source says: the debug profile then trusts loopback.
    trusted_proxies: Option<List<Network>>,
    client_ip_header: Option<String>,
}

#[derive(Clone, Debug, Default)]
pub struct Config {
    pub trusted_proxies: Vec<IpNet>,
    /// Whether those are the operator's own words, and no example of the debug profile's.
    pub are_meant: bool,
    pub client_ip_header: String,
}

impl Config {
    pub fn read(reading: &mut Reading<'_>) -> Result<Self, Told> {
        let Settings { trusted_proxies, client_ip_header } = reading.room()?;
        let client_ip_header = client_ip_header.unwrap_or_else(|| "X-Forwarded-For".into());
        if HeaderName::try_from(&client_ip_header).is_err() {
            reading.wrong(
                "client_ip_header",
                "this is no header's name: write \"X-Forwarded-For\", \"Forwarded\" or another",
            );
        }
        let are_meant = trusted_proxies.is_some();
        let trusted_proxies: Vec<IpNet> = match trusted_proxies {
            Some(networks) => networks.0.into_iter().map(|Network(net)| net).collect(),
            None if reading.debug && reading.address().is_some_and(|address| address.is_loopback()) => examples(),
            None => Vec::new(),
        };
        reading.warnings.extend(everybody(&trusted_proxies));
        Ok(Self { trusted_proxies, are_meant, client_ip_header })
    }
}

/// So that `curl -H 'X-Forwarded-For: 203.0.113.7'` plays any visitor. Only while nobody else can connect.
fn examples() -> Vec<IpNet> {
    ["127.0.0.0/8", "::1"].into_iter().filter_map(network).collect()
}

/// Networks that hold most visitors. fc00::/7 and fe80::/10 are as private as 10.0.0.0/8.
fn everybody(proxies: &[IpNet]) -> Option<String> {
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
