//! How is AppSec asked? One question, within one length of time, over a connection that stays open.
//!
//! Not by reqwest, which sends an `Accept` where the visitor has sent none, for AppSec's rules to see.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::task::{Context, Poll};
use std::time::Duration;
use std::{io, vec};

use http::{HeaderValue, StatusCode, Uri};
use http_body_util::{BodyExt, Collected, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rocket::futures::FutureExt;
use rocket::futures::future::BoxFuture;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use tower_service::Service;

use super::answer::Answer;
use super::question::{Body, Question};
use crate::crowdsec::lapi::{Connection, tls_client};
use crate::crowdsec::look_up::LookUp;
use crate::crowdsec::panics::lock;
use crate::crowdsec::printable::with_causes;

/// Questions in flight. The others wait for their turn within `appsec.timeout`: an AppSec that is slow gathers neither
/// connections nor memory without bound.
const IN_FLIGHT: usize = 128;
/// The page of a challenge and its scripts are up to 250 kB, and grow when they are written as JSON.
const LONGEST_ANSWER: usize = 4 << 20;
/// AppSec does not close connections by itself. What stands between us and it may, but hardly any does so soon.
const IDLE: Duration = Duration::from_secs(30);
/// After a key that AppSec refuses nobody is asked for that long: no visitor can bring a 401 about.
const REST: Duration = Duration::from_secs(3);

pub struct Client {
    http: legacy::Client<HttpsConnector<HttpConnector<LookUp>>, Body>,
    pub at: Uri,
    key: HeaderValue,
    timeout: Duration,
    places: Semaphore,
    rests_until: Mutex<Option<Instant>>,
}

impl Client {
    /// AppSec takes LAPI's key, and its CA holds here too.
    pub fn new(at: Uri, timeout: Duration, lapi: &Connection) -> Result<Self, String> {
        let Some(key) = &lapi.key else { return Err("there is no key for AppSec".into()) };
        let tls = tls_client(at.scheme_str() == Some("https"), lapi.ca.as_deref(), None)
            .map_err(|error| format!("HTTPS to AppSec cannot be set up: {error}"))?;
        let https = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1();
        let mut connector = HttpConnector::new_with_resolver(LookUp::default());
        connector.enforce_http(false);
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(timeout));
        let http = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(IN_FLIGHT)
            .build(https.wrap_connector(connector));
        let mut key = HeaderValue::from_str(&key.0).map_err(|_| "`api_key` cannot be sent in a header".to_owned())?;
        key.set_sensitive(true);
        let places = Semaphore::new(IN_FLIGHT);
        Ok(Self { http, at, key, timeout, places, rests_until: Mutex::default() })
    }

    /// One question. Only one that could not be sent, on an idle connection that the other side has closed, goes out on
    /// another connection: hyper sees to that. A connection that ends after the question is an outage, since AppSec may
    /// have counted the question.
    pub async fn ask(&self, mut question: Question) -> Answer {
        if lock(&self.rests_until).is_some_and(|until| Instant::now() < until) {
            return Answer::Outage("401 a moment ago: AppSec does not know the key".into());
        }
        *question.uri_mut() = self.at.clone();
        question.headers_mut().insert("x-crowdsec-appsec-api-key", self.key.clone());
        let deadline = Instant::now() + self.timeout;
        let asked = async { (self.places.acquire().await, self.http.request(question).await) };
        let asked = timeout_at(deadline, asked).await;
        let (_place, response) = match asked {
            Ok((place, Ok(response))) => (place, response),
            Ok((_, Err(error))) => return Answer::Outage(told(&error)),
            Err(_) => return Answer::Outage("it took longer than `appsec.timeout`".into()),
        };
        let (head, body) = response.into_parts();
        // A block stands at the answer's head already, whether the rest comes or not.
        let body = timeout_at(deadline, Limited::new(body, LONGEST_ANSWER).collect()).await.ok().and_then(Result::ok);
        let answer = Answer::read(head.status, body.map(Collected::to_bytes).as_deref());
        if head.status == StatusCode::UNAUTHORIZED && matches!(answer, Answer::Outage(_)) {
            *lock(&self.rests_until) = Some(Instant::now() + REST);
        }
        answer
    }
}

/// As hyper-util asks for addresses.
impl Service<Name> for LookUp {
    type Response = vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, host: Name) -> Self::Future {
        self.clone().addresses(host.as_str().to_owned()).boxed()
    }
}

/// The error and what caused it, without any text of the question's.
fn told(error: &legacy::Error) -> String {
    let reason = with_causes(error);
    // The words of rustls. What is told first is not cut off.
    match reason.contains("invalid peer certificate") {
        true => format!("its certificate is out of date, not for `appsec.url` or by no CA of `ca_cert_path`: {reason}"),
        false => reason,
    }
}
