//! What does CrowdSec learn from this application? Each request that was let in, and what a handler notes.

use std::borrow::Cow;
use std::io::{self, Write};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rocket::fairing::{Fairing, Info, Kind};
use rocket::futures::future::BoxFuture;
use rocket::http::{Header, Method, Status};
use rocket::outcome::IntoOutcome;
use rocket::request::{FromRequest, Outcome};
use rocket::response::{Body, Response};
use rocket::{Ignite, Request, Rocket, Sentinel};
use tokio::io::{AsyncRead, ReadBuf};

use super::arrivals::Arrival;
use super::bouncer::{Bouncer, done, is_ours};
use super::field;
use super::guard::{has_no_bouncer, is_refused_by_guard};
use super::journal::{AccessLog, Journal};

/// Tells CrowdSec what a handler has noticed: `events.note("failed-sign-in", Some(user))` is one line in `event_log`, and
/// nothing where that is not set. The folder `deploy/sensor/` has what reads it.
pub struct Events<'r> {
    log: Option<&'r Journal>,
    address: IpAddr,
}

impl Events<'_> {
    /// What happened, in a word of your own, and to whose account.
    pub fn note(&self, event: &str, user: Option<&str>) {
        let Some(log) = self.log else { return };
        log.append(|line, clock| {
            // CrowdSec knows a line of ours by its first key.
            line.extend_from_slice(b"{\"crowdsec_event\":");
            field::json(line, event);
            let _ = write!(line, ",\"time\":\"{}\",\"address\":\"{}\"", clock.rfc3339, self.address);
            if let Some(user) = user {
                line.extend_from_slice(b",\"user\":");
                field::json(line, user);
            }
            line.extend_from_slice(b"}\n");
        });
    }
}

#[rocket::async_trait]
impl<'r> FromRequest<'r> for Events<'r> {
    type Error = ();

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, ()> {
        request.rocket().state::<Bouncer>().or_error((Status::InternalServerError, ())).map(|bouncer| {
            let address = bouncer.judgement(request).address;
            // As with the access log, nothing is said of a proxy.
            let log = bouncer.logs.events.as_deref().filter(|_| !bouncer.client_ip.is_proxy(address));
            Self { log, address }
        })
    }
}

impl Sentinel for Events<'_> {
    fn abort(rocket: &Rocket<Ignite>) -> bool {
        has_no_bouncer(rocket)
    }
}

/// Remembers a request that is let in, if there is a log for it. A proxy's own address is told to nobody: an attacker
/// who hides behind it would have CrowdSec ban the proxy, and with it everybody.
pub fn arrived(request: &Request<'_>, bouncer: &Bouncer, address: IpAddr) {
    if let Some(access) = bouncer.logs.access.as_ref().filter(|_| !bouncer.client_ip.is_proxy(address)) {
        access.arrivals.keep(request, address);
    }
}

/// Whence a visitor says that they come, and with what: by the headers as they are when the answer leaves, which a
/// fairing of the owner's may have changed on purpose.
fn referer_and_agent<'r>(request: &'r Request<'_>) -> [Cow<'r, str>; 2] {
    let find = |name: &str| {
        // Letter by letter: of the `==` of Rocket's names, the compiler makes no such short loop.
        let is_it = |header: &Header<'_>| {
            let mut letters = header.name().as_str().bytes().zip(name.bytes());
            header.name().len() == name.len() && letters.all(|(a, b)| a.eq_ignore_ascii_case(&b))
        };
        request.headers().iter().find(is_it).map_or(Cow::Borrowed("-"), |header| header.value)
    };
    [find("referer"), find("user-agent")]
}

impl Journal {
    /// Writes a line of nginx's combined format. Each field is cut, so that it fits into the 16 KiB that Docker takes
    /// for one.
    fn access(&self, arrival: &Arrival, [referer, agent]: &[Cow<'_, str>; 2], status: Status, size: usize) {
        self.append(|line, clock| {
            field::address(line, arrival.address);
            line.extend_from_slice(clock.common.as_bytes());
            line.extend_from_slice(arrival.method.as_str().as_bytes());
            line.push(b' ');
            // However long the one is, the other is seen.
            let (path, query) = arrival.uri();
            field::escaped(line, path, 6 << 10);
            if !query.is_empty() {
                field::escaped(line, query, 4 << 10);
            }
            // Rocket does not tell the version.
            line.extend_from_slice(b" HTTP/1.1\" ");
            field::number(line, status.code);
            line.push(b' ');
            field::number(line, size);
            line.extend_from_slice(b" \"");
            field::escaped(line, referer, 1 << 10);
            line.extend_from_slice(b"\" \"");
            field::escaped(line, agent, 2 << 10);
            line.extend_from_slice(b"\"\n");
        });
    }
}

/// It has to be attached after all others, to see the answer as it leaves.
impl Fairing for AccessLog {
    fn info(&self) -> Info {
        Info { name: "CrowdSec's access log", kind: Kind::Response }
    }

    /// A refusal of ours is not written: CrowdSec would count it, and lengthen the ban that caused it.
    ///
    /// An `async fn`, written out: an answer whose size is known, as nearly all are, waits for nothing.
    fn on_response<'r, 'a, 'b, 'c, 'f>(
        &'a self,
        request: &'r Request<'b>,
        response: &'c mut Response<'r>,
    ) -> BoxFuture<'f, ()>
    where
        'r: 'f,
        'a: 'f,
        'b: 'f,
        'c: 'f,
    {
        let Some(arrival) = self.arrivals.take(request) else { return done() };
        let status = response.status();
        if is_ours(request) || is_refused_by_guard(request, status) {
            return done();
        }
        let has_no_body = arrival.method == Method::Head || matches!(status.code, 204 | 304);
        if let Some(size) = if has_no_body { Some(0) } else { response.body().preset_size() } {
            self.journal.access(&arrival, &referer_and_agent(request), status, size);
            return done();
        }
        let arrival = arrival.clone();
        Box::pin(async move {
            if let Some(size) = response.body_mut().size().await {
                return self.journal.access(&arrival, &referer_and_agent(request), status, size);
            }
            let (chunk, body) = (response.body().max_chunk_size(), response.body_mut().take());
            response.set_streamed_body(Counted {
                body,
                count: 0,
                journal: self.journal.clone(),
                arrival,
                by: referer_and_agent(request).map(|by| Cow::Owned(by.into_owned())),
                status,
            });
            response.set_max_chunk_size(chunk);
        })
    }
}

/// A body of unknown size, whose line is written when it ends, or when the visitor leaves. It borrows nothing of the
/// request: Rocket's local client drops that first, and the compiler does not see it.
struct Counted<'r> {
    body: Body<'r>,
    count: usize,
    journal: Arc<Journal>,
    arrival: Arrival,
    by: [Cow<'static, str>; 2],
    status: Status,
}

impl AsyncRead for Counted<'_> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = to.filled().len();
        let result = ready!(Pin::new(&mut self.body).poll_read(context, to));
        self.count += to.filled().len() - before;
        Poll::Ready(result)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.journal.access(&self.arrival, &self.by, self.status, self.count);
    }
}
