//! How is AppSec asked? With one question, within `appsec.timeout`, over a connection that stays open.
//!
//! Not with reqwest: it adds an `Accept` where the visitor has sent none, and AppSec's rules would see that.

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

/// The most questions in flight. Others wait for their turn, within `appsec.timeout`: so a slow AppSec gathers neither
/// connections nor memory without bound.
const IN_FLIGHT: usize = 128;
/// The page of a challenge and its scripts are up to 250 kB, and grow when they are written as JSON.
const LONGEST_ANSWER: usize = 4 << 20;
/// AppSec does not close idle connections. A proxy before it may, but hardly any does so within this time.
const IDLE: Duration = Duration::from_secs(30);
/// How long AppSec is not asked after it has refused the key: no visitor can cause a 401.
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
    /// AppSec takes LAPI's key, and LAPI's CA is trusted for AppSec too.
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

    /// Asks one question. Hyper sends it over another connection only if it could not go out, because the other side
    /// had closed an idle connection. A connection that ends after the question is an outage, since AppSec may have
    /// counted the question.
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
        // The status alone tells a block, whether the rest comes or not.
        let body = timeout_at(deadline, Limited::new(body, LONGEST_ANSWER).collect()).await.ok().and_then(Result::ok);
        let answer = Answer::read(head.status, body.map(Collected::to_bytes).as_deref());
        if head.status == StatusCode::UNAUTHORIZED && matches!(answer, Answer::Outage(_)) {
            *lock(&self.rests_until) = Some(Instant::now() + REST);
        }
        answer
    }
}

/// How hyper-util looks up addresses.
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

/// The error and what caused it. It holds no text of the question's.
fn told(error: &legacy::Error) -> String {
    let reason = with_causes(error);
    // These are rustls' words. The advice comes first, since the end may be cut off.
    match reason.contains("invalid peer certificate") {
        true => format!("its certificate is out of date, not for `appsec.url` or by no CA of `ca_cert_path`: {reason}"),
        false => format!("does CrowdSec run with AppSec, and is `appsec.url` right? {reason}"),
    }
}
