//! How do reCAPTCHA v2, hCaptcha and Turnstile work? The page shows their widget, and their server judges its answer.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use reqwest::{Client, StatusCode, Url, redirect};
use serde::Deserialize;
use serde_json::Value;

use super::config::{Config, Provider};
use super::tries::Tries;
use super::{Verdict, Widget, unix_now};
use crate::crowdsec::setting::Secret;

const PATIENCE: Duration = Duration::from_secs(5);
/// The most bytes of an answer that are read. `siteverify` answers in a few hundred.
const LONGEST: usize = 64 * 1024;

pub struct ThirdParty {
    known: &'static Known,
    client: Client,
    verify_url: Url,
    script_url: Url,
    site_key: String,
    secret_key: Secret,
    hostnames: Vec<String>,
    tries: Tries,
}

/// What differs between the three, from their documentation.
struct Known {
    name: &'static str,
    script_url: &'static str,
    verify_url: &'static str,
    widget_class: &'static str,
    field: &'static str,
    /// The places that their widget needs in the page's content security policy.
    sources: &'static str,
}

static RECAPTCHA: Known = Known {
    name: "recaptcha",
    script_url: "https://www.google.com/recaptcha/api.js",
    verify_url: "https://www.google.com/recaptcha/api/siteverify",
    widget_class: "g-recaptcha",
    field: "g-recaptcha-response",
    sources: "https://www.google.com/recaptcha/ https://www.gstatic.com/recaptcha/ https://recaptcha.google.com/recaptcha/",
};

static HCAPTCHA: Known = Known {
    name: "hcaptcha",
    script_url: "https://js.hcaptcha.com/1/api.js",
    verify_url: "https://api.hcaptcha.com/siteverify",
    widget_class: "h-captcha",
    field: "h-captcha-response",
    sources: "https://hcaptcha.com https://*.hcaptcha.com",
};

static TURNSTILE: Known = Known {
    name: "turnstile",
    script_url: "https://challenges.cloudflare.com/turnstile/v0/api.js",
    verify_url: "https://challenges.cloudflare.com/turnstile/v0/siteverify",
    widget_class: "cf-turnstile",
    field: "cf-turnstile-response",
    sources: "https://challenges.cloudflare.com",
};

#[derive(Deserialize)]
struct SiteVerify {
    success: bool,
    #[serde(default)]
    hostname: Option<String>,
    #[serde(default, rename = "error-codes")]
    error_codes: Vec<String>,
}

impl ThirdParty {
    pub fn new(config: &Config) -> Result<Self, String> {
        let known = match config.provider {
            Provider::Recaptcha => &RECAPTCHA,
            Provider::Hcaptcha => &HCAPTCHA,
            Provider::Turnstile => &TURNSTILE,
            Provider::Altcha => return Err("altcha is no third party".into()),
        };
        let url =
            |own: &Option<Url>, theirs| own.clone().map_or_else(|| Url::parse(theirs).map_err(|e| e.to_string()), Ok);
        let verify_url = url(&config.verify_url, known.verify_url)?;
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut client = Client::builder().timeout(PATIENCE).redirect(redirect::Policy::none());
        if verify_url.scheme() == "http" {
            // The operator's own server, without TLS: asking it needs no CA, and no proxy towards the internet.
            client = client.tls_certs_only([]).no_proxy();
        }
        Ok(Self {
            known,
            client: client.build().map_err(|e| {
                format!(
                    "HTTPS to the captcha's provider cannot be set up ({e:?}): install the system's ca-certificates"
                )
            })?,
            verify_url,
            script_url: url(&config.script_url, known.script_url)?,
            site_key: config.site_key.clone(),
            secret_key: config.secret_key.clone(),
            hostnames: config.hostnames.clone(),
            tries: Tries::default(),
        })
    }

    pub fn widget(&self) -> Widget {
        Widget {
            provider: self.known.name,
            site_key: self.site_key.clone(),
            script_url: self.script_url.to_string(),
            widget_class: self.known.widget_class,
            field: self.known.field,
            challenge: String::new(),
        }
    }

    pub fn field(&self) -> &'static str {
        self.known.field
    }

    /// The provider's places, and the host of `script_url`, which the operator may have set.
    pub fn content_sources(&self) -> String {
        let script = self.script_url.origin().ascii_serialization();
        // www.recaptcha.net is for countries that block google.com; its script loads the rest from www.gstatic.cn.
        let elsewhere =
            if self.script_url.host_str() == Some("www.recaptcha.net") { "https://www.gstatic.cn" } else { "" };
        [self.known.sources, &script, elsewhere].join(" ").trim_end().to_owned()
    }

    /// Only wrong answers count against the limit: each costs a question to the provider. A right one has been earned.
    pub async fn verify(&self, answer: &str, address: IpAddr) -> Verdict {
        let subject = address.into();
        let Some(_turn) = self.tries.turn(subject, PATIENCE).await else { return Verdict::Away };
        if let Some(wait) = self.tries.wrong.wait(subject, Instant::now()) {
            return Verdict::TooMany(wait);
        }
        let verdict = self.asked(answer, address).await;
        if matches!(verdict, Verdict::Wrong | Verdict::Expired) {
            // The next answer is told to wait, not this one.
            let _ = self.tries.wrong.count(subject, Instant::now());
        }
        verdict
    }

    async fn asked(&self, answer: &str, address: IpAddr) -> Verdict {
        match self.ask(answer, address).await {
            Ok(verified) => self.judge(&verified),
            Err(reason) => {
                log::warn!("The captcha provider {} cannot be asked: {reason}. Visitors must retry.", self.known.name);
                Verdict::Away
            }
        }
    }

    async fn ask(&self, answer: &str, address: IpAddr) -> Result<SiteVerify, String> {
        let form = [("secret", self.secret_key.0.as_str()), ("response", answer), ("remoteip", &address.to_string())];
        let sent = self.client.post(self.verify_url.clone()).form(&form).send().await;
        // The error goes to the log without the URL, which may hold what the operator does not want there.
        let mut response = sent.map_err(|e| e.without_url().to_string())?;
        let kind = response.headers().get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        if !kind.starts_with("application/json") {
            return Err(format!("status {}, an answer of type `{kind:.100}`", response.status()));
        }
        let mut body = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(|e| e.without_url().to_string())? {
            if body.len() + piece.len() > LONGEST {
                return Err("its answer is too long".into());
            }
            body.extend_from_slice(&piece);
        }
        let status = response.status();
        // Read as a map first, because serde would also accept `[true]` as a `SiteVerify`.
        let verified = serde_json::from_slice(&body).and_then(|map| SiteVerify::deserialize(Value::Object(map)));
        match verified {
            Ok(verified) if verified.success && status != StatusCode::OK => Err(format!("success, status {status}")),
            Ok(verified) => Ok(verified),
            Err(error) => Err(format!("status {status}, an answer that cannot be read: {error}")),
        }
    }

    fn judge(&self, verified: &SiteVerify) -> Verdict {
        let ours = |host: &String| self.hostnames.iter().any(|name| name.eq_ignore_ascii_case(host));
        let says = |code: &str| verified.error_codes.iter().any(|said| said == code);
        if verified.success {
            // A captcha that was solved on another site with our site key does not count. Fails closed: if the operator
            // set `hostnames`, an answer without a hostname does not count either, because it may come from anywhere.
            let foreign = !self.hostnames.is_empty() && !verified.hostname.as_ref().is_some_and(ours);
            return if foreign { Verdict::Wrong } else { Verdict::Human { since: unix_now() } };
        }
        if says("invalid-input-secret") || says("missing-input-secret") || says("sitekey-secret-mismatch") {
            log::error!(
                "{} refuses `captcha.secret_key`: no visitor can solve the captcha until it is right.",
                self.known.name
            );
            return Verdict::Away;
        }
        match () {
            () if says("timeout-or-duplicate") || says("already-seen-response") || says("expired-input-response") => {
                Verdict::Expired
            }
            () if says("internal-error") || says("bad-request") => Verdict::Away,
            () => Verdict::Wrong,
        }
    }
}
