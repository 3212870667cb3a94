//! What do many decisions have in common? Kept once for all of them.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use ipnet::IpNet;
use serde::Serialize;

use super::Value;

/// What many decisions have in common.
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
    /// The origin, and of decisions that come by a blocklist its name too, as CrowdSec counts them: `lists:NAME`.
    pub fn named_origin(&self) -> Cow<'_, str> {
        match self.origin.as_str() {
            "lists" => format!("lists:{}", self.scenario).into(),
            origin => origin.into(),
        }
    }
}

/// Each source once, known by its place. None is ever taken out: each full answer makes a new set with new sources.
#[derive(Clone, Default)]
pub struct Sources {
    /// With how many decisions come from each source: on IPv4, on IPv6, and on values that are not addresses.
    list: Vec<(Arc<Source>, [usize; 3])>,
    places: HashMap<Arc<Source>, u32>,
}

impl Sources {
    pub fn place_of(&mut self, source: Arc<Source>) -> u32 {
        if let Some(place) = self.places.get(&source) {
            return *place;
        }
        let place = self.list.len() as u32;
        self.list.push((source.clone(), [0; 3]));
        self.places.insert(source, place);
        place
    }

    pub fn counts(&self) -> impl Iterator<Item = (&Source, [usize; 3])> {
        self.list.iter().map(|(source, counts)| (&**source, *counts))
    }

    /// How many decisions come from a source, by the family of their values.
    pub fn count_mut(&mut self, place: u32, value: &Value) -> &mut usize {
        let family = match value {
            Value::Network(IpNet::V4(_)) => 0,
            Value::Network(IpNet::V6(_)) => 1,
            Value::Country(_) | Value::As(_) | Value::Own(_) => 2,
        };
        &mut self.list[place as usize].1[family]
    }

    pub fn at(&self, place: u32) -> &Arc<Source> {
        &self.list[place as usize].0
    }
}
