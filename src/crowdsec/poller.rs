//! How do we keep in step with CrowdSec? Poll once, ask for everything when in doubt, go on until shutdown.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rocket::{Shutdown, info, info_, warn, warn_};
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::config::{Config, LapiConfig};
use super::decision_set::{DecisionSet, Implausible, Taken, Types};
use super::lapi::{Error, Lapi};
use super::snapshot::Snapshot;

/// Keeps a decision set in step with LAPI.
///
/// Deltas lose additions when LAPI is busy, and some deletions are never sent (`cscli alerts delete`, LAPI's own flush),
/// so everything is asked for every `resync_frequency`; and after any poll that failed, since LAPI does not repeat what
/// it believes to have sent.
pub struct Poller {
    lapi: Lapi,
    address: String,
    set: Arc<DecisionSet>,
    status: Arc<Status>,
    types: Types,
    update_frequency: Duration,
    resync_frequency: Duration,
    /// When everything was asked for last. `None` while the last poll is not known to have succeeded.
    in_step_since: Option<Instant>,
    away_since: Option<Instant>,
    costly_failures: u32,
    warned_of_allows: bool,
    snapshot: Option<Snapshot>,
    /// What the snapshot on the disk lacks, and since when it is as it is.
    unsaved: bool,
    saved_at: Option<Instant>,
}

/// A crash loses what changed in the last minute at most, and the next full answer brings it back.
const SAVE_EVERY: Duration = Duration::from_secs(60);

impl Poller {
    pub fn new(lapi: &LapiConfig, config: &Config, set: Arc<DecisionSet>, status: Arc<Status>) -> Result<Self, Error> {
        Ok(Self {
            lapi: Lapi::new(lapi)?,
            address: lapi.at.to_string(),
            set,
            status,
            types: config.types,
            update_frequency: config.update_frequency,
            resync_frequency: config.resync_frequency,
            in_step_since: None,
            away_since: None,
            costly_failures: 0,
            warned_of_allows: false,
            snapshot: config.snapshot.clone().map(|path| Snapshot::new(path, lapi)),
            unsaved: false,
            saved_at: None,
        })
    }

    /// Where LAPI is, for messages.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Asks once, for changes or for everything, and takes the answer over.
    ///
    /// Given up halfway, it leaves the next poll to ask for everything.
    pub async fn poll(&mut self) -> Result<(), Error> {
        let started = Instant::now();
        let in_step_since = self.in_step_since.take();
        let (since, taken) = match in_step_since {
            Some(since) if since.elapsed() < self.resync_frequency => (since, self.changes().await?),
            _ => (started, self.everything().await?),
        };
        self.in_step_since = Some(since);
        self.unsaved |= taken.new + taken.deleted > 0 || in_step_since.is_none();
        self.status.answered();
        self.tell(&taken);
        Ok(())
    }

    /// Reads the snapshot, where there is one. True if it was believed: it counts as the first answer.
    pub fn recall(&mut self) -> bool {
        let Some(snapshot) = &self.snapshot else { return false };
        match snapshot.read(&self.set, self.types, Instant::now()) {
            Ok(Some(age)) => {
                info!("{} decisions come from the snapshot of {} s ago.", self.set.len(), age.as_secs());
                self.status.recalled();
                true
            }
            Ok(None) => false,
            Err(reason) => {
                // Fails towards LAPI: it will say what stands, and the next snapshot takes this one's place.
                warn!("The snapshot {} is not used: {reason}.", snapshot.path().display());
                false
            }
        }
    }

    /// Polls until shutdown: at once where nothing was asked yet, since a snapshot stood in for the first answer.
    pub async fn run(mut self, mut shutdown: Shutdown) {
        let mut pause =
            if self.in_step_since.is_none() && self.away_since.is_none() { Duration::ZERO } else { self.pause() };
        loop {
            tokio::select! {
                () = &mut shutdown => break,
                () = sleep(pause) => {}
            }
            tokio::select! {
                () = &mut shutdown => break,
                result = self.poll() => self.note(result),
            }
            if self.saved_at.is_none_or(|at| at.elapsed() >= SAVE_EVERY) {
                self.save().await;
            }
            pause = self.pause();
        }
        self.save().await;
    }

    /// Writes the snapshot if there is anything new, on a thread for blocking work.
    async fn save(&mut self) {
        let Some(snapshot) = self.snapshot.clone().filter(|_| self.unsaved) else { return };
        let (set, path) = (self.set.clone(), snapshot.path().display().to_string());
        (self.unsaved, self.saved_at) = (false, Some(Instant::now()));
        let written = spawn_blocking(move || snapshot.write(&set, Instant::now())).await;
        if let Err(error) = written.unwrap_or_else(|panic| Err(std::io::Error::other(panic))) {
            self.unsaved = true;
            warn!(
                "The snapshot {path} cannot be written: {error}. Check `crowdsec.snapshot`; a restart would start empty."
            );
        }
    }

    /// Tells once that LAPI is lost and once that it is back. Keeps every decision in between: a ban must not end
    /// because the one who said it cannot be reached.
    pub fn note(&mut self, result: Result<(), Error>) {
        match (result, self.away_since) {
            (Ok(()), None) => {}
            (Ok(()), Some(since)) => {
                warn!("CrowdSec's LAPI at {} is back after {} s.", self.address, since.elapsed().as_secs());
                self.away_since = None;
                self.costly_failures = 0;
            }
            (Err(error), away_since) => {
                if away_since.is_none() {
                    warn!("CrowdSec's LAPI at {} is lost: {error}.", self.address);
                    warn_!("Its decisions stand until each one's own end. Asking again until it is back.");
                    self.away_since = Some(Instant::now());
                } else {
                    info!("CrowdSec's LAPI at {} is still lost: {error}.", self.address);
                }
                self.costly_failures = if error.was_costly() { self.costly_failures + 1 } else { 0 };
                self.set.sweep(Instant::now());
            }
        }
    }

    async fn changes(&self) -> Result<Taken, Error> {
        let answer = self.lapi.changes().await?;
        let takeover = answer.read(self.set.changes(self.types, Instant::now())).await?;
        Ok(takeover.complete_and_believed())
    }

    /// An answer that ends most of what stands is asked for once more, and the second is believed: a short list can be
    /// a database that failed in mid-way, but LAPI may as well have been emptied on purpose.
    async fn everything(&self) -> Result<Taken, Error> {
        let answer = self.lapi.all().await?;
        match answer.read(self.set.all(self.types, Instant::now())).await?.complete() {
            Ok(taken) => Ok(taken),
            Err(Implausible { would_end, of }) => {
                warn!(
                    "LAPI's full answer would end {would_end} of {of} decisions: asking once more before it is believed."
                );
                let answer = self.lapi.all().await?;
                Ok(answer.read(self.set.all(self.types, Instant::now())).await?.complete_and_believed())
            }
        }
    }

    /// Until the next poll, give or take a twentieth, so that many instances do not ask in step. Failures that cost
    /// LAPI work double it, up to a minute; one that cost none (nobody listens, the key is refused) does not, so that
    /// a LAPI that returns is found within one interval.
    fn pause(&self) -> Duration {
        let longest = self.update_frequency.max(Duration::from_secs(60));
        let doublings = self.costly_failures.saturating_sub(1).min(16);
        let pause = self.update_frequency.saturating_mul(1 << doublings).min(longest);
        // A std hasher is keyed at random: one number of it is all the chance this needs.
        let chance = RandomState::new().hash_one(0) as f64 / u64::MAX as f64;
        pause.mul_f64(0.95 + 0.1 * chance)
    }

    fn tell(&mut self, taken: &Taken) {
        if taken.new - taken.renewed + taken.deleted > 0 {
            info!("CrowdSec: {} new decisions, {} ended early.", taken.new - taken.renewed, taken.deleted);
            info_!("{} stand.", self.set.len());
        }
        if let Some(first) = &taken.first_unreadable {
            warn!(
                "{} decisions of LAPI's could not be read and are not enforced. The first: {first}",
                taken.unreadable
            );
        }
        if taken.allows > 0 && !self.warned_of_allows {
            self.warned_of_allows = true;
            warn!(
                "LAPI holds decisions of type `allow`, which exempt nobody here: list such addresses in `crowdsec.decisions`."
            );
        }
    }
}

/// Whether we are in step with LAPI, for those who want to know. Atomic, since requests ask while the poller writes.
pub struct Status {
    start: Instant,
    /// Milliseconds from the start to the last answer, and one; 0 before the first.
    last_answer: AtomicU64,
    patience: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Health {
    /// LAPI has not answered since the launch.
    Starting,
    Ok,
    /// LAPI answered before, but not for three polls and ten seconds.
    Stale,
}

impl Status {
    pub fn new(update_frequency: Duration) -> Self {
        let patience = update_frequency * 3 + Duration::from_secs(10);
        Self { start: Instant::now(), last_answer: AtomicU64::new(0), patience }
    }

    pub fn health(&self) -> Health {
        match self.since_last_answer() {
            None => Health::Starting,
            Some(age) if age <= self.patience => Health::Ok,
            Some(_) => Health::Stale,
        }
    }

    pub fn since_last_answer(&self) -> Option<Duration> {
        let at = self.last_answer.load(Ordering::Relaxed).checked_sub(1)?;
        Some(self.start.elapsed().saturating_sub(Duration::from_millis(at)))
    }

    /// A snapshot counts as an answer at the start: it is soon stale, unless LAPI answers itself.
    fn recalled(&self) {
        self.last_answer.store(1, Ordering::Relaxed);
    }

    fn answered(&self) {
        self.last_answer.store(self.start.elapsed().as_millis() as u64 + 1, Ordering::Relaxed);
    }
}
