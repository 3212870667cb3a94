//! When does a full answer count? If it lacks decisions that nothing has ended, once LAPI confirms that some of them are
//! gone.

use std::mem;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use rand::seq::IteratorRandom;
use rocket::futures::future::join_all;

use super::{InStep, Poller};
use crate::crowdsec::decisions::{Compared, Taken, Value};
use crate::crowdsec::lapi::client::WHOLE;
use crate::crowdsec::lapi::{Error, OnStartupFailure};
use crate::crowdsec::printable::{decisions, printable};

/// Before a full answer counts, LAPI has to confirm that this many of the missing decisions are gone.
const CONFIRMATIONS: usize = 5;

/// A question does not move LAPI's mark within a minute after a poll has moved it. This is ten seconds on the safe side.
const MARK_STAYS: Duration = Duration::from_secs(50);

impl Poller {
    /// Asks for everything. If the answer lacks decisions that stand, asks LAPI to confirm. That question may move the mark
    /// from which LAPI computes the next delta, so the result has no `InStep`, and the next poll asks for everything. If
    /// more were missing each time, that would never end. So the second time in a row the result has an `InStep`, if the
    /// answers came so fast that the mark has stayed, and everything is asked for a little later.
    pub(super) async fn everything(&mut self) -> Result<(Taken, Option<InStep>), Error> {
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
        // Fails closed where the operator wants nobody let in before LAPI has answered: an empty first answer may come from
        // a failing database, and no earlier answer shows what it lacks.
        let is_doubtful = taken.new == 0
            && self.telling.on_startup_failure != OnStartupFailure::Open
            && self.contact.since_last_answer().is_none();
        let anybody = Value::Network(IpAddr::from(Ipv4Addr::LOCALHOST).into());
        if is_doubtful && let Err(error) = self.lapi.standing_on(&anybody, None).await {
            self.saving.is_due = false;
            return Err(Error::Short(format!("is empty, and {}. It does not count", says_of(&anybody, &error))));
        }
        self.telling.of_kept(&taken, of);
        let had_asked = mem::replace(&mut self.has_asked, asked) && since.elapsed() < MARK_STAYS;
        let was_odd = taken.new == 0 || taken.left_out > 0 || asked;
        let in_step = InStep { since, named: 0, was_odd, kept_until: taken.kept_until };
        Ok((taken, (had_asked || !asked && !is_doubtful).then_some(in_step)))
    }

    /// Asks LAPI to confirm that some missing decisions, chosen at random, are gone. `Ok` says whether there was anything
    /// to ask. Fails towards the bans: unless LAPI plainly says that these are gone, all missing decisions stay.
    async fn confirm(&self, compared: &Compared) -> Result<bool, String> {
        let some = compared.to_confirm().sample(&mut rand::rng(), CONFIRMATIONS);
        // All at once: a LAPI that hangs is waited for only once.
        let answers = join_all(some.iter().map(|(value, key)| self.lapi.standing_on(value, key.id()))).await;
        for ((value, key), standing) in some.iter().zip(answers) {
            let standing = standing.map_err(|error| says_of(value, &error))?;
            if standing.iter().any(|decision| decision.value == *value && decision.key() == *key) {
                let shown = printable(&value.to_string());
                return Err(format!("asked about {shown}, it says that the decision stands"));
            }
        }
        Ok(!some.is_empty())
    }
}

/// For messages: what LAPI says in place of the decisions on one value.
fn says_of(value: &Value, error: &Error) -> String {
    let what = format!("asked about {}, it says: {error}", printable(&value.to_string()));
    match error {
        Error::Forbidden | Error::Status(404 | 405) => {
            format!("{what}. Whatever stands between us and LAPI has to let GET /v1/decisions through as well")
        }
        _ => what,
    }
}
