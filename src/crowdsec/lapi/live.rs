//! What does LAPI say of this visitor now? In live mode LAPI is asked about each address, and the answer counts for some
//! seconds.
//!
//! The decision set remembers the answers: what LAPI says of an address takes the place of all that stood against it, and
//! requests are judged as in stream mode. So a ban stands on if the next question fails. Countries, autonomous systems and
//! the owner's own scopes do not belong to one address: the poller asks for all of them every `update_frequency`.

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
    /// What a visitor meets if LAPI does not answer in time; `None` for nothing.
    #[serde(deserialize_with = "failure_action")]
    pub failure_action: Option<Remediation>,
    /// How long an answer counts.
    cache: Span,
    /// How long a visitor waits for LAPI's answer.
    timeout: Span,
}

impl Default for Config {
    fn default() -> Self {
        let (cache, timeout) = (Span(Duration::from_secs(10)), Span(Duration::from_millis(200)));
        Self { failure_action: None, cache, timeout }
    }
}

impl Config {
    /// Checks this table against the other settings. `None` in stream mode.
    pub fn checked(config: Option<Self>, reading: &mut Reading<'_>, mode: Mode, has_snapshot: bool) -> Option<Self> {
        if mode == Mode::Stream {
            let useless =
                config.map(|_| "`crowdsec.live` is set, and counts for nothing: write mode = \"live\".".into());
            reading.warnings.extend(useless);
            return None;
        }
        let config = config.unwrap_or_default();
        // A ban that is lifted holds for up to `live.cache`.
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
/// hosters give it to one customer, has one lane: a visitor who uses every address of their own network leaves the other
/// lanes free.
const LANES: usize = 16;
const IN_A_LANE: usize = 4;
/// The most addresses whose last question is remembered, in some 10 MB.
const MOST_QUESTIONS: usize = 100_000;
/// After a question that failed, LAPI is not asked about the same address for this long.
const REST: Duration = Duration::from_secs(1);

pub struct Live {
    lapi: Lapi,
    set: Arc<DecisionSet>,
    contact: Arc<Contact>,
    config: Config,
    /// The last question about each address.
    questions: Mutex<HashMap<IpAddr, Question>>,
    turns: [Semaphore; LANES],
    /// Has a secret seed, so that nobody can choose whose lane they share.
    hasher: RandomState,
    /// What answers have held since the poller last told of them.
    taken: Mutex<Taken>,
    late: Reminder,
}

/// The last question about an address.
enum Question {
    /// It has been answered, or has failed, and counts until then.
    Ended { answered: bool, until: Instant },
    /// Every request from this address waits for this question.
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

    /// Asks LAPI about a visitor, unless LAPI was asked just now. If no answer came in time, gives what the visitor meets
    /// besides what is known to stand against them.
    pub async fn ask(self: &Arc<Self>, address: IpAddr, now: Instant) -> Option<Remediation> {
        let asking = {
            let mut questions = lock(&self.questions);
            match questions.get(&address) {
                Some(Question::Ended { answered, until }) if *until > now => return self.unless(*answered),
                Some(Question::UnderWay(asking)) => asking.clone(),
                _ => {
                    // If there are too many questions, forgets all that have ended: so no visitor is left without a place,
                    // and LAPI is asked again about those who still come.
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

    /// Asks in a task of its own, so that a visitor who hangs up takes nobody else's answer away.
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
            // A request that waited for `live.timeout` has told that already.
            if let Some(error) = result.err().filter(|_| asked.elapsed() < self.config.timeout.0) {
                self.tell(&error);
            }
            answered
        });
        question.map(|ended| ended.unwrap_or(false)).boxed().shared()
    }

    /// Asks for what stands against one address, or with `None` against what is no address, and takes the answer over.
    async fn question(&self, about: Option<IpAddr>) -> Result<(), Error> {
        let before = self.set.held_against(about);
        let entries = self.lapi.standing_against(about).await?;
        self.set.changes(Instant::now()).take_answer(before, entries, &mut lock(&self.taken));
        Ok(())
    }

    /// The poller's question in live mode: for what stands against what is no address or, if no such scope is listed, about
    /// 127.0.0.1, to see whether LAPI is there. Gives what all answers have held since the last time.
    pub async fn poll(&self) -> Result<Taken, Error> {
        let about = self.lapi.connection.scopes.others().is_none().then_some(Ipv4Addr::LOCALHOST.into());
        self.set.sweep(Instant::now());
        self.question(about).await?;
        // An answer about a visitor does not count here: it says nothing of countries and accounts.
        self.contact.answered();
        Ok(mem::take(&mut *lock(&self.taken)))
    }

    /// What a visitor meets if LAPI did not answer about them; `None` if it did.
    fn unless(&self, answered: bool) -> Option<Remediation> {
        self.config.failure_action.filter(|_| !answered)
    }

    /// Tells of unanswered questions: at the first one, and once an hour while they go on.
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
