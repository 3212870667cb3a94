//! How do we keep in step with CrowdSec? Poll once, ask for everything when in doubt, go on until shutdown.

use std::mem;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::warn;
use rand::seq::IteratorRandom;
use rocket::Shutdown;
use rocket::futures::future::join_all;
use tokio::time::{sleep, timeout};

use super::client::{CHANGES, WHOLE};
use super::contact::Contact;
use super::pace::{EAGER, InStep, Pace};
use super::saving::Saving;
use super::snapshot::Snapshot;
use super::telling::Telling;
use super::{Config, Connection, Error, Lapi, Live, OnStartupFailure};
use crate::crowdsec::decisions::{Compared, DecisionSet, Taken, Value};
use crate::crowdsec::panics::{survive, survive_now};
use crate::crowdsec::printable::{decisions, printable};
use crate::crowdsec::setting::Secret;

/// Keeps a decision set in step with LAPI.
///
/// Deltas lose additions when LAPI is busy, and some deletions are never sent (`cscli alerts delete`, LAPI's own flush),
/// so everything is asked for every `resync_frequency`; and after any poll that failed, since LAPI does not repeat what
/// it believes to have sent.
pub struct Poller {
    lapi: Lapi,
    set: Arc<DecisionSet>,
    contact: Arc<Contact>,
    pace: Pace,
    /// `None` while the last poll is not known to have succeeded: then everything is asked for.
    in_step: Option<InStep>,
    /// In live mode: asks LAPI about each visitor, and polls in the place of this poller.
    live: Option<Arc<Live>>,
    telling: Telling,
    saving: Saving,
}

/// Before a full answer counts, LAPI has to confirm that this many of the missing decisions are gone.
const CONFIRMATIONS: usize = 5;

impl Poller {
    /// `secret` signs the snapshot, where one is kept.
    pub fn new(
        connection: &Arc<Connection>,
        config: &Config,
        set: Arc<DecisionSet>,
        contact: Arc<Contact>,
        secret: Option<&Secret>,
        live: Option<Arc<Live>>,
    ) -> Result<Self, String> {
        let snapshot = config.snapshot.clone().map(|path| Snapshot::new(path, connection, secret));
        Ok(Self {
            lapi: Lapi::new(connection)?,
            telling: Telling::new(connection, config, set.clone(), contact.clone()),
            saving: Saving::new(snapshot, set.clone()),
            set,
            contact,
            pace: Pace::of(config),
            in_step: None,
            live,
        })
    }

    /// Waits for LAPI's first answer, for which a snapshot stands in. With `open` it waits for one attempt, since visitors
    /// would be waiting; otherwise it asks again each second, since CrowdSec may need some seconds after a boot.
    pub async fn first_answer(mut self, startup_timeout: Duration) -> Result<Self, String> {
        if self.saving.recall() {
            self.contact.recalled();
            return Ok(self);
        }
        let (begin, mut told, on_failure) = (Instant::now(), false, self.telling.on_startup_failure);
        let left = || startup_timeout.saturating_sub(begin.elapsed());
        let error = loop {
            let asked = Instant::now();
            let result = timeout(left(), self.try_poll()).await;
            let result = result.unwrap_or_else(|_| {
                let too_slow = Err(Error::Transfer("LAPI took longer than startup_timeout".into()));
                self.contact.count(&too_slow, asked.elapsed());
                too_slow
            });
            let Err(error) = result else { return Ok(self) };
            // LAPI has answered, and no time will change what it says of this key.
            let is_final = matches!(error, Error::Forbidden);
            let pause = self.pause();
            if on_failure == OnStartupFailure::Open || is_final || left() <= pause {
                break error;
            }
            if !mem::replace(&mut told, true) {
                warn!(
                    "CrowdSec's LAPI at {} does not answer yet: {error}. The launch waits and asks again and again, for \
                     `startup_timeout` ({} s) at most.",
                    self.telling.address,
                    startup_timeout.as_secs_f32()
                );
            }
            sleep(pause).await;
        };
        if on_failure == OnStartupFailure::Abort {
            let lapi = &self.telling.address;
            return Err(format!("no first answer from LAPI at {lapi}: {error}. `on_startup_failure` is `abort`"));
        }
        self.telling.of_poll(Err(error));
        Ok(self)
    }

    /// Asks once, for changes and, where it is due, for everything, and takes the answers over.
    ///
    /// Given up halfway, it leaves the next poll to ask for everything.
    pub async fn poll(&mut self) -> Result<(), Error> {
        if let Some(live) = &self.live {
            let taken = live.poll().await?;
            self.telling.of_answer(&taken);
            return Ok(());
        }
        let mut in_step = self.in_step.take();
        if let Some(in_step) = &mut in_step {
            let within = CHANGES.max(self.pace.update_frequency.saturating_mul(3));
            let changes = self.lapi.ask(false, within, &self.set).await?;
            let taken = changes.complete();
            in_step.named += taken.changes();
            self.saving.is_due |= taken.changes() > 0;
            self.contact.answered();
            self.telling.of_answer(&taken);
        }
        if in_step.as_ref().is_none_or(|last| last.since.elapsed() >= self.pace.until_everything(last)) {
            let (taken, new) = self.everything().await?;
            match mem::replace(&mut in_step, new) {
                Some(last) => self.telling.of_drift(&taken, last.named),
                None => self.telling.of_first(&taken),
            }
        }
        self.contact.answered();
        self.in_step = in_step;
        Ok(())
    }

    /// Polls; a panic costs this poll alone: it fails, and the next one asks for everything.
    pub async fn try_poll(&mut self) -> Result<(), Error> {
        let (asked, everything) = (Instant::now(), self.in_step.is_none());
        let result = survive(self.poll()).await.unwrap_or_else(|panic| Err(Error::Panicked(panic)));
        self.contact.count(&result, asked.elapsed());
        self.contact.awaits_everything(Duration::ZERO);
        self.pace.wasted = if result.is_err() && everything { asked.elapsed() } else { Duration::ZERO };
        result
    }

    /// Polls until shutdown: at once where nothing was asked yet, since a snapshot stood in for the first answer.
    ///
    /// Whatever panics here, polling goes on and the shutdown ends it. That is why no line of the log is written outside of
    /// `survive`.
    pub async fn run(mut self, mut shutdown: Shutdown) {
        let mut pause = if self.contact.is_recalled() { Duration::ZERO } else { self.pause() };
        loop {
            self.saving.go_on().await;
            let contact = self.contact.clone();
            tokio::select! {
                () = &mut shutdown => break,
                () = sleep(pause) => {}
                // Not where LAPI fails: it needs its rest. And not at once: bursts would have it asked without a pause.
                () = contact.hurry.began.notified(), if self.in_step.is_some() => sleep(pause.min(EAGER)).await,
            }
            let result = tokio::select! {
                () = &mut shutdown => break,
                result = self.try_poll() => result,
            };
            let _ = survive_now(|| self.telling.of_poll(result));
            pause = self.pause();
        }
        self.saving.end().await;
    }

    /// Asks for everything. If the answer lacks decisions that stand, asks LAPI to confirm. That question moves the mark from
    /// which LAPI computes the next delta, so the result has no `InStep`, and the next poll asks for everything.
    async fn everything(&mut self) -> Result<(Taken, Option<InStep>), Error> {
        let since = Instant::now();
        self.contact.awaits_everything(self.pace.cost);
        let all = self.lapi.ask(true, WHOLE, &self.set).await?;
        let compared = all.take_over(Instant::now(), self.pace.resync_frequency / 2);
        self.saving.is_due = true;
        self.pace.cost = since.elapsed();
        let ((missing, of), confirmed) = (compared.missing(), self.confirm(&compared).await);
        let taken = compared.settle(confirmed.is_ok());
        if confirmed.is_err() {
            self.telling.of_answer(&taken);
        }
        let kept = |reason| {
            let what = format!("lacks {missing} of {} that nothing has ended", decisions(of));
            Error::Short(format!("{what}, and {reason}. All of them are kept"))
        };
        let asked = confirmed.map_err(kept)?;
        // Fails closed where the operator wants nobody let in before LAPI has answered: an empty answer may be a failing
        // database's, and nothing was ever heard that it could lack.
        let is_doubtful = taken.new == 0
            && self.telling.on_startup_failure != OnStartupFailure::Open
            && self.contact.since_last_answer().is_none();
        let anybody = Value::Network(IpAddr::from(Ipv4Addr::LOCALHOST).into());
        if is_doubtful && let Err(error) = self.lapi.standing_on(&anybody, None).await {
            self.saving.is_due = false;
            return Err(Error::Short(format!("is empty, and {}. It does not count", says_of(&anybody, &error))));
        }
        self.telling.of_kept(&taken, of);
        let in_step =
            InStep { since, named: 0, was_odd: taken.new == 0 || taken.left_out > 0, kept_until: taken.kept_until };
        Ok((taken, (!asked && !is_doubtful).then_some(in_step)))
    }

    /// Whether LAPI says of some of the decisions that a full answer lacks, chosen at random, that they are gone. Gives
    /// whether it had to be asked. Fails towards the bans: whatever LAPI says but a plain no, all of them stay.
    async fn confirm(&self, compared: &Compared) -> Result<bool, String> {
        let some = compared.to_confirm().sample(&mut rand::rng(), CONFIRMATIONS);
        // All at once: a LAPI that hangs is waited for only once.
        let answers = join_all(some.iter().map(|(value, key)| self.lapi.standing_on(value, key.id()))).await;
        for ((value, key), standing) in some.iter().zip(answers) {
            let standing = standing.map_err(|error| says_of(value, &error))?;
            if standing.iter().any(|decision| decision.value == *value && decision.key() == *key) {
                let shown = printable(&value.to_string());
                return Err(format!("asked about it, it says that the one on {shown} stands"));
            }
        }
        Ok(!some.is_empty())
    }

    /// Until the next poll.
    pub fn pause(&self) -> Duration {
        let is_known = self.contact.since_last_answer().is_some();
        let hurries = self.in_step.is_some() && self.contact.hurry.is_on(Instant::now());
        self.pace.pause(is_known, hurries)
    }
}

/// What LAPI says in place of what stands against one value.
fn says_of(value: &Value, error: &Error) -> String {
    let what = format!("asked about {}, it says: {error}", printable(&value.to_string()));
    match error {
        Error::Forbidden | Error::Status(404 | 405) => {
            format!("{what}. Whatever stands between us and LAPI has to let GET /v1/decisions through as well")
        }
        _ => what,
    }
}
