//! When is the snapshot written? Soon after a change; writes that succeed take a sixtieth of the time at most.

use std::sync::Arc;
use std::time::{Duration, Instant};

use log::{info, warn};
use tokio::task::{JoinHandle, spawn_blocking};

use super::snapshot::Snapshot;
use crate::crowdsec::decisions::DecisionSet;
use crate::crowdsec::printable::decisions;

/// The snapshot, if one is kept, and when it is written.
pub struct Saving {
    snapshot: Option<Snapshot>,
    set: Arc<DecisionSet>,
    /// Whether the snapshot on the disk lacks something.
    pub is_due: bool,
    /// No write begins earlier.
    next: Instant,
    /// The last write. It gives when the next one may begin, or `None` if it failed.
    writing: Option<JoinHandle<Option<Instant>>>,
}

/// A crash loses what changed in the last minute, and the next full answer brings it back. Where a write takes more than a
/// second, since there are many decisions, a sixtieth of the time is spent on writes.
const SAVE_EVERY: Duration = Duration::from_secs(60);

impl Saving {
    pub fn new(snapshot: Option<Snapshot>, set: Arc<DecisionSet>) -> Self {
        Self { snapshot, set, is_due: false, next: Instant::now(), writing: None }
    }

    /// Reads the snapshot, if there is one. True if it was believed.
    pub fn recall(&self) -> bool {
        let Some(snapshot) = &self.snapshot else { return false };
        let age = snapshot.read(&self.set, Instant::now()).unwrap_or_else(|reason| {
            // Fails towards LAPI: LAPI will say what stands, and the next snapshot takes this one's place.
            warn!("The snapshot {} is not used: {reason}.", snapshot.path.display());
            None
        });
        let Some(age) = age else { return false };
        info!("{} from the snapshot of {} s ago.", decisions(self.set.lapis_len()), age.as_secs());
        true
    }

    /// Begins to write the snapshot if it is due. A disk that hangs must not keep new decisions away: while one write
    /// lasts, no other is begun.
    pub async fn go_on(&mut self) {
        if self.writing.as_ref().is_none_or(JoinHandle::is_finished) {
            self.hear().await;
            if Instant::now() >= self.next {
                self.begin().await;
            }
        }
    }

    /// Writes at shutdown what is still due, without waiting for `next`.
    pub async fn end(&mut self) {
        self.hear().await;
        self.begin().await;
        self.hear().await;
    }

    async fn begin(&mut self) {
        let Some(snapshot) = self.snapshot.clone().filter(|_| self.is_due) else { return };
        let begin = Instant::now();
        // Copied while no answer is taken over: so no change to the set waits for the copy, and no look-up for that change.
        let set = self.set.clone();
        let Ok(standing) = spawn_blocking(move || set.to_save(begin)).await else { return };
        (self.is_due, self.next) = (false, begin + SAVE_EVERY);
        // A logger that panics loses its line alone.
        self.writing = Some(spawn_blocking(move || {
            let stored = snapshot.store(&standing).inspect_err(|error| {
                warn!(
                    "The snapshot {} cannot be written: {error}. Check `crowdsec.snapshot`; a restart would begin with an older one or none.",
                    snapshot.path.display()
                );
            });
            stored.ok().map(|()| begin + SAVE_EVERY.max(begin.elapsed() * 60))
        }));
    }

    /// Hears how the last write ended.
    async fn hear(&mut self) {
        let Some(writing) = self.writing.take() else { return };
        match writing.await {
            Ok(Some(next)) => self.next = next,
            _ => self.is_due = true,
        }
    }
}
