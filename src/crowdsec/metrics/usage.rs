//! What does LAPI learn of what was done with its decisions? Usage metrics, which `cscli metrics show bouncers` shows.
//!
//! What we rely on, read in LAPI 1.6.3 to 1.7.8:
//! - Counters are deltas: `cscli` adds up all windows. Gauges are absolute: the last value counts, for a week.
//! - `cscli` takes two numbers for one if time, family, origin, name, unit and value are equal; it does not look at the
//!   remediation. So each remediation has a window of its own, one second after the other.
//! - LAPI answers a push with 201, before 1.6.3 with 404.

mod system;

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use reqwest::StatusCode;
use reqwest::header::CONTENT_TYPE;
use rocket::Shutdown;
use rocket::serde::json::{Value, json};
use tokio::time::sleep;

use super::counts::{Counts, FAMILIES, Figures, REMEDIATIONS, VALUES};
use crate::crowdsec::bouncer::Bouncer;
use crate::crowdsec::lapi::{BOUNCER_TYPE, Error, Lapi, VERSION};
use crate::crowdsec::panics::survive;
use crate::crowdsec::printable::printable;
use crate::crowdsec::timestamp::unix_now;

/// The time limit for one push, while the application runs.
const WITHIN: Duration = Duration::from_secs(10);
/// How long the shutdown waits for a push under way and for the last one.
pub const AT_THE_END: Duration = Duration::from_millis(1500);
/// The longest time before the first push, which brings version and system into `cscli bouncers list`.
const SOON: Duration = Duration::from_secs(10);

/// Tells LAPI what was done, now and then.
pub struct Usage {
    lapi: Lapi,
    counts: Arc<Counts>,
    /// Seconds that a test has skipped.
    skipped: Arc<AtomicU64>,
    /// The time before the first push, and between two looks at whether the next push is due.
    tick: Duration,
    /// The time between two pushes.
    every: Duration,
    /// In seconds since 1970.
    launched: u64,
    os: Option<Value>,
    /// What LAPI knows already, and since when.
    told: Figures,
    told_at: Instant,
    /// The time of the next window, in seconds since 1970: no two windows have the same time.
    next_time: u64,
    /// Why the last push failed: the log does not repeat it.
    failing: Option<String>,
}

impl Usage {
    /// `None` where there is no LAPI, or the operator wants no push.
    pub fn of(bouncer: &Bouncer, every: Option<Duration>, counts: &Arc<Counts>) -> Result<Option<Self>, String> {
        let (Some(connection), Some(every)) = (&bouncer.lapi.connection, every) else { return Ok(None) };
        let poll = bouncer.lapi.update_frequency;
        Ok(Some(Self {
            lapi: Lapi::new(connection)?,
            counts: counts.clone(),
            skipped: bouncer.skipped.clone(),
            tick: poll.min(SOON),
            every,
            launched: unix_now(),
            os: system::named_by(&fs::read_to_string("/etc/os-release").unwrap_or_default()),
            told: Figures::default(),
            told_at: Instant::now(),
            next_time: unix_now(),
            failing: None,
        }))
    }

    /// Pushes until the shutdown, and then once more what is left, if LAPI answers quickly.
    pub async fn run(mut self, mut shutdown: Shutdown) {
        let (skipped, tick, every) = (self.skipped.clone(), self.tick, self.every);
        let now = || Instant::now() + Duration::from_secs(skipped.load(Ordering::Relaxed));
        let mut due = now();
        loop {
            tokio::select! {
                () = &mut shutdown => break,
                () = sleep(tick) => {}
            }
            if now() < due {
                continue;
            }
            // The next push is due from here, so that pushes do not drift by the time that each takes.
            let begun = now();
            // A shutdown waits for this push for `AT_THE_END` at most, and then ends this thread. The numbers may have
            // arrived: to send them once more would count them twice.
            let _ = survive(self.push(WITHIN, false)).await;
            // So that many instances do not push in step.
            due = begun + every.mul_f64(1.0 + rand::random::<f64>() / 100.0);
        }
        let _ = survive(self.push(AT_THE_END / 2, true)).await;
    }

    /// Tells LAPI once. Numbers that LAPI has not taken go on growing until the next push, unless LAPI does not
    /// understand them.
    async fn push(&mut self, within: Duration, is_last: bool) {
        let skipped = self.skipped.load(Ordering::Relaxed);
        let (figures, now) = (self.counts.figures(), Instant::now() + Duration::from_secs(skipped));
        let body = self.payload(&figures, unix_now() + skipped, now).to_string();
        let kept = if is_last { "the process ends, and they are lost" } else { "they are kept until LAPI takes them" };
        let why = match self.send(body, within).await {
            // LAPI's answer has no body. A page comes from a gateway.
            Ok((status, said)) if status.is_success() && said.is_empty() => {
                self.counts.pushed.store(unix_now() + skipped, Ordering::Relaxed);
                (self.told, self.told_at, self.failing) = (figures, now, None);
                return;
            }
            // Go's words where a server that speaks TLS gets plain HTTP.
            Ok((StatusCode::BAD_REQUEST, said)) if said.contains("HTTPS") => format!("{kept}: {}", Error::Status(400)),
            Ok((status @ (StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY), said)) => {
                // LAPI would refuse the same numbers again, and all later ones with them.
                (self.told, self.told_at) = (figures, now);
                format!("LAPI does not understand them, and these numbers are lost ({status}: {said}). That is a fault of this program, please report it")
            }
            Ok((StatusCode::NOT_FOUND, _)) => "LAPI is older than 1.6.3, the first version that takes them, or api_url is not its root (404). Upgrade CrowdSec, mend api_url, or set CROWDSEC_USAGE_METRICS=off".into(),
            Ok((StatusCode::FORBIDDEN, _)) => format!("{kept}: {}", Error::Forbidden),
            Ok((status, _)) => format!("{kept}: {}", Error::Status(status.as_u16())),
            Err(error) => format!("{kept}: {error}"),
        };
        if self.failing.replace(why.clone()).as_ref() != Some(&why) {
            log::warn!("CrowdSec's usage metrics (`cscli metrics show bouncers`) cannot be sent: {why}.");
        }
    }

    /// LAPI's status, and the beginning of its answer.
    async fn send(&self, body: String, within: Duration) -> Result<(StatusCode, String), Error> {
        let url = self.lapi.url.join("../usage-metrics").expect("an address of http");
        let request = self.lapi.client.post(url).timeout(within).header(CONTENT_TYPE, "application/json").body(body);
        let mut response = self.lapi.exchange(request).await?;
        // The first piece of it is enough for a line of the log.
        let said = response.chunk().await.ok().flatten().unwrap_or_default();
        Ok((response.status(), printable(&String::from_utf8_lossy(&said))))
    }

    fn payload(&mut self, figures: &Figures, unix: u64, now: Instant) -> Value {
        let window = now.saturating_duration_since(self.told_at).as_secs().max(1);
        let windows = REMEDIATIONS.len() as u64;
        // The windows' times lie in the past, so that none of them comes again after a restart.
        let first = self.next_time.max(unix.saturating_sub(windows - 1));
        self.next_time = first + windows;
        let metric = |(time, remediation): (u64, &str)| {
            let of_all = if time == first { self.of_all(figures) } else { Vec::new() };
            let items = [self.dropped(figures, remediation), of_all].concat();
            json!({ "meta": { "window_size_seconds": window, "utc_now_timestamp": time }, "items": items })
        };
        let metrics: Vec<Value> = (first..).zip(REMEDIATIONS).map(metric).collect();
        let component = json!({
            "name": env!("CARGO_PKG_NAME"),
            "type": BOUNCER_TYPE,
            // The same as in the User-Agent: with two spellings, each poll and each push would have LAPI write its database.
            "version": format!("v{VERSION}"),
            "utc_startup_timestamp": self.launched,
            "feature_flags": [],
            "os": self.os,
            "metrics": metrics,
        });
        json!({ "remediation_components": [component] })
    }

    fn dropped(&self, figures: &Figures, remediation: &str) -> Vec<Value> {
        let of_it = figures.dropped.iter().filter(|((_, name, _), _)| *name == remediation);
        of_it
            .map(|(key @ (origin, remediation, family), count)| {
                let delta = count - self.told.dropped.get(key).unwrap_or(&0);
                json!({
                    "name": "dropped", "unit": "request", "value": delta,
                    "labels": { "origin": origin, "remediation": remediation, "ip_type": FAMILIES[*family] },
                })
            })
            .collect()
    }

    /// Requests, and the decisions of each origin. Not by scope: `cscli` would keep the number of one scope alone.
    fn of_all(&self, figures: &Figures) -> Vec<Value> {
        let processed = FAMILIES.into_iter().enumerate().map(|(family, name)| {
            let delta = figures.processed[family] - self.told.processed[family];
            json!({ "name": "processed", "unit": "request", "value": delta, "labels": { "ip_type": name } })
        });
        // What has vanished since the last push is sent with 0: `cscli` keeps a gauge's last value for a week.
        let gone = self.told.decisions.keys().map(|key| (key, &0));
        let mut by_origin = BTreeMap::<_, u64>::new();
        for ((origin, _, family), count) in figures.decisions.iter().chain(gone) {
            *by_origin.entry((origin, VALUES[*family])).or_default() += count;
        }
        let decisions = by_origin.into_iter().map(|((origin, family), count)| {
            let mut labels = json!({ "origin": origin });
            if !family.is_empty() {
                labels["ip_type"] = family.into();
            }
            json!({ "name": "active_decisions", "unit": "ip", "value": count, "labels": labels })
        });
        processed.chain(decisions).collect()
    }
}
