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

/// Each source once, known by its place. Where no decision comes from a source any more, the next new one takes its place.
#[derive(Default)]
pub struct Sources {
    /// Each source, and how many decisions come from it: on IPv4, on IPv6, and on values that are not addresses.
    list: Vec<(Arc<Source>, [usize; 3])>,
    places: HashMap<Arc<Source>, u32>,
    /// Places of sources that no decision comes from any more.
    free: Vec<u32>,
}

impl Sources {
    /// Counts one more decision, and gives the place of its source.
    pub fn add(&mut self, source: Arc<Source>, value: &Value) -> u32 {
        let Self { list, places, free } = self;
        let place = *places.entry(source.clone()).or_insert_with(|| {
            let place = free.pop().unwrap_or_else(|| {
                list.push((source.clone(), [0; 3]));
                list.len() as u32 - 1
            });
            list[place as usize] = (source, [0; 3]);
            place
        });
        list[place as usize].1[family(value)] += 1;
        place
    }

    /// Counts one decision less.
    pub fn remove(&mut self, place: u32, value: &Value) {
        let (source, counts) = &mut self.list[place as usize];
        counts[family(value)] -= 1;
        if *counts == [0; 3] {
            self.places.remove(source);
            self.free.push(place);
        }
    }

    pub fn counts(&self) -> impl Iterator<Item = (&Source, [usize; 3])> {
        self.list.iter().map(|(source, counts)| (&**source, *counts))
    }

    pub fn at(&self, place: u32) -> &Arc<Source> {
        &self.list[place as usize].0
    }
}

fn family(value: &Value) -> usize {
    match value {
        Value::Network(IpNet::V4(_)) => 0,
        Value::Network(IpNet::V6(_)) => 1,
        Value::Country(_) | Value::As(_) | Value::Account(_) => 2,
    }
}
