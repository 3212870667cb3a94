//! Who was let in, and asked for what? A line for each request, as nginx writes it.

use std::borrow::Cow;
use std::cell::RefCell;
use std::io::{self, Write};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rocket::Request;
use rocket::fairing::{Fairing, Info, Kind};
use rocket::http::{Method, Status};
use rocket::response::{Body, Response};
use rocket::time::OffsetDateTime;
use tokio::io::{AsyncRead, ReadBuf};

use super::journal::Journal;
use super::line::escaped;
use crate::crowdsec::bouncer::{Asked, Bouncer, Verdict, is_ours};
use crate::crowdsec::timestamp::unix_now;
use crate::crowdsec::visitor::head;

/// The log of every request that was let in.
pub struct AccessLog(pub Arc<Journal>);

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

impl Line<'_> {
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
        self.append(|line| {
            let _ = write!(line, "{} - - [", entry.address);
            write_time(line);
            let _ = write!(line, "] \"{} ", entry.asked.method);
            escaped(line, &entry.asked.uri, head::TARGET);
            // Rocket does not tell the version.
            let _ = write!(line, " HTTP/1.1\" {} {size} \"", entry.status.code);
            escaped(line, &entry.referer, head::REFERER);
            line.extend_from_slice(b"\" \"");
            escaped(line, &entry.agent, head::AGENT);
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
        let is_told = match visit.refusal() {
            Some(Verdict::TooLarge(_)) => true,
            // CrowdSec would count a refusal of ours, and lengthen the ban that caused it.
            Some(_) => false,
            None => !is_ours(request),
        };
        if !is_told || !visit.judgement.has_a_name() {
            return;
        }
        let header = |name| Cow::Borrowed(request.headers().get_one(name).unwrap_or("-"));
        let (address, asked) = (visit.judgement.address, Cow::Borrowed(visit.asked(request)));
        let line = Line { address, asked, referer: header("Referer"), agent: header("User-Agent"), status };
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

/// Writes the time as nginx does: `26/Nov/2026:14:02:07 +0000`. It is put into words once a second rather than for each line,
/// since that costs more than all the rest of a line.
fn write_time(line: &mut Vec<u8>) {
    thread_local!(static TOLD: RefCell<(u64, String)> = RefCell::default());
    TOLD.with_borrow_mut(|(second, words)| {
        let now = unix_now();
        if *second != now {
            let at = OffsetDateTime::from_unix_timestamp(now as i64).unwrap_or(OffsetDateTime::UNIX_EPOCH);
            let (day, month, year, (h, m, s)) = (at.day(), at.month(), at.year(), at.to_hms());
            (*second, *words) = (now, format!("{day:02}/{month:.3}/{year}:{h:02}:{m:02}:{s:02} +0000"));
        }
        line.extend_from_slice(words.as_bytes());
    });
}
