//! What do many decisions have in common? Kept once for all of them.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// What many decisions have in common; kept once for all of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Source {
    pub origin: String,
    pub scenario: String,
    pub scope: String,
    pub kind: String,
}

/// The sources, each with the number of decisions that bear it; one that nobody bears gives its place away.
#[derive(Default)]
pub struct Sources {
    pub list: Vec<(Arc<Source>, u32)>,
    places: HashMap<Arc<Source>, u32>,
    free: Vec<u32>,
}

impl Sources {
    pub fn intern(&mut self, source: impl Borrow<Source> + Into<Arc<Source>>) -> u32 {
        if let Some(place) = self.places.get(source.borrow()) {
            self.list[*place as usize].1 += 1;
            return *place;
        }
        let source = source.into();
        let place = self.free.pop().unwrap_or(self.list.len() as u32);
        match self.list.get_mut(place as usize) {
            Some(free) => *free = (source.clone(), 1),
            None => self.list.push((source.clone(), 1)),
        }
        self.places.insert(source, place);
        place
    }

    pub fn release(&mut self, place: u32) {
        let (source, count) = &mut self.list[place as usize];
        *count -= 1;
        if *count == 0 {
            self.places.remove(source);
            self.free.push(place);
        }
    }

    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty() && self.list.len() == self.free.len()
    }

    pub fn alike(&self, scope: &str, kind: &str) -> Vec<u32> {
        let alike = |place: &u32| {
            let source = &self.list[*place as usize].0;
            source.scope == scope && source.kind == kind
        };
        self.places.values().copied().filter(alike).collect()
    }
}
