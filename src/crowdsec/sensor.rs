//! What does CrowdSec learn from this application? Each request that was let in, and what a handler notes.

use std::borrow::Cow;
use std::io::{self, Write};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rocket::fairing::{Fairing, Info, Kind};
use rocket::http::{Method, Status};
use rocket::outcome::IntoOutcome;
use rocket::request::{FromRequest, Outcome};
use rocket::response::{Body, Response};
use rocket::{Ignite, Request, Rocket, Sentinel};
use tokio::io::{AsyncRead, ReadBuf};

use super::bouncer::Bouncer;
use super::guard::has_no_bouncer;
use super::journal::{AccessLog, Journal};
use super::visit::{Asked, Reason, is_ours};
use super::{field, head};

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
            let judgement = bouncer.judgement(request);
            let log = bouncer.logs.events.as_deref().filter(|_| judgement.has_a_name());
            Self { log, address: judgement.address }
        })
    }
}

impl Sentinel for Events<'_> {
    fn abort(rocket: &Rocket<Ignite>) -> bool {
        has_no_bouncer(rocket)
    }
}

/// What stands in a line of the access log.
struct Line<'r> {
    address: IpAddr,
    asked: Cow<'r, Asked>,
    /// Whence a visitor says that they come, and with what. As the headers are when the answer leaves: a fairing of the
    /// owner's may have changed them on purpose.
    referer: Cow<'r, str>,
    agent: Cow<'r, str>,
    status: Status,
}

impl<'r> Line<'r> {
    fn of(request: &'r Request<'_>, address: IpAddr, asked: &'r Asked, status: Status) -> Self {
        let header = |name| Cow::Borrowed(request.headers().get_one(name).unwrap_or("-"));
        Self { address, asked: Cow::Borrowed(asked), referer: header("Referer"), agent: header("User-Agent"), status }
    }

    fn into_owned(self) -> Line<'static> {
        Line {
            address: self.address,
            asked: Cow::Owned(self.asked.into_owned()),
            referer: Cow::Owned(self.referer.into_owned()),
            agent: Cow::Owned(self.agent.into_owned()),
            status: self.status,
        }
    }
}

impl Journal {
    /// Writes a line of nginx's combined format. It fits into the 16 KiB that Docker takes for one; fields are cut only
    /// where a request was refused for its length.
    fn access(&self, entry: &Line<'_>, size: usize) {
        let Asked { method, uri } = &*entry.asked;
        self.append(|line, clock| {
            let _ = write!(line, "{}{}{method} ", entry.address, clock.common);
            let end = line.len() + head::TARGET;
            field::escaped(line, uri.path().as_str(), head::TARGET);
            if let Some(query) = uri.query() {
                field::escaped(line, "?", end.saturating_sub(line.len()));
                field::escaped(line, query.as_str(), end.saturating_sub(line.len()));
            }
            // Rocket does not tell the version.
            let _ = write!(line, " HTTP/1.1\" {} {size} \"", entry.status.code);
            field::escaped(line, &entry.referer, head::REFERER);
            line.extend_from_slice(b"\" \"");
            field::escaped(line, &entry.agent, head::AGENT);
            line.extend_from_slice(b"\"\n");
        });
    }
}

/// It has to be attached after all others, to see the answer as it leaves.
#[rocket::async_trait]
impl Fairing for AccessLog {
    fn info(&self) -> Info {
        Info { name: "CrowdSec's access log", kind: Kind::Response }
    }

    async fn on_response<'r>(&self, request: &'r Request<'_>, response: &mut Response<'r>) {
        let Some(bouncer) = request.rocket().state::<Bouncer>() else { return };
        let (visit, status) = (bouncer.visit(request), response.status());
        let is_told = match visit.refused.get() {
            // CrowdSec would count a refusal of ours, and lengthen the ban that caused it.
            Some(Reason::Judged) => false,
            Some(Reason::TooLarge(_)) => true,
            None => !(is_ours(request) || status == Status::Forbidden && visit.is_refused_by_guard()),
        };
        if !is_told || !visit.judgement.has_a_name() {
            return;
        }
        let line = Line::of(request, visit.judgement.address, visit.asked(request), status);
        let has_no_body = visit.asked(request).method == Method::Head || matches!(status.code, 204 | 304);
        if let Some(size) = if has_no_body { Some(0) } else { response.body_mut().size().await } {
            return self.0.access(&line, size);
        }
        let (chunk, body) = (response.body().max_chunk_size(), response.body_mut().take());
        response.set_streamed_body(Counted { body, count: 0, journal: self.0.clone(), line: line.into_owned() });
        response.set_max_chunk_size(chunk);
    }
}

/// A body of unknown size, whose line is written when it ends, or when the visitor leaves. It borrows nothing of the
/// request: Rocket's local client drops that first, and the compiler does not see it.
struct Counted<'r> {
    body: Body<'r>,
    count: usize,
    journal: Arc<Journal>,
    line: Line<'static>,
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
        self.journal.access(&self.line, self.count);
    }
}
