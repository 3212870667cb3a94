//! What does CrowdSec learn from this application? Each request that was let in, and what a handler notes.

use std::borrow::Cow;
use std::io::{self, Write};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rocket::fairing::{Fairing, Info, Kind};
use rocket::futures::future::BoxFuture;
use rocket::http::{Method, Status};
use rocket::outcome::IntoOutcome;
use rocket::request::{FromRequest, Outcome};
use rocket::response::{Body, Response};
use rocket::{Ignite, Request, Rocket, Sentinel};
use tokio::io::{AsyncRead, ReadBuf};

use super::bouncer::{Asked, Bouncer, done, is_ours};
use super::guard::{has_no_bouncer, is_refused_by_guard};
use super::journal::{Journal, write_address, write_number};

/// Tells CrowdSec what a handler has noticed: `events.note("failed-sign-in", Some(user))` is one line in `event_log`, and
/// nothing where that is not set. The folder `crowdsec/` has what reads it.
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
            json_text(line, event);
            let _ = write!(line, ",\"time\":\"{}\",\"address\":\"{}\"", clock.rfc3339, self.address);
            if let Some(user) = user {
                line.extend_from_slice(b",\"user\":");
                json_text(line, user);
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

/// A request as it came in, before any fairing or route could change it.
#[derive(Clone)]
struct Arrival {
    address: IpAddr,
    asked: Asked,
}

/// Remembers a request that is let in, if there is a log for it. A proxy's own address is told to nobody: an attacker
/// who hides behind it would have CrowdSec ban the proxy, and with it everybody.
pub fn arrived(request: &Request<'_>, bouncer: &Bouncer, address: IpAddr) {
    if bouncer.logs.access.is_some() && !bouncer.client_ip.is_proxy(address) {
        request.local_cache(|| Some(Arrival { address, asked: Asked::now(request) }));
    }
}

/// Whence a visitor says that they come, and with what: by the headers as they are when the answer leaves, which a
/// fairing of the owner's may have changed on purpose. One walk over all is cheaper than two look-ups, which hash letter
/// by letter.
fn referer_and_agent<'r>(request: &'r Request<'_>) -> [Cow<'r, str>; 2] {
    let mut found = [Cow::Borrowed("-"), Cow::Borrowed("-")];
    for header in request.headers().iter() {
        match header.name().len() {
            7 if header.name() == "referer" => found[0] = header.value,
            10 if header.name() == "user-agent" => found[1] = header.value,
            _ => {}
        }
    }
    found
}

impl Arrival {
    /// Writes a line of nginx's combined format. Each field is cut, so that it fits into the 16 KiB that Docker takes
    /// for one.
    fn write(&self, log: &Journal, [referer, agent]: &[Cow<'_, str>; 2], status: Status, size: usize) {
        log.append(|line, clock| {
            write_address(line, self.address);
            line.extend_from_slice(clock.common.as_bytes());
            line.push(b'"');
            line.extend_from_slice(self.asked.method.as_str().as_bytes());
            line.push(b' ');
            // However long the one is, the other is seen.
            let (path, query) = self.asked.uri.split_once('?').unwrap_or((&self.asked.uri, ""));
            escape(line, path, 6 << 10);
            if path.len() < self.asked.uri.len() {
                line.push(b'?');
                escape(line, query, 4 << 10);
            }
            // Rocket does not tell the version.
            line.extend_from_slice(b" HTTP/1.1\" ");
            write_number(line, status.code);
            line.push(b' ');
            write_number(line, size);
            line.extend_from_slice(b" \"");
            escape(line, referer, 1 << 10);
            line.extend_from_slice(b"\" \"");
            escape(line, agent, 2 << 10);
            line.extend_from_slice(b"\"\n");
        });
    }
}

/// Writes the access log. It has to be attached after all others, to see the answer as it leaves.
pub struct AccessLog(pub Arc<Journal>);

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
        let Some(arrival) = request.local_cache(|| None::<Arrival>) else { return done() };
        let status = response.status();
        if is_ours(request) || is_refused_by_guard(request, status) {
            return done();
        }
        let has_no_body = arrival.asked.method == Method::Head || matches!(status.code, 204 | 304);
        if let Some(size) = if has_no_body { Some(0) } else { response.body().preset_size() } {
            arrival.write(&self.0, &referer_and_agent(request), status, size);
            return done();
        }
        Box::pin(async move {
            if let Some(size) = response.body_mut().size().await {
                return arrival.write(&self.0, &referer_and_agent(request), status, size);
            }
            let (chunk, body) = (response.body().max_chunk_size(), response.body_mut().take());
            response.set_streamed_body(Counted {
                body,
                count: 0,
                log: self.0.clone(),
                arrival: arrival.clone(),
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
    log: Arc<Journal>,
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
        self.arrival.write(&self.log, &self.by, self.status, self.count);
    }
}

/// Text as JSON has it, all in ASCII: what could move a terminal's cursor is escaped too. It is cut, since a name in a
/// form may be as long as the form.
fn json_text(line: &mut Vec<u8>, text: &str) {
    line.push(b'"');
    for unit in text.encode_utf16().take(200) {
        let _ = match u8::try_from(unit) {
            Ok(byte) if is_plain(&byte) => line.write_all(&[byte]),
            _ => write!(line, "\\u{unit:04x}"),
        };
    }
    line.push(b'"');
}

fn is_plain(byte: &u8) -> bool {
    matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\')
}

/// Nearly all texts are. Looked at without a way out, sixteen bytes are one instruction; the last sixteen may overlap
/// those before.
fn are_plain(text: &[u8]) -> bool {
    let special = |bytes: &[u8]| bytes.iter().fold(0, |special, byte| special | u8::from(!is_plain(byte)));
    let special = match text.last_chunk::<16>() {
        Some(last) => special(text.as_chunks::<16>().0.as_flattened()) | special(last),
        None => special(text),
    };
    special == 0
}

const DIGITS: &[u8; 16] = b"0123456789ABCDEF";

/// Escapes as nginx does, so that nothing in a field can end the field or the line.
fn escape(line: &mut Vec<u8>, text: &str, most: usize) {
    let (end, text) = (line.len() + most, text.as_bytes());
    if text.len() <= most && are_plain(text) {
        return line.extend_from_slice(text);
    }
    for byte in text {
        match line.len() < end {
            true if is_plain(byte) => line.push(*byte),
            // `write!` would take ten times as long, and others wait for this line to end.
            true => {
                line.extend_from_slice(&[b'\\', b'x', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]])
            }
            false => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut line = b"before ".to_vec();
        write(&mut line);
        String::from_utf8(line).expect("plain text").strip_prefix("before ").expect("what was there before").to_owned()
    }

    /// Undoes what nginx's escaping does.
    fn unescaped(mut text: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        while let Some((plain, escaped)) = text.split_once("\\x") {
            bytes.extend(plain.bytes());
            bytes.push(u8::from_str_radix(&escaped[..2], 16).expect("two digits"));
            text = &escaped[2..];
        }
        bytes.extend(text.bytes());
        bytes
    }

    /// Any text, and with better luck texts made of what forgeries are made of.
    fn texts() -> impl Strategy<Value = String> {
        let forged = "\n198.51.100.66 - - [22/Nov/2026:14:54:27 +0000] \"GET /x HTTP/1.1\" 404 153 \"-\" \"-\"\n";
        prop_oneof![any::<String>(), "[\"\\\\x0-9\u{0}-\u{20}\u{7f}-\u{a0}\u{2028}]{0,40}", Just(forged.to_owned())]
    }

    proptest! {
        #[test]
        fn no_text_ends_a_field_or_a_line(text in texts()) {
            let field = written(|line| escape(line, &text, usize::MAX / 2));
            prop_assert!(field.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b'"'), "{}", field);
            prop_assert_eq!(unescaped(&field), text.as_bytes());
        }

        #[test]
        fn a_field_is_cut_and_begins_as_the_text_does(text in texts(), most in 0..100_usize) {
            let (cut, whole) = (written(|line| escape(line, &text, most)), written(|line| escape(line, &text, 1 << 20)));
            prop_assert!(cut.len() < most + 4 && whole.starts_with(&cut), "{}", cut);
            prop_assert!(cut == whole || cut.len() >= most);
        }

        #[test]
        fn an_event_is_one_line_of_json_whatever_it_says(text in texts()) {
            let json = written(|line| json_text(line, &text));
            prop_assert!(json.bytes().all(|byte| matches!(byte, b' '..=b'~')), "{}", json);
            let cut = String::from_utf16_lossy(&text.encode_utf16().take(200).collect::<Vec<_>>());
            // Half of a pair at the cut has no other form.
            if !cut.ends_with(char::REPLACEMENT_CHARACTER) {
                prop_assert_eq!(serde_json::from_str::<Value>(&json).expect("JSON"), Value::from(cut));
            }
        }
    }
}
