//! What counts against one address, for those who judge, show and log it?

use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::{Remediation, Source};

/// A decision that stands against an address.
#[derive(Clone, Debug)]
pub struct Standing {
    pub remediation: Remediation,
    /// LAPI's number for it. `None` for the operator's own, and where a LAPI sends none that can be used.
    pub id: Option<u64>,
    pub value: IpNet,
    pub source: Arc<Source>,
    /// `None` for the operator's own, which stand as long as the configuration says so.
    pub expires_in: Option<Duration>,
}

impl Standing {
    /// The greatest remediation counts, and of several such the one that stands longest.
    pub fn rank(&self) -> (Remediation, Duration) {
        (self.remediation, self.expires_in.unwrap_or(Duration::MAX))
    }

    /// How a log names it.
    pub fn name(&self) -> String {
        match (self.id, self.expires_in) {
            (Some(id), _) => format!("decision {id}"),
            (None, Some(_)) => "a decision without an id".to_owned(),
            (None, None) => "decision of your own".to_owned(),
        }
    }
}
