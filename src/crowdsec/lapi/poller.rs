//! How do we keep in step with CrowdSec? We poll for changes, ask for everything when in doubt, and go on until shutdown.

mod full_answer;

use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::warn;
use rocket::Shutdown;
use tokio::time::{sleep, timeout};

use super::client::CHANGES;
use super::contact::Contact;
use super::pace::{EAGER, InStep, Pace};
use super::saving::Saving;
use super::snapshot::Snapshot;
use super::telling::Telling;
use super::{Config, Connection, Error, Lapi, Live, OnStartupFailure};
use crate::crowdsec::decisions::DecisionSet;
use crate::crowdsec::panics::{survive, survive_now};
use crate::crowdsec::setting::Secret;

/// Keeps a decision set in step with LAPI.
///
/// Deltas lose additions when LAPI is busy, and some deletions are never sent (`cscli alerts delete`, LAPI's own flush), so
/// the poller asks for everything every `resync_frequency`, and after each failed poll, since LAPI does not repeat what it
/// believes it has sent.
pub struct Poller {
    lapi: Lapi,
    set: Arc<DecisionSet>,
    contact: Arc<Contact>,
    pace: Pace,
    /// `None` while the last poll is not known to have succeeded: then the next one asks for everything.
    in_step: Option<InStep>,
    /// Whether the last full answer failed.
    lacks_everything: bool,
    /// Whether LAPI was asked to confirm what the last full answer lacked.
    has_asked: bool,
    /// In live mode: asks LAPI about each visitor, and polls in the place of this poller.
    live: Option<Arc<Live>>,
    telling: Telling,
    saving: Saving,
}

impl Poller {
    /// `secret` signs the snapshot, if one is kept.
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
            lacks_everything: false,
            has_asked: false,
            live,
        })
    }

    /// Waits for LAPI's first answer, unless a snapshot stands in for it. With `open`, waits for one attempt only, since
    /// visitors would wait as well; otherwise asks again each second, since CrowdSec may need some seconds after a boot.
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
            // LAPI has answered, and waiting does not change what it says of this key.
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

    /// Asks once for changes, and for everything if that is due, and takes the answers over.
    ///
    /// If a poll is given up halfway, the next one asks for everything.
    pub async fn poll(&mut self) -> Result<(), Error> {
        if let Some(live) = &self.live {
            let taken = live.poll().await?;
            self.telling.of_answer(&taken);
            return Ok(());
        }
        let mut in_step = self.in_step.take();
        if let Some(in_step) = &mut in_step {
            in_step.named += self.changes().await?;
            self.contact.answered();
        } else if self.lacks_everything && self.contact.since_last_answer().is_some() {
            // A full answer that is too long for a gateway must not keep new decisions away. The changes come first, since
            // a full answer moves the mark that they begin at. If they fail as well, the full answer's error says why.
            let _ = self.changes().await;
        }
        if in_step.as_ref().is_none_or(|last| last.since.elapsed() >= self.pace.until_everything(last)) {
            self.lacks_everything = true;
            let (taken, new) = self.everything().await?;
            self.lacks_everything = false;
            match mem::replace(&mut in_step, new) {
                Some(last) => self.telling.of_drift(&taken, last.named),
                None => self.telling.of_first(&taken),
            }
        }
        self.contact.answered();
        self.in_step = in_step;
        Ok(())
    }

    /// Polls. A panic costs this poll alone: it fails, and the next one asks for everything.
    pub async fn try_poll(&mut self) -> Result<(), Error> {
        let (asked, everything) = (Instant::now(), self.in_step.is_none());
        let result = survive(self.poll()).await.unwrap_or_else(|panic| Err(Error::Panicked(panic)));
        self.contact.count(&result, asked.elapsed());
        self.contact.awaits_everything(Duration::ZERO);
        self.pace.wasted = if result.is_err() && everything { asked.elapsed() } else { Duration::ZERO };
        result
    }

    /// Polls until shutdown. The first poll comes at once if a snapshot stood in for LAPI's first answer.
    ///
    /// Whatever panics here, polling goes on until shutdown. So log lines are only written in `survive` or in tasks of
    /// their own.
    pub async fn run(mut self, mut shutdown: Shutdown) {
        let mut pause = if self.contact.is_recalled() { Duration::ZERO } else { self.pause() };
        loop {
            self.saving.go_on().await;
            let contact = self.contact.clone();
            tokio::select! {
                () = &mut shutdown => break,
                () = sleep(pause) => {}
                // Not while LAPI fails: it needs its rest. And not at once: bursts would make us ask without a pause.
                () = contact.hurry.began.notified(), if self.in_step.is_some() => {
                    // Counts this poll.
                    let _ = contact.hurry.is_on(Instant::now());
                    sleep(pause.min(EAGER)).await;
                }
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

    /// Asks for the changes and takes them over. Gives how many there are.
    async fn changes(&mut self) -> Result<usize, Error> {
        let within = CHANGES.max(self.pace.update_frequency.saturating_mul(3));
        let taken = self.lapi.ask(false, within, &self.set).await?.complete();
        self.saving.is_due |= taken.changes() > 0;
        self.telling.of_answer(&taken);
        Ok(taken.changes())
    }

    /// How long to wait until the next poll.
    pub fn pause(&self) -> Duration {
        let is_known = self.contact.since_last_answer().is_some();
        let hurries = self.in_step.is_some() && self.contact.hurry.is_on(Instant::now());
        self.pace.pause(is_known, hurries)
    }
}
