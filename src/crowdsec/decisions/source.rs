//! What do many decisions have in common? Kept once for all of them.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use ipnet::IpNet;
use serde::Serialize;

use super::Value;

/// Where a decision comes from and what it says, but for its value and its time.
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
    /// The origin as CrowdSec counts it: with the list's name, `lists:NAME`, where a decision comes by a blocklist.
    pub fn named_origin(&self) -> Cow<'_, str> {
        match self.origin.as_str() {
            "lists" => format!("lists:{}", self.scenario).into(),
            origin => origin.into(),
        }
    }
}

/// Each source once, with how many decisions come from it: on IPv4, on IPv6, and on values that are not addresses.
#[derive(Default)]
pub struct Sources(HashMap<Arc<Source>, [usize; 3]>);

impl Sources {
    /// Counts one more decision, and gives its source as all of its decisions share it.
    pub fn add(&mut self, source: Arc<Source>, value: &Value) -> Arc<Source> {
        let entry = self.0.entry(source);
        let source = entry.key().clone();
        entry.or_default()[family(value)] += 1;
        source
    }

    /// Counts one decision less. A source that no decision comes from any more is forgotten.
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
