//! How do we keep in step with CrowdSec? Poll once, ask for everything when in doubt, go on until shutdown.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::seq::IteratorRandom;
use rocket::Shutdown;
use rocket::futures::future::join_all;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::health::Status;
use super::saving::Saving;
use super::snapshot::Snapshot;
use super::telling::Telling;
use super::{Config, Connection, Error, Lapi, Live};
use crate::crowdsec::decisions::{Changes, Compared, DecisionSet, Everything, Taken, Types};
use crate::crowdsec::panics::survive;
use crate::crowdsec::printable::printable;
use crate::crowdsec::setting::Secret;

/// Keeps a decision set in step with LAPI.
///
/// Deltas lose additions when LAPI is busy, and some deletions are never sent (`cscli alerts delete`, LAPI's own flush),
/// so everything is asked for every `resync_frequency`; and after any poll that failed, since LAPI does not repeat what
/// it believes to have sent.
pub struct Poller {
    lapi: Lapi,
    set: Arc<DecisionSet>,
    status: Arc<Status>,
    types: Types,
    update_frequency: Duration,
    resync_frequency: Duration,
    /// `None` while the last poll is not known to have succeeded: then everything is asked for.
    in_step: Option<InStep>,
    /// In live mode, who is asked instead.
    live: Option<Arc<Live>>,
    /// How long LAPI worked for us in vain, if the last poll asked for everything and failed.
    wasted: Duration,
    telling: Telling,
    saving: Saving,
}

/// When everything was asked for, how long that took, and how many changes deltas have named since.
struct InStep {
    since: Instant,
    cost: Duration,
    named: usize,
    /// Whether the full answer named nothing at all.
    was_empty: bool,
    /// When a decision that the full answer lacked may end at the earliest.
    kept_until: Option<Instant>,
}

/// Of so many decisions LAPI has to say that they are gone, before a full answer counts that lacks any.
const CONFIRMATIONS: usize = 5;

/// Between two polls before LAPI's first answer, until which nobody is protected, and while somebody scans.
const EAGER: Duration = Duration::from_secs(1);
/// The longest rest that LAPI gets after it worked in vain.
const MINUTE: Duration = Duration::from_secs(60);

impl Poller {
    /// `secret` signs the snapshot, where one is kept.
    pub fn new(
        connection: &Connection,
        config: &Config,
        types: Types,
        set: Arc<DecisionSet>,
        status: Arc<Status>,
        secret: Option<&Secret>,
        live: Option<Arc<Live>>,
    ) -> Result<Self, Error> {
        let snapshot = config.snapshot.clone().map(|path| Snapshot::new(path, connection, secret));
        Ok(Self {
            lapi: Lapi::new(connection, config.update_frequency)?,
            telling: Telling::new(connection, config, set.clone(), status.clone()),
            saving: Saving::new(snapshot, set.clone()),
            set,
            status,
            types,
            update_frequency: config.update_frequency,
            resync_frequency: config.resync_frequency,
            in_step: None,
            live,
            wasted: Duration::ZERO,
        })
    }

    /// Where LAPI is, for messages.
    pub fn address(&self) -> &str {
        self.telling.address()
    }

    /// Reads the snapshot, where there is one. True if it was believed: it counts as the first answer.
    pub fn recall(&mut self) -> bool {
        let is_believed = self.saving.recall(self.types.clone()).is_some();
        if is_believed {
            self.status.recalled();
        }
        is_believed
    }

    /// Asks once, for changes and, where it is due, for everything, and takes the answers over.
    ///
    /// Given up halfway, it leaves the next poll to ask for everything.
    pub async fn poll(&mut self) -> Result<(), Error> {
        if let Some(live) = &self.live {
            let taken = live.poll().await?;
            self.telling.of_answer(&taken, self.types.fallback);
            return Ok(());
        }
        let in_step = self.in_step.take();
        let mut in_step = match in_step {
            None => {
                let (taken, in_step) = self.everything().await?;
                self.telling.of_answer(&taken, self.types.fallback);
                self.telling.of_filters(&taken);
                in_step
            }
            Some(in_step) => {
                let taken = self.changes().await?;
                let named = taken.added() + taken.ended;
                self.saving.note(named > 0);
                self.status.answered();
                self.telling.of_answer(&taken, self.types.fallback);
                Some(InStep { named: in_step.named + named, ..in_step })
            }
        };
        if let Some(known) = in_step.take_if(|known| known.since.elapsed() >= self.until_everything(known)) {
            self.status.awaits_everything(known.cost);
            let (taken, new) = self.everything().await?;
            self.telling.of_drift(&taken, known.named);
            in_step = new;
        }
        self.status.answered();
        self.in_step = in_step;
        Ok(())
    }

    /// How long to go on with deltas. LAPI loses additions while many come at once (each is dated before it is written,
    /// and the mark it compares with has moved meanwhile), and a lost one leaves no trace: not in ids, which other scopes
    /// and simulated decisions use up as well, and not in counts, which LAPI does not tell. So after a change everything
    /// is asked for sooner than `resync_frequency`: after three polls, but never for more than a sixtieth of LAPI's time. So
    /// it is after an empty answer: it costs LAPI nothing, and may be that of a database that fails while we start.
    fn until_everything(&self, in_step: &InStep) -> Duration {
        let soon = (self.update_frequency * 3).max(in_step.cost * 60).max(Duration::from_secs(10));
        let longest = if in_step.named > 0 || in_step.was_empty {
            soon.min(self.resync_frequency)
        } else {
            self.resync_frequency
        };
        // What a full answer lacked ends with the second one that lacks it, as soon as that may count.
        in_step.kept_until.map_or(longest, |until| longest.min(until.saturating_duration_since(in_step.since)))
    }

    /// Polls; a panic costs this poll alone: it fails, and the next one asks for everything.
    pub async fn try_poll(&mut self) -> Result<(), Error> {
        let (asked, everything) = (Instant::now(), self.in_step.is_none());
        let result = survive(self.poll()).await.unwrap_or_else(|panic| Err(Error::Panicked(panic)));
        self.status.polls.count(&result, asked.elapsed());
        self.wasted = if result.is_err() && everything { asked.elapsed() } else { Duration::ZERO };
        result
    }

    /// A poll that took too long for the launch.
    pub fn give_up(&self, asked: Instant) -> Result<(), Error> {
        let result = Err(Error::TooSlow);
        self.status.polls.count(&result, asked.elapsed());
        result
    }

    /// Polls until shutdown: at once where nothing was asked yet, since a snapshot stood in for the first answer.
    ///
    /// Whatever panics here, polling goes on and the shutdown ends it. That is why no line of the log is written outside of
    /// `survive`.
    pub async fn run(mut self, mut shutdown: Shutdown) {
        let is_first = self.in_step.is_none() && !self.telling.is_away();
        let mut pause = if is_first { Duration::ZERO } else { self.pause() };
        loop {
            self.saving.go_on().await;
            let status = self.status.clone();
            tokio::select! {
                () = &mut shutdown => break,
                () = sleep(pause) => {}
                // Not where LAPI fails: it needs its rest. And not at once: bursts would have it asked without a pause.
                () = status.hurry.began(), if self.in_step.is_some() => sleep(pause.min(EAGER)).await,
            }
            let result = tokio::select! {
                () = &mut shutdown => break,
                result = self.try_poll() => result,
            };
            let _ = survive(async { self.note(result) }).await;
            pause = self.pause();
        }
        self.saving.end().await;
    }

    /// Tells of the last poll's end.
    pub fn note(&mut self, result: Result<(), Error>) {
        self.status.awaits_nothing();
        self.telling.of_poll(result);
    }

    async fn changes(&self) -> Result<Taken, Error> {
        // LAPI's durations count from its answer's beginning.
        let answer = self.lapi.ask(false).await?;
        let changes = answer.read(self.set.changes(self.types.clone(), Instant::now()), Changes::take).await?;
        aside(|| changes.complete()).await
    }

    /// Asks for everything. Where the answer lacks what stands, LAPI has to confirm it; and since that question moves the
    /// mark that a delta begins at, everything is asked for once more then: gives no `InStep`.
    async fn everything(&mut self) -> Result<(Taken, Option<InStep>), Error> {
        let since = Instant::now();
        let answer = self.lapi.ask(true).await?;
        let all = answer.read(self.set.everything(self.types.clone(), Instant::now()), Everything::take).await?;
        let apart = self.resync_frequency / 2;
        let compared = aside(move || all.take_over(Instant::now(), apart)).await?;
        self.saving.note(true);
        let cost = since.elapsed();
        let ((missing, known), confirmed) = (compared.missing(), self.confirm(&compared).await);
        let (of, is_confirmed) = (missing + known, confirmed.is_ok());
        let taken = aside(move || compared.settle(is_confirmed)).await?;
        if !is_confirmed {
            self.telling.of_answer(&taken, self.types.fallback);
        }
        let asked = confirmed.map_err(|reason| Error::Short { missing, of, reason })?;
        self.telling.of_kept(&taken, of);
        let in_step = InStep { since, cost, named: 0, was_empty: taken.new == 0, kept_until: taken.kept_until };
        Ok((taken, (!asked).then_some(in_step)))
    }

    /// Whether LAPI says of some of the decisions that a full answer lacks, chosen at random, that they are gone. Gives
    /// whether it had to be asked. Fails towards the bans: whatever LAPI says but a plain no, all of them stay.
    async fn confirm(&self, compared: &Compared) -> Result<bool, String> {
        let some = compared.to_confirm().sample(&mut rand::rng(), CONFIRMATIONS);
        // All at once: a LAPI that hangs is waited for only once.
        let answers = join_all(some.iter().map(|(value, key)| self.lapi.standing_on(value, *key))).await;
        for ((value, key), standing) in some.iter().zip(answers) {
            let shown = printable(&value.to_string());
            let standing = standing.map_err(|error| match error {
                Error::Forbidden | Error::Status(404 | 405) => format!(
                    "of the one on {shown} it says: {error}. Whatever stands between us and LAPI has to let \
                     GET /v1/decisions through as well"
                ),
                error => format!("of the one on {shown} it says: {error}"),
            })?;
            if standing.iter().any(|decision| decision.value == *value && decision.key() == *key) {
                return Err(format!("asked about it, it says that the one on {shown} stands"));
            }
        }
        Ok(!some.is_empty())
    }

    /// Until the next poll, give or take a twentieth, so that many instances do not ask in step. Before the first answer, and
    /// while somebody scans, that is a second, whatever `update_frequency` says. Where LAPI worked in vain, it may rest as long as it worked, so
    /// that no instance takes more than half of its time; nobody listening, or a refused key, costs it none.
    pub fn pause(&self) -> Duration {
        let usual = match self.status.since_last_answer() {
            None => EAGER,
            Some(_) if self.in_step.is_some() && self.status.hurry.is_on(Instant::now()) => {
                self.update_frequency.min(EAGER)
            }
            Some(_) => self.update_frequency,
        };
        let pause = usual.max(self.wasted.min(MINUTE));
        // A std hasher is keyed at random: one number of it is all the chance this needs.
        let chance = RandomState::new().hash_one(0) as f64 / u64::MAX as f64;
        pause.mul_f64(0.95 + 0.1 * chance)
    }
}

/// Runs what may take milliseconds on a thread for blocking work, so that a shutdown need not wait for it, and a panic is
/// an error of this poll and not the poller's end.
pub async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
    spawn_blocking(work).await.map_err(|panic| Error::Panicked(panic.to_string()))
}

#[cfg(test)]
mod tests {
    use figment::Figment;

    use super::*;
    use crate::crowdsec::setting::Reading;

    #[test]
    fn lapi_is_asked_each_second_until_it_answers_and_rests_where_it_worked_in_vain() {
        let settings = Figment::from(rocket::Config::debug_default()).merge(("crowdsec.api_key", "of-the-tests"));
        let settings = settings.merge(("crowdsec.update_frequency", "10s"));
        let config = Config::read(&mut Reading::of(&settings)).expect("a configuration");
        let (set, status) =
            (Arc::new(DecisionSet::new(Instant::now())), Arc::new(Status::new(config.update_frequency)));
        let connection = config.connection.as_ref().expect("a key");
        let types = Types::default();
        let poller = Poller::new(connection, &config, types, set, status.clone(), None, None);
        let mut poller = poller.expect("a poller");
        for usual in [1.0, 10.0] {
            for (wasted, pause) in [(0, usual), (1, usual), (30, 30.0), (600, 60.0)] {
                poller.wasted = Duration::from_secs(wasted);
                let twentieth = pause / 20.0;
                let off = (poller.pause().as_secs_f64() - pause).abs();
                assert!(off <= twentieth, "{wasted} s in vain: {off} s off {pause} s");
            }
            status.answered();
        }
    }
}
