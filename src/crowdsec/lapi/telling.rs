//! What does the log say of LAPI, and what is to be done?

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use log::{info, warn};

use super::contact::Contact;
use super::{Config, Connection, Error, OnStartupFailure};
use crate::crowdsec::decisions::{DecisionSet, MOST_ON_ONE_VALUE, Taken};
use crate::crowdsec::printable::{decisions, printable};
use crate::crowdsec::reminder::{HOUR, MINUTE, Reminder};

/// What the log has told the operator, so that it does not repeat it with every poll.
pub struct Telling {
    /// Where LAPI is.
    pub address: String,
    set: Arc<DecisionSet>,
    contact: Arc<Contact>,
    pub on_startup_failure: OnStartupFailure,
    /// Who refuses while LAPI says nothing.
    others: &'static str,
    /// Since when LAPI has been away, and when that was last told.
    away: Option<(Instant, Instant)>,
    /// Full answers in a row with many changes that no delta had named.
    drifts: u32,
    /// The oddities of LAPI's decisions that were told: a word for each kind.
    warned_of: HashSet<&'static str>,
    /// Counts answers with decisions that cannot be read.
    unread: Reminder,
    /// The unfit values that were told, in the words of `Taken::unfit`.
    unfit: HashSet<String>,
    /// The filters, and their origins that are none of CrowdSec's own, until the operator is warned that nothing fits.
    unwarned_filters: Option<(String, Vec<String>)>,
    /// Whether the last full answer that counted lacked decisions that stand on: that was told.
    keeping: bool,
}

/// At most this many unfit values are remembered as told, so that memory stays bounded.
const MOST_TOLD: usize = 100;

impl Telling {
    pub fn new(connection: &Connection, config: &Config, set: Arc<DecisionSet>, contact: Arc<Contact>) -> Self {
        Self {
            address: connection.at.clone(),
            set,
            contact,
            on_startup_failure: config.on_startup_failure,
            others: match config.live.as_ref().and_then(|live| live.failure_action) {
                Some(_) => "`live.failure_action` and your own `decisions` do",
                None => "your own `decisions` do",
            },
            away: None,
            drifts: 0,
            warned_of: HashSet::new(),
            unread: Reminder::default(),
            unfit: HashSet::new(),
            unwarned_filters: connection.chosen_filters(),
            keeping: false,
        }
    }

    /// Warns once that LAPI is lost and once that it is back. While it has never answered, and so protects nobody, warns
    /// again each minute. Every decision stands meanwhile: a ban must not end because LAPI cannot be reached.
    pub fn of_poll(&mut self, result: Result<(), Error>) {
        let (lapi, now) = (&self.address, Instant::now());
        match (result, self.away) {
            (Ok(()), None) => {}
            (Ok(()), Some((since, _))) => {
                self.away = None;
                let (seconds, known) = (since.elapsed().as_secs(), decisions(self.set.len()));
                warn!("CrowdSec's LAPI at {lapi} is back after {seconds} s: {known} in force.");
            }
            (Err(_), Some((_, told))) if told.elapsed() < MINUTE => {}
            (Err(error), away) => {
                let since = away.map_or(now, |(since, _)| since);
                self.away = Some((since, now));
                let seconds = since.elapsed().as_secs();
                match (self.contact.since_last_answer(), away) {
                    // Fails open, the default: an application that is down because its guard is late helps no visitor.
                    (None, _) if self.on_startup_failure == OnStartupFailure::Open => warn!(
                        "CrowdSec's LAPI at {lapi} has not answered yet: {error}. UNTIL IT ANSWERS, EVERYBODY IS LET IN whom {} \
                         not refuse: `on_startup_failure` is `open`. It is asked again and again.",
                        self.others
                    ),
                    // Fails closed, for those to whom an unprotected minute is worse than a minute without the application.
                    // With `abort` the launch has failed before this.
                    (None, _) => warn!(
                        "CrowdSec's LAPI at {lapi} has not answered yet: {error}. UNTIL IT ANSWERS, VISITORS GET 503 wherever \
                         the bouncer enforces: `on_startup_failure` is `closed`. It is asked again and again."
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

    /// What an answer has brought, and what is odd about it.
    pub fn of_answer(&mut self, taken: &Taken) {
        if taken.added() + taken.ended > 0 {
            info!("CrowdSec: {} added, {} ended early.", decisions(taken.added()), taken.ended);
        }
        self.of_oddities(taken);
    }

    /// Tells each kind of oddity once, and unreadable decisions once an hour: full answers and live mode's lists bring the
    /// same ones again.
    fn of_oddities(&mut self, taken: &Taken) {
        self.contact.unusable.fetch_add((taken.unreadable + taken.left_out) as u64, Ordering::Relaxed);
        if let Some(first) = &taken.first_unreadable
            && self.unread.count(1, HOUR, Instant::now()).is_some()
        {
            warn!("Not enforced: {} of LAPI's that could not be read. The first: {first}", decisions(taken.unreadable));
        }
        for what in &taken.unfit {
            if self.unfit.len() < MOST_TOLD && self.unfit.insert(what.clone()) {
                warn!(
                    "LAPI has a decision that stands against nobody: {what}. Delete it: `cscli decisions list --all` shows its \
                     id."
                );
            }
        }
        if taken.allows > 0 && self.warned_of.insert("allows") {
            warn!(
                "LAPI holds decisions of type `allow`, which exempt nobody here: list such addresses in `crowdsec.decisions`."
            );
        }
        if taken.captchas_without_provider > 0 && self.warned_of.insert("captchas") {
            warn!(
                "LAPI asks for captchas, and no `crowdsec.captcha.provider` is set: such visitors meet a {} instead. Set \
                 CROWDSEC_CAPTCHA_PROVIDER=altcha, which needs no account, or another provider.",
                self.set.types.fallback
            );
        }
        if taken.without_id > 0 && self.warned_of.insert("ids") {
            warn!(
                "LAPI has sent {} without an id that can be used: enforced all the same, but of several alike on one address the \
                 last one counts, and none can be lifted by its id. CrowdSec's own LAPI always sends ids: check what answers at {}.",
                decisions(taken.without_id),
                self.address
            );
        }
        if let Some(value) = &taken.first_left_out
            && self.warned_of.insert("crowds")
        {
            warn!(
                "LAPI has more than {MOST_ON_ONE_VALUE} decisions on {}. Only the greatest are held there, and {} were \
                 left out. Look for what makes so many: `cscli alerts list`.",
                printable(&value.to_string()),
                taken.left_out
            );
        }
    }

    /// Tells of the first full answer, or the first after a failed poll. Without a warning, a misspelt filter would
    /// silently let everybody in.
    pub fn of_first(&mut self, everything: &Taken) {
        self.of_answer(everything);
        if self.contact.is_recalled() {
            // With this target, the log shows the line in the release profile too, like the lines of the launch.
            let (lapi, known) = (&self.address, decisions(self.set.len()));
            info!(target: "crowdsec", "CrowdSec's LAPI at {lapi} has answered: {known} in force.");
        }
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

    /// A full answer is asked for right after the changes, so it brings few changes that no delta named: those that LAPI
    /// lost, and those that came while LAPI made it. If they are ten or more, and over a quarter of all changes, three
    /// times in a row, another instance with our key takes them.
    pub fn of_drift(&mut self, taken: &Taken, named: usize) {
        let unnamed = taken.added() + taken.ended;
        if unnamed > 0 {
            info!("CrowdSec: a full answer changed {} that no delta had named.", decisions(unnamed));
        }
        self.of_oddities(taken);
        // A decision that two full answers lacked left LAPI's database silently: no delta has named it to any instance.
        let unnamed = unnamed - taken.vanished;
        self.drifts = if unnamed >= 10 && unnamed * 3 > named { self.drifts + 1 } else { 0 };
        if self.drifts == 3 {
            warn!(
                "LAPI's changes keep being incomplete: {unnamed} were missing, {named} came. Does another instance use the same \
                 key? Each needs its own: see the IP addresses in `cscli bouncers list`."
            );
        }
    }

    pub fn of_kept(&mut self, taken: &Taken, of: usize) {
        if taken.kept > 0 && !self.keeping {
            let until =
                taken.kept_until.map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()));
            warn!(
                "LAPI's full answer lacks {} of {} that nothing has ended. They stand until a second answer, in {} s, lacks them \
                 too, since LAPI also answers so while its database fails. If it was emptied on purpose and \
                 that takes too long, stop this application, delete its snapshot, and start it.",
                taken.kept,
                decisions(of),
                until.as_secs()
            );
        }
        self.keeping = taken.kept > 0;
    }
}
