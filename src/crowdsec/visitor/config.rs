//! Which proxies and headers do we believe about a visitor? The settings of this room, read and checked.

use std::sync::Arc;

use figment::value::magic::RelativePathBuf;
use ipnet::IpNet;
use reqwest::header::HeaderName;
use serde::Deserialize;

use super::geo::Database;
use crate::crowdsec::decisions::{Scopes, network};
use crate::crowdsec::setting::{BadSetting, List, Network, Reading};

/// Each key as Rocket.toml and the variables write it; docs/configuration.md says what each means.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Settings {
    /// `None` if neither Rocket.toml nor a variable sets it: the debug profile then trusts loopback.
    trusted_proxies: Option<List<Network>>,
    client_ip_header: Option<String>,
    country_header: Option<String>,
    as_header: Option<String>,
    geoip: Option<List<RelativePathBuf>>,
}

#[derive(Clone, Debug, Default)]
pub struct Config {
    pub trusted_proxies: Vec<IpNet>,
    /// Whether the operator set `trusted_proxies`. If not, they are the debug profile's example.
    pub are_meant: bool,
    pub client_ip_header: String,
    /// Headers in which a trusted proxy names the visitor's country and autonomous system.
    pub country_header: Option<String>,
    pub as_header: Option<String>,
    /// Databases that know countries or autonomous systems.
    pub geoip: Arc<[Database]>,
}

impl Config {
    pub fn read(reading: &mut Reading<'_>) -> Result<Self, BadSetting> {
        let Settings { trusted_proxies, client_ip_header, country_header, as_header, geoip } = reading.room()?;
        let client_ip_header = client_ip_header.unwrap_or_else(|| "X-Forwarded-For".into());
        let as_set = "write the one that your proxy sets";
        for (key, header, remedy) in [
            ("client_ip_header", Some(&client_ip_header), "write \"X-Forwarded-For\", \"Forwarded\" or another"),
            ("country_header", country_header.as_ref(), as_set),
            ("as_header", as_header.as_ref(), as_set),
        ] {
            if header.is_some_and(|header| HeaderName::try_from(header).is_err()) {
                reading.wrong(key, &format!("this is no header's name: {remedy}"));
            }
        }
        let mut databases = Vec::new();
        for path in geoip.iter().flat_map(|list| &list.0).map(RelativePathBuf::relative) {
            match Database::open(path.clone()) {
                Ok(database) => databases.push(database),
                // Whoever names a database wants visitors judged by it.
                Err(error) => {
                    let remedy = "Name a MaxMind database (.mmdb) that this user may read, or take it out";
                    reading.wrong("geoip", &format!("{}: {error}. {remedy}", path.display()));
                }
            }
        }
        let are_meant = trusted_proxies.is_some();
        let trusted_proxies: Vec<IpNet> = match trusted_proxies {
            Some(networks) => networks.0.into_iter().map(|Network(net)| net).collect(),
            // So that `curl -H 'X-Forwarded-For: 203.0.113.7'` plays any visitor. Only while nobody else can connect.
            None if reading.debug && reading.address().is_some_and(|address| address.is_loopback()) => {
                ["127.0.0.0/8", "::1"].into_iter().filter_map(network).collect()
            }
            None => Vec::new(),
        };
        // Networks that hold most visitors. fc00::/7 and fe80::/10 are as private as 10.0.0.0/8.
        let is_wide = |net: &&IpNet| match net {
            IpNet::V4(v4) => v4.prefix_len() < 8,
            IpNet::V6(v6) => v6.prefix_len() < 16 && !v6.addr().is_unique_local() && !v6.addr().is_unicast_link_local(),
        };
        if let Some(net) = trusted_proxies.iter().find(is_wide) {
            reading.warnings.push(format!(
                "`crowdsec.trusted_proxies` holds {net}, and with it most visitors. Whoever is in it counts as a proxy, and a \
                 request that names only proxies is refused. List your proxies' own addresses, as in [\"10.0.0.1\"]."
            ));
        }
        Ok(Self { trusted_proxies, are_meant, client_ip_header, country_header, as_header, geoip: databases.into() })
    }

    /// Warnings where `scopes` lists a country or an AS and nothing says where visitors are, or the other way round.
    pub fn warn_of(&self, scopes: &Scopes) -> impl Iterator<Item = String> {
        let places = [("country", "country_header", &self.country_header), ("as", "as_header", &self.as_header)];
        let places = places.map(|(scope, key, header)| (scope, key, header.is_some()));
        let is_said = |scope, has_header| has_header || self.geoip.iter().any(|database| database.has(scope));
        places.into_iter().filter_map(move |(scope, key, has_header)| match (scopes.have(scope), is_said(scope, has_header)) {
            (true, false) => Some(format!(
                "`crowdsec.scopes` has \"{scope}\", and nothing says where a visitor is, so that such decisions refuse nobody. Set \
                 `crowdsec.{key}` to the header that your proxy sets, or `crowdsec.geoip` to a MaxMind database."
            )),
            // A database that knows countries and systems may be there for the other scope.
            (false, true) if has_header || !["country", "as"].iter().any(|place| scopes.have(place)) => Some(format!(
                "`crowdsec.{}` is set, and `crowdsec.scopes` has no \"{scope}\": handlers see it in `Visitor`, and no decision of \
                 that scope is enforced. Write scopes = [\"ip\", \"range\", \"{scope}\"].",
                if has_header { key } else { "geoip" }
            )),
            _ => None,
        })
    }
}
