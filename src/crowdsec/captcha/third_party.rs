//! How do reCAPTCHA v2, hCaptcha and Turnstile work? The page shows their widget, and their server judges its answer.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use reqwest::{Client, StatusCode, redirect};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::Finding;
use super::config::Config;
use crate::crowdsec::limit::{Limit, Subject};
use crate::crowdsec::look_up::LookUp;
use crate::crowdsec::panics::lock;
use crate::crowdsec::printable::{printable, with_causes};
use crate::crowdsec::reminder::{HOUR, MINUTE, Reminder};

const PATIENCE: Duration = Duration::from_secs(5);
/// The most bytes of an answer that are read. `siteverify` answers in a few hundred.
const LONGEST_ANSWER: usize = 64 * 1024;
/// The most answers of one visitor in a minute that are wrong, or that the provider cannot judge. Each visitor has a count of
/// their own: nobody has to wait for what others did, unless they share one address.
const MOST_FAILED: u32 = 20;
/// The most questions about one visitor's answers at the same time; further answers wait for their turn. Whether an answer was
/// wrong is known only after the question: without this limit a visitor could send any number of wrong ones at once.
const MOST_AT_ONCE: usize = 20;

pub struct ThirdParty {
    config: Config,
    client: Client,
    failed: Limit,
    /// The visitors who have a question under way; never more than there are connections.
    asking: Mutex<HashMap<Subject, Arc<Semaphore>>>,
    /// When the log tells again that the provider cannot be asked.
    away: Reminder,
    /// When the log tells again that the provider refuses the key.
    refuses: Reminder,
}

#[derive(Deserialize)]
struct SiteVerify {
    success: bool,
    hostname: Option<String>,
    #[serde(default, rename = "error-codes")]
    error_codes: Vec<String>,
}

impl ThirdParty {
    pub fn new(config: &Config) -> Result<Self, String> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut client =
            Client::builder().dns_resolver(LookUp::default()).timeout(PATIENCE).redirect(redirect::Policy::none());
        if config.verify_url.starts_with("http:") {
            // The operator's own server, without TLS: asking it needs no CA, and no proxy towards the internet.
            client = client.tls_certs_only([]).no_proxy();
        }
        let client = client.build().map_err(|e| {
            format!("HTTPS to the captcha's provider cannot be set up ({e:?}): install the system's ca-certificates")
        })?;
        let (asking, away, refuses) = Default::default();
        let failed = Limit::new(MOST_FAILED, MINUTE);
        Ok(Self { config: config.clone(), client, failed, asking, away, refuses })
    }

    /// Right answers do not count against the limit: they have been earned. Every other answer counts, even where the provider
    /// cannot tell, since it costs a question to the provider.
    pub async fn verify(&self, answer: &str, address: IpAddr, now: u64) -> Finding {
        let subject = address.into();
        let Some(_turn) = self.turn(subject).await else { return Finding::Away };
        if let Some(wait) = self.failed.wait(subject, Instant::now()) {
            return Finding::TooMany(wait);
        }
        let finding = match self.ask(answer, address).await {
            Ok(said) => self.meaning(&said, now),
            Err(reason) => {
                let name = self.config.provider.name;
                if let Some(times) = self.away.count(1, HOUR, Instant::now()) {
                    log::warn!(
                        "The captcha provider {name} cannot be asked ({times} so far): {}. Visitors must retry.",
                        printable(&reason)
                    );
                }
                Finding::Away
            }
        };
        if !matches!(finding, Finding::Human { .. }) {
            // The limit makes the next answer wait, not this one.
            let _ = self.failed.count(subject, Instant::now());
        }
        finding
    }

    /// The visitor's turn to have an answer judged, which ends when it is dropped. `None` where it does not come in time.
    async fn turn(&self, subject: Subject) -> Option<OwnedSemaphorePermit> {
        let turns = {
            let mut asking = lock(&self.asking);
            // Each permit keeps its semaphore alive: a visitor who has no question under way is forgotten.
            asking.retain(|_, turns| Arc::strong_count(turns) > 1);
            asking.entry(subject).or_insert_with(|| Arc::new(Semaphore::new(MOST_AT_ONCE))).clone()
        };
        timeout(PATIENCE, turns.acquire_owned()).await.ok()?.ok()
    }

    async fn ask(&self, answer: &str, address: IpAddr) -> Result<SiteVerify, String> {
        let (secret, address) = (self.config.secret_key.0.as_str(), address.to_string());
        let form = [("secret", secret), ("response", answer), ("remoteip", &address)];
        let sent = self.client.post(&self.config.verify_url).form(&form).send().await;
        // The error goes to the log without the URL, which may hold what the operator does not want there.
        let mut response = sent.map_err(|e| with_causes(&e.without_url()))?;
        let status = response.status();
        let kind = response.headers().get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        if !kind.starts_with("application/json") {
            return Err(format!("status {status}, an answer of type `{kind:.100}`"));
        }
        let mut body = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(|e| with_causes(&e.without_url()))? {
            if body.len() + piece.len() > LONGEST_ANSWER {
                return Err("its answer is too long".into());
            }
            body.extend_from_slice(&piece);
        }
        // Read as a map first, because serde would also accept `[true]` as a `SiteVerify`.
        match serde_json::from_slice(&body).and_then(|map| SiteVerify::deserialize(Value::Object(map))) {
            Ok(said) if said.success && status != StatusCode::OK => Err(format!("success, status {status}")),
            said => said.map_err(|error| format!("status {status}, an answer that cannot be read: {error}")),
        }
    }

    fn meaning(&self, said: &SiteVerify, now: u64) -> Finding {
        let hostnames = &self.config.hostnames;
        let is_ours = |host: &String| hostnames.iter().any(|name| name.eq_ignore_ascii_case(host));
        let says = |codes: &[&str]| said.error_codes.iter().any(|code| codes.contains(&code.as_str()));
        if said.success {
            // A captcha that was solved on another site with our site key does not count. Fails closed: if the operator
            // set `hostnames`, an answer without a hostname does not count either, because it may come from anywhere.
            let counts = hostnames.is_empty() || said.hostname.as_ref().is_some_and(is_ours);
            if counts { Finding::Human { since: now } } else { Finding::Wrong }
        } else if says(&["invalid-input-secret", "missing-input-secret", "sitekey-secret-mismatch"]) {
            let name = self.config.provider.name;
            if self.refuses.count(1, HOUR, Instant::now()).is_some() {
                log::error!("{name} refuses `captcha.secret_key`: no visitor can solve the captcha until it is right.");
            }
            Finding::Away
        } else if says(&["timeout-or-duplicate", "already-seen-response", "expired-input-response"]) {
            Finding::Expired
        } else if says(&["internal-error", "bad-request"]) {
            Finding::Away
        } else {
            Finding::Wrong
        }
    }
}

#[cfg(test)]
mod tests {
    use figment::Figment;

    use super::*;
    use crate::crowdsec::setting::Reading;

    #[rocket::async_test]
    async fn who_has_no_question_under_way_is_forgotten() {
        let figment = Figment::from(rocket::Config::debug_default()).merge(("crowdsec.captcha.provider", "turnstile"));
        let figment = figment.merge(("crowdsec.captcha.site_key", "a-key")).merge(("crowdsec.captcha.secret_key", "s"));
        let config = Config::read(&mut Reading::of(&figment)).ok().flatten().expect("the settings of a captcha");
        let captcha = ThirdParty::new(&config).expect("a captcha");
        let turn = |host: u8| captcha.turn(Subject::from(IpAddr::from([192, 0, 2, host])));
        let under_way = turn(0).await;
        for host in 1..=100 {
            assert!(turn(host).await.is_some());
        }
        assert_eq!(lock(&captcha.asking).len(), 2, "the first, and the last, who is forgotten with the next");
        drop(under_way);
    }
}
