//! How do we keep in step with CrowdSec? Poll once, ask for everything when in doubt, go on until shutdown.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rocket::Shutdown;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::sleep;

use super::config::{Config, LapiConfig};
use super::decision_set::{DecisionSet, Implausible, Taken, Takeover, Types};
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
    /// `None` while the last poll is not known to have succeeded: then everything is asked for.
    in_step: Option<InStep>,
    /// Full answers in a row that brought what no delta had.
    drifts: u32,
    away_since: Option<Instant>,
    costly_failures: u32,
    warned_of_allows: bool,
    snapshot: Option<Snapshot>,
    /// What the snapshot on the disk lacks, and since when it is as it is.
    unsaved: bool,
    saved_at: Option<Instant>,
    saving: Option<JoinHandle<io::Result<()>>>,
}

/// When everything was asked for, how long that took, and how many changes deltas have named since.
struct InStep {
    since: Instant,
    cost: Duration,
    named: usize,
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
            in_step: None,
            drifts: 0,
            away_since: None,
            costly_failures: 0,
            warned_of_allows: false,
            snapshot: config.snapshot.clone().map(|path| Snapshot::new(path, lapi)),
            unsaved: false,
            saved_at: None,
            saving: None,
        })
    }

    /// Where LAPI is, for messages.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Asks once, for changes and, where it is due, for everything, and takes the answers over.
    ///
    /// Given up halfway, it leaves the next poll to ask for everything.
    pub async fn poll(&mut self) -> Result<(), Error> {
        let in_step = self.in_step.take();
        let asked = Instant::now();
        let mut in_step = match in_step {
            None => {
                let taken = self.everything().await?;
                self.unsaved = true;
                self.tell(&taken);
                InStep { since: asked, cost: asked.elapsed(), named: 0 }
            }
            Some(in_step) => {
                let taken = self.changes().await?;
                let named = taken.added() + taken.ended;
                self.unsaved |= named > 0;
                self.status.answered();
                self.tell(&taken);
                InStep { named: in_step.named + named, ..in_step }
            }
        };
        if in_step.since.elapsed() >= self.until_everything(&in_step) {
            let asked = Instant::now();
            let taken = self.everything().await?;
            self.unsaved = true;
            self.compare(&taken, in_step.named);
            in_step = InStep { since: asked, cost: asked.elapsed(), named: 0 };
        }
        self.status.full_answer.store(in_step.cost.as_millis() as u64, Ordering::Relaxed);
        self.status.answered();
        self.in_step = Some(in_step);
        Ok(())
    }

    /// How long to go on with deltas. LAPI loses additions while many come at once (each is dated before it is written,
    /// and the mark it compares with has moved meanwhile), and a lost one leaves no trace: not in ids, which other scopes
    /// and simulated decisions use up as well, and not in counts, which LAPI does not tell. So after a change everything
    /// is asked for sooner than `resync_frequency`: after three polls, but never for more than a sixtieth of LAPI's time.
    fn until_everything(&self, in_step: &InStep) -> Duration {
        let soon = (self.update_frequency * 3).max(in_step.cost * 60).max(Duration::from_secs(10));
        if in_step.named > 0 { soon.min(self.resync_frequency) } else { self.resync_frequency }
    }

    /// Asked for right after the changes, a full answer brings little that no delta named: what LAPI lost, and what came
    /// while it was being made. Where it is a good part of all changes, three times in a row, somebody else gets them.
    fn compare(&mut self, taken: &Taken, named: usize) {
        let unnamed = taken.added() + taken.ended;
        if unnamed > 0 {
            log::info!("CrowdSec: a full answer changed {unnamed} decisions that no delta had named.");
        }
        self.drifts = if unnamed >= 10 && unnamed * 3 > named { self.drifts + 1 } else { 0 };
        if self.drifts == 3 {
            log::warn!(
                "LAPI's changes keep being incomplete: {unnamed} were missing, {named} came. Does another instance use the same key? Each needs its own: see the IP addresses in `cscli bouncers list`."
            );
        }
    }

    /// Reads the snapshot, where there is one. True if it was believed: it counts as the first answer.
    pub fn recall(&mut self) -> bool {
        let Some(snapshot) = &self.snapshot else { return false };
        match snapshot.read(&self.set, self.types, Instant::now()) {
            Ok(Some(age)) => {
                log::info!("{} decisions come from the snapshot of {} s ago.", self.set.len(), age.as_secs());
                self.status.recalled();
                true
            }
            Ok(None) => false,
            Err(reason) => {
                // Fails towards LAPI: it will say what stands, and the next snapshot takes this one's place.
                log::warn!("The snapshot {} is not used: {reason}.", snapshot.path().display());
                false
            }
        }
    }

    /// Polls until shutdown: at once where nothing was asked yet, since a snapshot stood in for the first answer.
    pub async fn run(mut self, mut shutdown: Shutdown) {
        let mut pause = if self.in_step.is_none() && self.away_since.is_none() { Duration::ZERO } else { self.pause() };
        loop {
            // A disk that hangs must not keep new decisions away: while one write lasts, no other is begun.
            if self.saving.as_ref().is_none_or(JoinHandle::is_finished) {
                self.saved().await;
                if self.saved_at.is_none_or(|at| at.elapsed() >= SAVE_EVERY) {
                    self.save();
                }
            }
            tokio::select! {
                () = &mut shutdown => break,
                () = sleep(pause) => {}
            }
            tokio::select! {
                () = &mut shutdown => break,
                result = self.poll() => self.note(result),
            }
            if self.away_since.is_some() {
                let set = self.set.clone();
                let _ = aside(move || set.sweep(Instant::now())).await;
            }
            pause = self.pause();
        }
        self.saved().await;
        self.save();
        self.saved().await;
    }

    /// Begins to write the snapshot if there is anything new.
    fn save(&mut self) {
        let Some(snapshot) = self.snapshot.clone().filter(|_| self.unsaved) else { return };
        (self.unsaved, self.saved_at) = (false, Some(Instant::now()));
        let set = self.set.clone();
        self.saving = Some(spawn_blocking(move || snapshot.store(&snapshot.bytes(&set, Instant::now()))));
    }

    /// Hears how the last write ended.
    async fn saved(&mut self) {
        let (Some(saving), Some(snapshot)) = (self.saving.take(), &self.snapshot) else { return };
        if let Err(error) = saving.await.unwrap_or_else(|panic| Err(io::Error::other(panic))) {
            self.unsaved = true;
            let path = snapshot.path().display();
            log::warn!(
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
                log::warn!("CrowdSec's LAPI at {} is back after {} s.", self.address, since.elapsed().as_secs());
                self.away_since = None;
                self.costly_failures = 0;
            }
            (Err(error), away_since) => {
                if away_since.is_none() {
                    log::warn!(
                        "CrowdSec's LAPI at {} is lost: {error}. Its decisions stand until each one's own end. Asking again until it is back.",
                        self.address
                    );
                    self.away_since = Some(Instant::now());
                } else {
                    log::info!("CrowdSec's LAPI at {} is still lost: {error}.", self.address);
                }
                self.costly_failures = if error.was_costly() { self.costly_failures + 1 } else { 0 };
            }
        }
    }

    async fn changes(&self) -> Result<Taken, Error> {
        let takeover = self.answer(false).await?;
        aside(|| takeover.complete_and_believed()).await
    }

    /// An answer that ends most of what stands is asked for once more, and the second is believed: a short list can be
    /// a database that failed in mid-way, but LAPI may as well have been emptied on purpose.
    async fn everything(&self) -> Result<Taken, Error> {
        let takeover = self.answer(true).await?;
        match aside(|| takeover.complete()).await? {
            Ok(taken) => Ok(taken),
            Err(Implausible { would_end, of }) => {
                log::warn!(
                    "LAPI's full answer would end {would_end} of {of} decisions: asking again before it is believed."
                );
                let takeover = self.answer(true).await?;
                aside(|| takeover.complete_and_believed()).await
            }
        }
    }

    /// Asks LAPI and reads what it says. LAPI's durations count from its answer's beginning.
    async fn answer(&self, everything: bool) -> Result<Takeover, Error> {
        let answer = self.lapi.ask(everything).await?;
        let begin = if everything { DecisionSet::all } else { DecisionSet::changes };
        answer.read(begin(&self.set, self.types, Instant::now())).await
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
        if taken.added() + taken.ended > 0 {
            log::info!("CrowdSec: {} new decisions, {} ended early.", taken.added(), taken.ended);
        }
        if let Some(first) = &taken.first_unreadable {
            log::warn!(
                "{} decisions of LAPI's could not be read and are not enforced. The first: {first}",
                taken.unreadable
            );
        }
        if taken.allows > 0 && !self.warned_of_allows {
            self.warned_of_allows = true;
            log::warn!(
                "LAPI holds decisions of type `allow`, which exempt nobody here: list such addresses in `crowdsec.decisions`."
            );
        }
    }
}

/// Runs what may take milliseconds on a thread for blocking work, so that a shutdown need not wait for it, and a panic is
/// an error of this poll and not the poller's end.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
    spawn_blocking(work).await.map_err(|panic| Error::Unreadable(panic.to_string()))
}

/// Whether we are in step with LAPI, for those who want to know. Atomic, since requests ask while the poller writes.
pub struct Status {
    start: Instant,
    /// Milliseconds from the start to the last answer, and one; 0 before the first.
    last_answer: AtomicU64,
    /// How many milliseconds the last full answer took; the next one may take as long.
    full_answer: AtomicU64,
    patience: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Health {
    /// LAPI has not answered since the launch.
    Starting,
    Ok,
    /// LAPI answered before, but not for three polls, ten seconds, and the time of its last full answer.
    Stale,
}

impl Status {
    pub fn new(update_frequency: Duration) -> Self {
        let patience = update_frequency * 3 + Duration::from_secs(10);
        Self { start: Instant::now(), last_answer: AtomicU64::new(0), full_answer: AtomicU64::new(0), patience }
    }

    pub fn health(&self) -> Health {
        let patience = self.patience + Duration::from_millis(self.full_answer.load(Ordering::Relaxed));
        match self.since_last_answer() {
            None => Health::Starting,
            Some(age) if age <= patience => Health::Ok,
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
