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

use super::field::escaped;
use crate::crowdsec::bouncer::{Asked, Bouncer, Verdict, is_ours};
use crate::crowdsec::journal::Journal;
use crate::crowdsec::timestamp::unix_now;
use crate::crowdsec::visitor::{AGENT, REFERER, TARGET};

/// The log of every request that was let in.
pub struct AccessLog(pub Arc<Journal>);

impl Journal {
    /// Writes a line of nginx's combined format. It fits into the 16 KiB up to which Docker keeps a line whole; fields
    /// are cut only where a request was refused for its length.
    fn access(&self, address: IpAddr, asked: &Asked, [referer, agent]: [&str; 2], status: Status, size: usize) {
        self.append(|line| {
            with_time(|time| _ = write!(line, "{address} - - [{time}] \"{} ", asked.method.as_str()));
            escaped(line, &asked.uri, TARGET);
            // Rocket does not tell the version of HTTP.
            let _ = write!(line, " HTTP/1.1\" {} {size} \"", status.code);
            escaped(line, referer, REFERER);
            line.extend_from_slice(b"\" \"");
            escaped(line, agent, AGENT);
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
        let Some(bouncer) = Bouncer::of(request) else { return };
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
        // As the headers are when the answer leaves: a fairing of the owner's may have changed them on purpose.
        // Rocket takes longer to look up one header by its name than to walk over all.
        let (mut referer, mut agent) = (None, None);
        for header in request.headers().iter() {
            match header.name() {
                name if name == "Referer" => _ = referer.get_or_insert(header.value),
                name if name == "User-Agent" => _ = agent.get_or_insert(header.value),
                _ => {}
            }
        }
        let headers = [referer, agent].map(|header| header.unwrap_or("-".into()));
        let (address, asked) = (visit.judgement.address, &visit.asked);
        let has_no_body = asked.method == Method::Head || matches!(status.code, 204 | 304);
        if let Some(size) = if has_no_body { Some(0) } else { response.body_mut().size().await } {
            return self.0.access(address, asked, [&headers[0], &headers[1]], status, size);
        }
        let (chunk, body) = (response.body().max_chunk_size(), response.body_mut().take());
        let (journal, asked, headers) = (self.0.clone(), asked.clone(), headers.map(Cow::into_owned));
        let ended = Box::new(move |size| journal.access(address, &asked, [&headers[0], &headers[1]], status, size));
        response.set_streamed_body(Counted { body, count: 0, ended });
        response.set_max_chunk_size(chunk);
    }
}

/// A body of unknown size, whose line is written when the body ends or the visitor leaves. The line then borrows
/// nothing from the request, which Rocket's local client drops first.
struct Counted<'r> {
    body: Body<'r>,
    count: usize,
    /// Writes the line, with the number of bytes that the body had.
    ended: Box<dyn Fn(usize) + Send>,
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
        (self.ended)(self.count);
    }
}

/// Hands out the time as nginx writes it: `26/Nov/2026:14:02:07 +0000`. It is put into words once a second and not for
/// each line, since these words cost more than the rest of a line.
fn with_time(write: impl FnOnce(&str)) {
    thread_local!(static TOLD: RefCell<(u64, String)> = RefCell::default());
    TOLD.with_borrow_mut(|(second, words)| {
        let now = unix_now();
        if *second != now {
            let at = OffsetDateTime::from_unix_timestamp(now as i64).unwrap_or(OffsetDateTime::UNIX_EPOCH);
            let (day, month, year, (h, m, s)) = (at.day(), at.month(), at.year(), at.to_hms());
            (*second, *words) = (now, format!("{day:02}/{month:.3}/{year}:{h:02}:{m:02}:{s:02} +0000"));
        }
        write(words);
    });
}
