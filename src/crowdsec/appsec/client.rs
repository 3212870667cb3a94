//! How is AppSec asked? One question, within one length of time, over a connection that stays open.

use std::error::Error;
use std::iter;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderValue, Method, Request, Uri};
use http_body_util::{BodyExt, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::pki_types::CertificateDer;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::answer::Answer;
use super::config::Config;
use super::question::{Body, Question};
use crate::crowdsec::lapi::tls;
use crate::crowdsec::setting::Secret;

/// Questions in flight. The others wait for their turn within `appsec.timeout`: an AppSec that is slow gathers neither
/// connections nor memory without bound.
const IN_FLIGHT: usize = 128;
/// The page of a challenge and its scripts are up to 250 kB, and grow when they are written as JSON.
const LONGEST: usize = 4 << 20;
/// AppSec does not close connections by itself; what stands between us and it may.
const IDLE: Duration = Duration::from_secs(30);
/// After a key that AppSec refuses nobody is asked for that long: no visitor can bring a 401 about.
const REST: Duration = Duration::from_secs(3);

pub struct Client {
    http: legacy::Client<HttpsConnector<HttpConnector>, Body>,
    at: Uri,
    key: HeaderValue,
    timeout: Duration,
    places: Semaphore,
    rests_until: Mutex<Option<Instant>>,
}

impl Client {
    pub fn new(config: &Config, key: &Secret, ca: Option<&[CertificateDer<'static>]>) -> Result<Self, String> {
        // The first provider stays; a second call changes nothing.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let builder = HttpsConnectorBuilder::new();
        let told = |error: &dyn Error| format!("HTTPS to AppSec cannot be set up: {error}");
        let builder = match (ca, config.url.scheme()) {
            (Some(ca), "https") => builder.with_tls_config(tls::client(ca, None).map_err(|error| told(&error))?),
            (None, "https") => {
                let provider = rustls::crypto::ring::default_provider();
                builder.with_provider_and_platform_verifier(provider).map_err(|error| told(&error))?
            }
            // Over plain HTTP no CA is asked for, and a machine without any must not fail for it.
            _ => {
                let none = rustls::ClientConfig::builder().with_root_certificates(rustls::RootCertStore::empty());
                builder.with_tls_config(none.with_no_client_auth())
            }
        };
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(config.timeout));
        let http = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(IN_FLIGHT)
            .build(builder.https_or_http().enable_http1().wrap_connector(connector));
        let mut key = HeaderValue::from_str(&key.0).map_err(|_| "`api_key` cannot be sent in a header".to_owned())?;
        key.set_sensitive(true);
        let at = config.url.as_str().parse().map_err(|_| "`appsec.url` is no address that can be asked".to_owned())?;
        let (timeout, places) = (config.timeout, Semaphore::new(IN_FLIGHT));
        Ok(Self { http, at, key, timeout, places, rests_until: Mutex::default() })
    }

    pub async fn ask(&self, question: &Question) -> Answer {
        if self.rests_until().is_some_and(|until| Instant::now() < until) {
            return Answer::Outage("401 a moment ago: AppSec does not know the key".into());
        }
        let mut status = None;
        let asked = timeout(self.timeout, self.ask_in_turn(question, &mut status)).await;
        match asked {
            Ok(answer) => answer,
            // The block stands at the answer's head already.
            Err(_) => match status {
                Some(status) => Answer::read(status, None),
                None => Answer::Outage("it took longer than `appsec.timeout`".into()),
            },
        }
    }

    async fn ask_in_turn(&self, question: &Question, status: &mut Option<http::StatusCode>) -> Answer {
        let Ok(_place) = self.places.acquire().await else { return Answer::Outage("no place in the line".into()) };
        let mut sent = self.send(question).await;
        // A connection that was kept open may be closed by the other side just when it is used again.
        if sent.as_ref().is_err_and(|error| !error.is_connect()) {
            sent = self.send(question).await;
        }
        let response = match sent {
            Ok(response) => response,
            Err(error) => return Answer::Outage(chain(&error)),
        };
        *status = Some(response.status());
        let (head, body) = response.into_parts();
        let body = Limited::new(body, LONGEST).collect().await.ok().map(|body| body.to_bytes());
        let answer = Answer::read(head.status, body.as_deref());
        if head.status == http::StatusCode::UNAUTHORIZED && matches!(answer, Answer::Outage(_)) {
            *self.rests_until() = Some(Instant::now() + REST);
        }
        answer
    }

    fn send(&self, question: &Question) -> legacy::ResponseFuture {
        let mut request = Request::new(question.body());
        *request.method_mut() = if question.has_body { Method::POST } else { Method::GET };
        *request.uri_mut() = self.at.clone();
        let headers: &mut HeaderMap = request.headers_mut();
        headers.insert("x-crowdsec-appsec-api-key", self.key.clone());
        headers.extend(question.headers.clone());
        if question.has_body && question.body.is_none() {
            // Without it AppSec's rules would see a request that says nothing of its length.
            headers.insert(http::header::CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        self.http.request(request)
    }

    fn rests_until(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.rests_until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The error and what caused it, without any text of the question's.
fn chain(error: &legacy::Error) -> String {
    let first: &dyn Error = error;
    let causes = iter::successors(Some(first), |error| (*error).source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
