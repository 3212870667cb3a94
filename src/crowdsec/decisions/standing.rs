//! What counts against one visitor, for those who judge, show and log it?

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::{Remediation, Source, Value};
use crate::crowdsec::printable::printable;

/// A decision that stands against an address, or against where the visitor is or who they are.
#[derive(Clone, Debug, PartialEq)]
pub struct Standing {
    pub remediation: Remediation,
    /// LAPI's number for it. `None` for the operator's own, and where a LAPI sends none that can be used.
    pub id: Option<u64>,
    pub value: Value,
    pub source: Arc<Source>,
    /// `None` for the operator's own, which stand as long as the configuration says so.
    pub expires_in: Option<Duration>,
}

impl Standing {
    /// What is to be done with an address now, as somebody says who has no decision of it. Logs and figures then name who
    /// that is.
    pub fn said_by(origin: &str, remediation: Remediation, address: IpAddr) -> Self {
        let (origin, scope, kind) = (origin.to_owned(), "ip".to_owned(), remediation.to_string());
        let source = Arc::new(Source { origin, scenario: String::new(), scope, kind });
        let value = Value::Network(address.into());
        Self { remediation, id: None, value, source, expires_in: Some(Duration::ZERO) }
    }

    /// The greatest remediation counts, and of several such the one that stands longest.
    pub fn rank(&self) -> (Remediation, Duration) {
        (self.remediation, self.expires_in.unwrap_or(Duration::MAX))
    }

    /// How a log names it. Who has an account is told by the id alone.
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
