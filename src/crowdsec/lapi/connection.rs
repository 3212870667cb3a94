//! What does it take to ask LAPI: its address, what shows who we are, and what we ask it for?

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use reqwest::Url;
use rustls::pki_types::CertificateDer;

use crate::crowdsec::decisions::Scopes;
use crate::crowdsec::printable::printable;
use crate::crowdsec::setting::Secret;

/// CrowdSec's own origins. Other programs that write decisions may use further ones.
pub const ORIGINS: [&str; 7] = ["crowdsec", "cscli", "cscli-import", "CAPI", "lists", "console", "remediation_sync"];

/// Where LAPI is, how we show who we are, and what we ask it for.
#[derive(Debug)]
pub struct Connection {
    pub at: Location,
    pub credentials: Credentials,
    /// The operator's own CAs.
    pub ca: Option<Vec<CertificateDer<'static>>>,
    pub scopes: Arc<Scopes>,
    /// The filters, as LAPI's query parameters.
    pub filters: Vec<(&'static str, String)>,
}

impl Connection {
    /// For messages, the filters that may leave out decisions which would be enforced; and the origins among them that are
    /// none of CrowdSec's own, as a misspelt one is.
    pub fn chosen_filters(&self) -> Option<(String, Vec<String>)> {
        let chosen: Vec<_> = self.filters.iter().filter(|(name, _)| *name != "scopes").collect();
        let text: Vec<String> = chosen.iter().map(|(name, list)| format!("{name} = {}", printable(list))).collect();
        let origins = chosen.iter().filter(|(name, _)| *name == "origins").flat_map(|(_, list)| list.split(','));
        let unusual = origins.filter(|origin| !ORIGINS.contains(origin)).map(str::to_owned).collect();
        (!text.is_empty()).then(|| (text.join(", "), unusual))
    }
}

#[derive(Debug)]
pub enum Location {
    /// Ends with a slash.
    Url(Url),
    Socket(PathBuf),
}

impl Location {
    pub fn is_https(&self) -> bool {
        matches!(self, Self::Url(url) if url.scheme() == "https")
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(url) => url.fmt(f),
            Self::Socket(path) => path.display().fmt(f),
        }
    }
}

#[derive(Debug)]
pub enum Credentials {
    Key(Secret),
    /// Certificate and private key, in one PEM.
    Certificate(Secret),
}
