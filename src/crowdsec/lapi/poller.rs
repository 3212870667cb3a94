//! How do we keep in step with CrowdSec? Poll once, ask for everything when in doubt, go on until shutdown.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::{info, warn};
use rand::seq::IteratorRandom;
use rocket::Shutdown;
use rocket::futures::future::join_all;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::sleep;

use super::health::Status;
use super::snapshot::Snapshot;
use super::{Config, Connection, Error, Lapi, OnStartupFailure};
use crate::crowdsec::decisions::{Changes, Compared, DecisionSet, Everything, MOST_ON_ONE_VALUE, Taken, Types};
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
    /// When it was last told that LAPI is away.
    told: Instant,
    /// How long LAPI worked for us in vain, if the last poll asked for everything and failed.
    wasted: Duration,
    on_startup_failure: OnStartupFailure,
    warned_of_allows: bool,
    warned_of_captchas: bool,
    warned_of_ids: bool,
    warned_of_crowds: bool,
    /// The filters and the unusual ones of their origins, until the operator was warned that nothing fits.
    unwarned_filters: Option<(String, Vec<String>)>,
    /// Whether a full answer lacked what stands on, and the log has told so.
    keeping: bool,
    snapshot: Option<Snapshot>,
    /// What the snapshot on the disk lacks, and since when it is as it is.
    unsaved: bool,
    saved_at: Option<Instant>,
    /// How long the last write took.
    saving_took: Duration,
    saving: Option<JoinHandle<io::Result<Duration>>>,
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

/// A crash loses what changed in the last minute, and the next full answer brings it back. Where a write takes more than a
/// second, since there are many decisions, a sixtieth of the time is spent on writes.
const SAVE_EVERY: Duration = Duration::from_secs(60);
/// Between two polls before LAPI's first answer, until which nobody is protected.
const EAGER: Duration = Duration::from_secs(1);
/// Between two lines that tell that LAPI is away; and the longest rest that LAPI gets after it worked in vain.
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
    ) -> Result<Self, Error> {
        Ok(Self {
            lapi: Lapi::new(connection, config.update_frequency)?,
            address: connection.at.to_string(),
            set,
            status,
            types,
            update_frequency: config.update_frequency,
            resync_frequency: config.resync_frequency,
            in_step: None,
            drifts: 0,
            away_since: None,
            told: Instant::now(),
            wasted: Duration::ZERO,
            on_startup_failure: config.on_startup_failure,
            warned_of_allows: false,
            warned_of_captchas: false,
            warned_of_ids: false,
            warned_of_crowds: false,
            unwarned_filters: connection.chosen_filters(),
            keeping: false,
            snapshot: config.snapshot.clone().map(|path| Snapshot::new(path, connection, secret)),
            unsaved: false,
            saved_at: None,
            saving_took: Duration::ZERO,
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
        let mut in_step = match in_step {
            None => {
                let (taken, in_step) = self.everything().await?;
                self.tell(&taken);
                self.tell_of_filters(&taken);
                in_step
            }
            Some(in_step) => {
                let taken = self.changes().await?;
                let named = taken.added() + taken.ended;
                self.unsaved |= named > 0;
                self.status.answered();
                self.tell(&taken);
                Some(InStep { named: in_step.named + named, ..in_step })
            }
        };
        if let Some(known) = in_step.take_if(|known| known.since.elapsed() >= self.until_everything(known)) {
            self.status.awaits_everything(known.cost);
            let (taken, new) = self.everything().await?;
            self.compare(&taken, known.named);
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

    /// Asked for right after the changes, a full answer brings little that no delta named: what LAPI lost, and what came
    /// while it was being made. Where it is a good part of all changes, three times in a row, somebody else gets them.
    fn compare(&mut self, taken: &Taken, named: usize) {
        let unnamed = taken.added() + taken.ended;
        if unnamed > 0 {
            log::info!("CrowdSec: a full answer changed {unnamed} decisions that no delta had named.");
        }
        self.drifts = if unnamed >= 10 && unnamed * 3 > named { self.drifts + 1 } else { 0 };
        if self.drifts == 3 {
            warn!(
                "LAPI's changes keep being incomplete: {unnamed} were missing, {named} came. Does another instance use the same \
                 key? Each needs its own: see the IP addresses in `cscli bouncers list`."
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

    /// Polls; a panic costs this poll alone: it fails, and the next one asks for everything.
    pub async fn try_poll(&mut self) -> Result<(), Error> {
        let (asked, everything) = (Instant::now(), self.in_step.is_none());
        let result = survive(self.poll()).await.unwrap_or_else(|panic| Err(Error::Panicked(panic)));
        self.wasted = if result.is_err() && everything { asked.elapsed() } else { Duration::ZERO };
        result
    }

    /// Polls until shutdown: at once where nothing was asked yet, since a snapshot stood in for the first answer.
    ///
    /// Whatever panics here, polling goes on and the shutdown ends it. That is why no line of the log is written outside of
    /// `survive`.
    pub async fn run(mut self, mut shutdown: Shutdown) {
        let mut pause = if self.in_step.is_none() && self.away_since.is_none() { Duration::ZERO } else { self.pause() };
        loop {
            // A disk that hangs must not keep new decisions away: while one write lasts, no other is begun.
            if self.saving.as_ref().is_none_or(JoinHandle::is_finished) {
                let _ = survive(self.saved()).await;
                if self.saved_at.is_none_or(|at| at.elapsed() >= SAVE_EVERY.max(self.saving_took * 60)) {
                    self.save().await;
                }
            }
            tokio::select! {
                () = &mut shutdown => break,
                () = sleep(pause) => {}
            }
            let result = tokio::select! {
                () = &mut shutdown => break,
                result = self.try_poll() => result,
            };
            let _ = survive(async { self.note(result) }).await;
            pause = self.pause();
        }
        let _ = survive(self.saved()).await;
        self.save().await;
        let _ = survive(self.saved()).await;
    }

    /// Begins to write the snapshot if there is anything new.
    async fn save(&mut self) {
        let Some(snapshot) = self.snapshot.clone().filter(|_| self.unsaved) else { return };
        let begin = Instant::now();
        // Copied while no answer is taken over: no change to the set waits for the copy, and no look-up for the change.
        let set = self.set.clone();
        let Ok(standing) = aside(move || set.standing(begin)).await else { return };
        (self.unsaved, self.saved_at) = (false, Some(begin));
        self.saving = Some(spawn_blocking(move || snapshot.store(&standing).map(|()| begin.elapsed())));
    }

    /// Hears how the last write ended.
    async fn saved(&mut self) {
        let (Some(saving), Some(snapshot)) = (self.saving.take(), &self.snapshot) else { return };
        match saving.await.unwrap_or_else(|panic| Err(io::Error::other(panic))) {
            Ok(took) => self.saving_took = took,
            Err(error) => {
                self.unsaved = true;
                let path = snapshot.path().display();
                warn!(
                    "The snapshot {path} cannot be written: {error}. Check `crowdsec.snapshot`; a restart would start empty."
                );
            }
        }
    }

    /// Tells once that LAPI is lost and once that it is back; and while nothing was ever heard of it, so that nobody is
    /// protected by it, again each minute. Keeps every decision in between: a ban must not end because the one who said it
    /// cannot be reached.
    pub fn note(&mut self, result: Result<(), Error>) {
        let (lapi, now) = (self.address.clone(), Instant::now());
        self.status.awaits_nothing();
        match (result, self.away_since) {
            (Ok(()), None) => {}
            (Ok(()), Some(since)) => {
                self.away_since = None;
                let (seconds, known) = (since.elapsed().as_secs(), self.set.len());
                warn!("CrowdSec's LAPI at {lapi} is back after {seconds} s: {known} decisions stand.");
            }
            (Err(_), Some(_)) if self.told.elapsed() < MINUTE => {}
            (Err(error), away_since) => {
                self.told = now;
                let since = *self.away_since.get_or_insert(now);
                let seconds = since.elapsed().as_secs();
                match (self.status.since_last_answer(), away_since) {
                    (None, _) => warn!(
                        "CrowdSec's LAPI at {lapi} has not answered yet: {error}. {} It is asked again each second.",
                        self.until_the_first_answer()
                    ),
                    (Some(_), None) => warn!(
                        "CrowdSec's LAPI at {lapi} is lost: {error}. Its decisions stand until each one's own end. It is asked \
                         again until it is back."
                    ),
                    (Some(_), Some(_)) => info!("CrowdSec's LAPI at {lapi} is still lost after {seconds} s: {error}."),
                }
            }
        }
    }

    /// What becomes of visitors before LAPI's first answer.
    fn until_the_first_answer(&self) -> &'static str {
        match self.on_startup_failure {
            // Fails open, the default: an application that is down because its guard is late helps no visitor.
            OnStartupFailure::Open => {
                "UNTIL IT ANSWERS, EVERYBODY IS LET IN whom your own `decisions` do not refuse: `on_startup_failure` is `open`."
            }
            // Fails closed, for those to whom an unprotected minute is worse than a minute without the application. With
            // `abort` the launch has not got this far.
            OnStartupFailure::Closed | OnStartupFailure::Abort => {
                "UNTIL IT ANSWERS, VISITORS GET 503: `on_startup_failure` is `closed`."
            }
        }
    }

    async fn changes(&self) -> Result<Taken, Error> {
        // LAPI's durations count from its answer's beginning.
        let answer = self.lapi.ask(false).await?;
        let changes = answer.read(self.set.changes(self.types, Instant::now()), Changes::take).await?;
        aside(|| changes.complete()).await
    }

    /// Asks for everything. Where the answer lacks what stands, LAPI has to confirm it; and since that question moves the
    /// mark that a delta begins at, everything is asked for once more then: gives no `InStep`.
    async fn everything(&mut self) -> Result<(Taken, Option<InStep>), Error> {
        let since = Instant::now();
        let answer = self.lapi.ask(true).await?;
        let all = answer.read(self.set.everything(self.types, Instant::now()), Everything::take).await?;
        let apart = self.resync_frequency / 2;
        let compared = aside(move || all.take_over(Instant::now(), apart)).await?;
        self.unsaved = true;
        let cost = since.elapsed();
        let ((missing, known), confirmed) = (compared.missing(), self.confirm(&compared).await);
        let (of, is_confirmed) = (missing + known, confirmed.is_ok());
        let taken = aside(move || compared.settle(is_confirmed)).await?;
        if !is_confirmed {
            self.tell(&taken);
        }
        let asked = confirmed.map_err(|reason| Error::Short { missing, of, reason })?;
        self.tell_of_kept(&taken, of);
        let in_step = InStep { since, cost, named: 0, was_empty: taken.new == 0, kept_until: taken.kept_until };
        Ok((taken, (!asked).then_some(in_step)))
    }

    /// Whether LAPI says of some of the decisions that a full answer lacks, chosen at random, that they are gone. Gives
    /// whether it had to be asked. Fails towards the bans: whatever LAPI says but a plain no, all of them stay.
    async fn confirm(&self, compared: &Compared) -> Result<bool, String> {
        let some = compared.to_confirm().sample(&mut rand::rng(), CONFIRMATIONS);
        // All at once: a LAPI that hangs is waited for only once.
        let answers = join_all(some.iter().map(|(value, key)| self.lapi.standing_on(*value, *key))).await;
        for ((value, key), standing) in some.iter().zip(answers) {
            let standing = standing.map_err(|error| match error {
                Error::Forbidden | Error::Status(404 | 405) => format!(
                    "of the one on {value} it says: {error}. Whatever stands between us and LAPI has to let \
                     GET /v1/decisions through as well"
                ),
                error => format!("of the one on {value} it says: {error}"),
            })?;
            if standing.iter().any(|decision| decision.value == *value && decision.key() == *key) {
                return Err(format!("asked about it, it says that the one on {value} stands"));
            }
        }
        Ok(!some.is_empty())
    }

    fn tell_of_kept(&mut self, taken: &Taken, of: usize) {
        if taken.kept > 0 && !self.keeping {
            let until =
                taken.kept_until.map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()));
            warn!(
                "LAPI's full answer lacks {} of {of} decisions that nothing has ended. They stand until a second answer, in \
                 {} s, lacks them too, since LAPI also answers so while its database fails. If it was emptied on purpose and \
                 that takes too long, restart this application, without its snapshot.",
                taken.kept,
                until.as_secs()
            );
        }
        self.keeping = taken.kept > 0;
    }

    /// Until the next poll, give or take a twentieth, so that many instances do not ask in step. Before the first answer
    /// that is a second, whatever `update_frequency` says. Where LAPI worked in vain, it may rest as long as it worked, so
    /// that no instance takes more than half of its time; nobody listening, or a refused key, costs it none.
    pub fn pause(&self) -> Duration {
        let usual = if self.status.since_last_answer().is_some() { self.update_frequency } else { EAGER };
        let pause = usual.max(self.wasted.min(MINUTE));
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
        if taken.captchas_without_provider > 0 && !self.warned_of_captchas {
            self.warned_of_captchas = true;
            warn!(
                "LAPI asks for captchas, and no `crowdsec.captcha.provider` is set: such visitors meet a {} instead. Set \
                 CROWDSEC_CAPTCHA_PROVIDER=altcha, which needs no account, or another provider.",
                self.types.fallback
            );
        }
        if taken.without_id > 0 && !self.warned_of_ids {
            self.warned_of_ids = true;
            warn!(
                "{} decisions of LAPI's have no id that can be used. They are enforced, but of several alike on one address \
                 the last one counts, and none can be lifted by its id. CrowdSec's own LAPI always sends ids: check what \
                 answers at {}.",
                taken.without_id, self.address
            );
        }
        if let Some(value) = taken.first_left_out.filter(|_| !self.warned_of_crowds) {
            self.warned_of_crowds = true;
            warn!(
                "LAPI has more than {MOST_ON_ONE_VALUE} decisions on {value}. Only the greatest are held there, and {} were \
                 left out. Look for what makes so many: `cscli alerts list`.",
                taken.left_out
            );
        }
    }

    /// A misspelt filter would let everybody in, in silence.
    fn tell_of_filters(&mut self, everything: &Taken) {
        let Some((filters, origins)) = &self.unwarned_filters else { return };
        let origins: Vec<&str> = origins.iter().map(String::as_str).filter(|name| !self.set.has_origin(name)).collect();
        let unfit = match everything.new {
            0 => filters.clone(),
            _ if origins.is_empty() => return,
            _ => format!("origins = {}", printable(&origins.join(","))),
        };
        self.unwarned_filters = None;
        warn!(
            "LAPI has no decision that fits {unfit}. If it should have some, compare with `cscli decisions list --all`: \
             origins are compared letter by letter."
        );
    }
}

/// Runs what may take milliseconds on a thread for blocking work, so that a shutdown need not wait for it, and a panic is
/// an error of this poll and not the poller's end.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
    spawn_blocking(work).await.map_err(|panic| Error::Panicked(panic.to_string()))
}

#[cfg(test)]
mod tests {
    use figment::Figment;

    use super::*;
    use crate::crowdsec::decisions::Remediation;
    use crate::crowdsec::setting::Reading;

    #[test]
    fn lapi_is_asked_each_second_until_it_answers_and_rests_where_it_worked_in_vain() {
        let settings = Figment::from(rocket::Config::debug_default()).merge(("crowdsec.api_key", "of-the-tests"));
        let settings = settings.merge(("crowdsec.update_frequency", "10s"));
        let config = Config::read(&mut Reading::of(&settings)).expect("a configuration");
        let (set, status) =
            (Arc::new(DecisionSet::new(Instant::now())), Arc::new(Status::new(config.update_frequency)));
        let connection = config.connection.as_ref().expect("a key");
        let types = Types { captcha: false, fallback: Remediation::Ban };
        let poller = Poller::new(connection, &config, types, set, status.clone(), None);
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
