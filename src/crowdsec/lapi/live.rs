//! What does LAPI say of this visitor now? In live mode each address is asked about, and the answer counts for some seconds.
//!
//! The decision set is the memory: what LAPI says of an address takes the place of all that stood against it, and requests
//! are judged as in stream mode. So a ban stands on where the next question fails. Countries, autonomous systems and the
//! owner's own scopes are no question of one address: the poller asks for all of them every `update_frequency`.

use std::array;
use std::collections::HashMap;
use std::fmt::Display;
use std::hash::{BuildHasher, RandomState};
use std::mem;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use rocket::futures::FutureExt;
use rocket::futures::future::{BoxFuture, Shared};
use serde::Deserialize;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::client::QUESTION;
use super::{Connection, Contact, Error, Lapi};
use crate::crowdsec::decisions::{DecisionSet, Remediation, Taken};
use crate::crowdsec::panics::{lock, survive};
use crate::crowdsec::reminder::{HOUR, Reminder};
use crate::crowdsec::setting::{Reading, Span, failure_action};

/// How we learn what stands against a visitor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The poller keeps all decisions.
    #[default]
    Stream,
    Live,
}

/// `[default.crowdsec.live]`: each key as Rocket.toml and the variables write it; docs/configuration.md says what each means.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct Config {
    /// What a visitor meets of whom LAPI says nothing in time; `None` for nothing.
    #[serde(deserialize_with = "failure_action")]
    pub failure_action: Option<Remediation>,
    /// How long an answer counts.
    cache: Span,
    /// How long a visitor waits for it.
    timeout: Span,
}

impl Default for Config {
    fn default() -> Self {
        let (cache, timeout) = (Span(Duration::from_secs(10)), Span(Duration::from_millis(200)));
        Self { failure_action: None, cache, timeout }
    }
}

impl Config {
    /// Looks whether what stands in the table goes together with the rest. `None` in stream mode.
    pub fn checked(config: Option<Self>, reading: &mut Reading<'_>, mode: Mode, has_snapshot: bool) -> Option<Self> {
        if mode == Mode::Stream {
            let useless =
                config.map(|_| "`crowdsec.live` is set, and counts for nothing: write mode = \"live\".".into());
            reading.warnings.extend(useless);
            return None;
        }
        let config = config.unwrap_or_default();
        // A ban that is lifted holds for up to that long.
        if !(Duration::from_secs(1)..=Duration::from_secs(60)).contains(&config.cache.0) {
            reading.wrong("live.cache", "write a length of time from \"1s\" to \"60s\"");
        }
        if config.timeout.0 > QUESTION {
            reading.wrong("live.timeout", "write a length of time up to \"5s\": visitors wait for it");
        }
        if has_snapshot {
            let what = "live mode keeps no decisions over a restart: take this key away, or write mode = \"stream\"";
            reading.wrong("snapshot", what);
        }
        Some(config)
    }
}

/// Questions to LAPI go through 16 lanes, four at once in each. LAPI answers one in some milliseconds. An IPv6 /48, as
/// hosters give it to one customer, has one lane: who walks through their own network leaves the other lanes to others.
const LANES: usize = 16;
const IN_A_LANE: usize = 4;
/// The most addresses whose last question is remembered, in some 10 MB.
const MOST_QUESTIONS: usize = 100_000;
/// After a question that failed, LAPI is not asked about the same address for that long.
const REST: Duration = Duration::from_secs(1);

pub struct Live {
    lapi: Lapi,
    set: Arc<DecisionSet>,
    contact: Arc<Contact>,
    config: Config,
    /// By the address that they are about.
    questions: Mutex<HashMap<IpAddr, Question>>,
    turns: [Semaphore; LANES],
    /// Has a secret seed, so that nobody can choose whose lane they share.
    hasher: RandomState,
    /// What answers held since the poller told of it.
    taken: Mutex<Taken>,
    late: Reminder,
}

/// The last question about an address.
enum Question {
    /// It was answered, or was not, and counts until then.
    Ended { answered: bool, until: Instant },
    /// Everybody from this address waits for the same.
    UnderWay(Shared<BoxFuture<'static, bool>>),
}

impl Live {
    pub fn new(
        connection: &Arc<Connection>,
        config: &Config,
        set: Arc<DecisionSet>,
        contact: Arc<Contact>,
    ) -> Result<Arc<Self>, String> {
        let lapi = Lapi::new(connection)?;
        let (questions, taken, late, hasher) = Default::default();
        let turns = array::from_fn(|_| Semaphore::new(IN_A_LANE));
        Ok(Arc::new(Self { lapi, set, contact, config: config.clone(), questions, turns, hasher, taken, late }))
    }

    /// Asks LAPI about a visitor, unless LAPI was asked just now. Where no answer came in time, gives what the visitor meets
    /// besides what is known to stand against them.
    pub async fn ask(self: &Arc<Self>, address: IpAddr, now: Instant) -> Option<Remediation> {
        let asking = {
            let mut questions = lock(&self.questions);
            match questions.get(&address) {
                Some(Question::Ended { answered, until }) if *until > now => return self.unless(*answered),
                Some(Question::UnderWay(asking)) => asking.clone(),
                _ => {
                    // Forgets all questions that have ended, where there are too many: nobody's place is taken for good by
                    // others, and who still comes is asked about again.
                    if questions.len() >= MOST_QUESTIONS {
                        questions.retain(|_, last| matches!(last, Question::UnderWay(_)));
                    }
                    let asking = self.clone().begin(address);
                    questions.insert(address, Question::UnderWay(asking.clone()));
                    asking
                }
            }
        };
        // The question goes on without the visitor: its answer counts for the next request.
        let answered = timeout(self.config.timeout.0, asking).await.unwrap_or_else(|_| {
            self.tell(&"it took longer than `live.timeout`");
            false
        });
        self.unless(answered)
    }

    /// A task of its own, so that a visitor who hangs up takes nobody else's answer away.
    fn begin(self: Arc<Self>, address: IpAddr) -> Shared<BoxFuture<'static, bool>> {
        let question = tokio::spawn(async move {
            let network = IpNet::new_assert(address, if address.is_ipv4() { 32 } else { 48 }).trunc();
            let lane = &self.turns[self.hasher.hash_one(network) as usize % LANES];
            let (asked, turn) = (Instant::now(), timeout(self.config.timeout.0, lane.acquire()).await);
            let result = match turn {
                Ok(_turn) => survive(self.question(Some(address))).await.unwrap_or_else(|p| Err(Error::Panicked(p))),
                Err(_) => Err(Error::Transfer("it had no turn within `live.timeout`".into())),
            };
            self.contact.count(&result, asked.elapsed());
            let (answered, now) = (result.is_ok(), Instant::now());
            let until = now + if answered { self.config.cache.0 } else { REST };
            lock(&self.questions).insert(address, Question::Ended { answered, until });
            // Who has waited for longer has told that already.
            if let Some(error) = result.err().filter(|_| asked.elapsed() < self.config.timeout.0) {
                self.tell(&error);
            }
            answered
        });
        question.map(|ended| ended.unwrap_or(false)).boxed().shared()
    }

    /// Asks about one address, or for all that stands against no address at all, and takes the answer over.
    async fn question(&self, about: Option<IpAddr>) -> Result<(), Error> {
        let before = self.set.held_against(about);
        let entries = self.lapi.standing_against(about).await?;
        self.set.changes(Instant::now()).take_answer(before, entries, &mut lock(&self.taken));
        Ok(())
    }

    /// What the poller asks in live mode: for what stands against no address, or where no such scope is listed, whether
    /// LAPI is there. Gives what all answers held since the last time.
    pub async fn poll(&self) -> Result<Taken, Error> {
        let about = self.lapi.connection.scopes.others().is_none().then_some(Ipv4Addr::LOCALHOST.into());
        self.set.sweep(Instant::now());
        self.question(about).await?;
        // A visitor's question is no such answer: it says nothing of countries and accounts.
        self.contact.answered();
        Ok(mem::take(&mut *lock(&self.taken)))
    }

    /// What a visitor meets about whom LAPI did not answer; `None` where it did.
    fn unless(&self, answered: bool) -> Option<Remediation> {
        self.config.failure_action.filter(|_| !answered)
    }

    /// Tells of a question that was not answered, at the first one and once an hour while it lasts.
    fn tell(&self, reason: &dyn Display) {
        let Some(times) = self.late.count(1, HOUR, Instant::now()) else { return };
        // `passthrough`, the default, fails open: what was known of the visitor before still stands.
        log::warn!(
            "CrowdSec's LAPI did not answer a question about a visitor: {reason} ({times} so far). Such visitors meet \
             `live.failure_action` ({}), beside what is known to stand against them.",
            self.config.failure_action.map_or("passthrough", Remediation::as_str)
        );
    }
}
