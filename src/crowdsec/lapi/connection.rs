//! What does it take to ask LAPI: its address, what shows who we are, and what we ask it for?

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::sign::CertifiedKey;

use crate::crowdsec::decisions::Scopes;
use crate::crowdsec::printable::printable;
use crate::crowdsec::setting::Secret;

/// CrowdSec's own origins. Other programs that write decisions may use further ones.
pub const ORIGINS: [&str; 7] = ["crowdsec", "cscli", "cscli-import", "CAPI", "lists", "console", "remediation_sync"];

/// Where LAPI is, how we show who we are, and what we ask it for.
#[derive(Debug)]
pub struct Connection {
    /// A URL, which ends with a slash, or the path of a unix socket, which begins with a slash.
    pub at: String,
    /// We show the key, or else the certificate.
    pub key: Option<Secret>,
    pub certificate: Option<Arc<CertifiedKey>>,
    /// The operator's own CAs.
    pub ca: Option<Vec<CertificateDer<'static>>>,
    pub scopes: Arc<Scopes>,
    /// The filters, as LAPI's query parameters.
    pub filters: Vec<(&'static str, String)>,
}

impl Connection {
    pub fn is_https(&self) -> bool {
        self.at.starts_with("https:")
    }

    /// For messages: the filters other than `scopes`, and their origins that are none of CrowdSec's own, such as a misspelt
    /// one. `None` without such filters.
    pub fn chosen_filters(&self) -> Option<(String, Vec<String>)> {
        let chosen: Vec<_> = self.filters.iter().filter(|(name, _)| *name != "scopes").collect();
        let text: Vec<String> = chosen.iter().map(|(name, list)| format!("{name} = {}", printable(list))).collect();
        let origins = chosen.iter().filter(|(name, _)| *name == "origins").flat_map(|(_, list)| list.split(','));
        let unusual = origins.filter(|origin| !ORIGINS.contains(origin)).map(str::to_owned).collect();
        (!text.is_empty()).then(|| (text.join(", "), unusual))
    }
}
