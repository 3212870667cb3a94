//! May this visitor's answer cost one more question to the provider?

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::crowdsec::limit::{Limit, Subject};
use crate::crowdsec::panics::lock;

/// Answers of one visitor's in a minute that were wrong, or that the provider could not judge.
const MOST_FAILED: u32 = 20;
/// Questions about one visitor's answers at the same time. Whether an answer was wrong is known only after the question,
/// so that without this a visitor could send any number of wrong ones at once. More have to wait for their turn.
const MOST_AT_ONCE: usize = 20;

/// What is counted per visitor alone: nobody has to wait for what others did, unless they share one address.
pub struct Tries {
    pub failed: Limit,
    /// Who has a question under way; never more entries than there are connections.
    asking: Mutex<HashMap<Subject, Arc<Semaphore>>>,
}

impl Default for Tries {
    fn default() -> Self {
        Self { failed: Limit::new(MOST_FAILED, Duration::from_secs(60)), asking: Mutex::default() }
    }
}

impl Tries {
    /// The visitor's turn to have an answer judged, which ends when it is dropped. `None` after `patience`.
    pub async fn turn(&self, subject: Subject, patience: Duration) -> Option<OwnedSemaphorePermit> {
        let turns = {
            let mut asking = lock(&self.asking);
            // A permit holds the other end of its semaphore: who has none under way is forgotten.
            asking.retain(|_, turns| Arc::strong_count(turns) > 1);
            asking.entry(subject).or_insert_with(|| Arc::new(Semaphore::new(MOST_AT_ONCE))).clone()
        };
        timeout(patience, turns.acquire_owned()).await.ok()?.ok()
    }
}
