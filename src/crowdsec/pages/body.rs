//! What becomes of a body that nobody wants? It is read and dropped, so that the answer arrives.
//!
//! A connection that is closed while the visitor still sends is reset. A proxy takes that for a dead instance, and may
//! send nobody there any more.

use std::time::Duration;

use rocket::data::{Data, FromData, Outcome, ToByteUnit};
use rocket::http::{RawStr, Status};
use rocket::{Request, route};
use tokio::io::{self, AsyncReadExt};
use tokio::time::timeout;

/// How much of a body is read and dropped, in MiB, and for how long. Whoever sends more, or more slowly, meets a closed
/// connection.
const MOST_MEBIBYTES: u64 = 8;
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest form of one of our own pages, in bytes: a provider's answer has some 2 kB, the place to go back to at
/// most 2 kB, or 6 kB encoded. Rocket's own limit is for the application, which may take forms of many megabytes.
const LONGEST_FORM: u64 = 32 << 10;

/// Reads what the visitor still sends, and drops it.
pub async fn drop_body(data: Data<'_>) {
    if !data.peek_complete() {
        let _ = timeout(PATIENCE, io::copy(&mut data.open(MOST_MEBIBYTES.mebibytes()), &mut io::sink())).await;
    }
}

/// Answers 404 for a route of ours that does not concern this request, after its body is dropped. A request without a body
/// goes on to the application's routes.
pub async fn nothing_here(data: Data<'_>) -> route::Outcome<'_> {
    if data.peek_complete() {
        return route::Outcome::forward(data, Status::NotFound);
    }
    drop_body(data).await;
    route::Outcome::error(Status::NotFound)
}

/// Whether the visitor waits to be told whether to send the body (`Expect: 100-continue`). (Rocket has answered
/// `100 Continue` by now: it looks at the first bytes of every body.)
pub fn is_waited_for(request: &Request<'_>) -> bool {
    request.headers().get_one("Expect").is_some_and(|wish| wish.eq_ignore_ascii_case("100-continue"))
}

/// The fields that one of our own pages posts; none where the body is no form. The whole body is read, so that this
/// also serves a route that wants no body.
pub struct Posted(Vec<(String, String)>);

impl Posted {
    /// What the first field of this name holds.
    pub fn get(&self, field: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| name == field).map(|(_, value)| value.as_str())
    }
}

#[rocket::async_trait]
impl<'r> FromData<'r> for Posted {
    type Error = ();

    async fn from_data(request: &'r Request<'_>, data: Data<'r>) -> Outcome<'r, Self> {
        let is_form = request.content_type().is_some_and(|kind| kind.is_form());
        let body = timeout(PATIENCE, read(data)).await.ok().flatten().filter(|_| is_form).unwrap_or_default();
        Outcome::Success(Self(fields(&String::from_utf8_lossy(&body)).collect()))
    }
}

/// The whole body; `None` where it is longer than a form of ours.
async fn read(data: Data<'_>) -> Option<Vec<u8>> {
    let (mut stream, mut body) = (data.open(MOST_MEBIBYTES.mebibytes()), Vec::new());
    (&mut stream).take(LONGEST_FORM).read_to_end(&mut body).await.ok()?;
    let rest = io::copy(&mut stream, &mut io::sink()).await.ok()?;
    (rest == 0).then_some(body)
}

/// The names and values of an encoded form.
pub fn fields(body: &str) -> impl Iterator<Item = (String, String)> {
    let decoded = |text: &RawStr| text.url_decode_lossy().into_owned();
    let pairs = RawStr::new(body).split('&').filter(|field| !field.is_empty()).map(|field| field.split_at_byte(b'='));
    pairs.map(move |(name, value)| (decoded(name), decoded(value)))
}
