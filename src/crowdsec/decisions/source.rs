//! What do many decisions have in common? Their source, which is kept once for all of them.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use ipnet::IpNet;
use serde::Serialize;

use super::Value;

/// Where a decision comes from and what it says, without its value and duration.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Source {
    pub origin: String,
    pub scenario: String,
    pub scope: String,
    /// `type` on the wire.
    #[serde(rename = "type")]
    pub kind: String,
}

impl Source {
    /// The origin as CrowdSec counts it: for a decision of a blocklist with the list's name, `lists:NAME`.
    pub fn named_origin(&self) -> Cow<'_, str> {
        match self.origin.as_str() {
            "lists" => format!("lists:{}", self.scenario).into(),
            origin => origin.into(),
        }
    }
}

/// Each source once, with the number of its decisions: on IPv4, on IPv6, and on values that are not addresses.
#[derive(Default)]
pub struct Sources(HashMap<Arc<Source>, [usize; 3]>);

impl Sources {
    /// Counts one more decision, and gives the copy of its source that all its decisions share.
    pub fn add(&mut self, source: Arc<Source>, value: &Value) -> Arc<Source> {
        let entry = self.0.entry(source);
        let source = entry.key().clone();
        entry.or_default()[family(value)] += 1;
        source
    }

    /// Counts one decision less, and forgets a source that has none left.
    pub fn remove(&mut self, source: &Arc<Source>, value: &Value) {
        let Some(counts) = self.0.get_mut(source) else { return };
        counts[family(value)] -= 1;
        if *counts == [0; 3] {
            self.0.remove(source);
        }
    }

    pub fn counts(&self) -> impl Iterator<Item = (&Source, [usize; 3])> {
        self.0.iter().map(|(source, counts)| (&**source, *counts))
    }
}

fn family(value: &Value) -> usize {
    match value {
        Value::Network(IpNet::V4(_)) => 0,
        Value::Network(IpNet::V6(_)) => 1,
        Value::Country(_) | Value::As(_) | Value::Account(_) => 2,
    }
}
