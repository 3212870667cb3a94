//! What counts against one visitor, for those who judge, show and log it?

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::{Remediation, Source, Value};
use crate::crowdsec::printable::printable;

/// A decision that stands against a visitor's address, country, autonomous system or account.
#[derive(Clone, Debug, PartialEq)]
pub struct Standing {
    pub remediation: Remediation,
    /// LAPI's id. `None` for the operator's own decisions, and if LAPI sends no usable id.
    pub id: Option<u64>,
    pub value: Value,
    pub source: Arc<Source>,
    /// `None` for the operator's own, which stand as long as the configuration says so.
    pub expires_in: Option<Duration>,
}

impl Standing {
    /// A remediation for an address now that comes from no decision, such as AppSec's. Logs and figures name its `origin`.
    pub fn said_by(origin: &str, remediation: Remediation, address: IpAddr) -> Self {
        let (origin, scope, kind) = (origin.to_owned(), "ip".to_owned(), remediation.to_string());
        let source = Arc::new(Source { origin, scenario: String::new(), scope, kind });
        let value = Value::Network(address.into());
        Self { remediation, id: None, value, source, expires_in: Some(Duration::ZERO) }
    }

    /// The greatest remediation counts, and within one remediation the longest to live.
    pub fn rank(&self) -> (Remediation, Duration) {
        (self.remediation, self.expires_in.unwrap_or(Duration::MAX))
    }

    /// How a log names this decision. It does not name an account: the id tells whose it is.
    pub fn name(&self) -> String {
        let name = match (self.id, self.expires_in) {
            (Some(id), _) => format!("decision {id}"),
            // As `said_by` makes it.
            (None, Some(Duration::ZERO)) => "no decision of LAPI's".to_owned(),
            (None, Some(_)) => "a decision without an id".to_owned(),
            (None, None) => "decision of your own".to_owned(),
        };
        match &self.value {
            Value::Network(_) => name,
            Value::Country(_) | Value::As(_) => format!("{name} on {}", self.value),
            Value::Account(account) => format!("{name} of scope {}", printable(&account.scope)),
        }
    }
}
