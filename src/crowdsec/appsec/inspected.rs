//! How does a handler get a body of any length that AppSec has judged? By `Inspected`, in the place of Rocket's own guard.

use std::io::Cursor;
use std::ops::{Deref, DerefMut};
use std::str;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use multer::{Constraints, Multipart, SizeLimit};
use rocket::data::{ByteUnit, FromData, Limits, Outcome};
use rocket::form::{self, Form, FromForm, FromFormField, ValueField};
use rocket::http::{ContentType, RawStr, Status};
use rocket::serde::json::Json;
use rocket::{Data, Ignite, Request, Rocket, Sentinel};
use serde::Deserialize;
use serde_json::error::Category;

use super::config::LargeBodies;
use super::judge::{AppSec, Hearing, Judge};
use super::own::read_body;
use super::question::address_of;
use crate::crowdsec::bouncer::{Bouncer, Verdict};

/// Proof that AppSec has judged the whole request, its body included, before `T` was made of it.
///
/// Without it AppSec sees bodies of up to 512 bytes. `T` is `Form<…>` (with [`File`] for files), `Json<…>`, `String`, `&str`,
/// `Vec<u8>` or `&[u8]`, with Rocket's limits of each. Where no `appsec.url` is set, nobody is asked.
///
/// ```text
/// #[post("/order", data = "<form>")]
/// fn order(form: Inspected<Form<Order<'_>>>) { … }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Inspected<T>(pub T);

impl<T> Deref for Inspected<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for Inspected<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

/// What can be made of a body that lies in memory.
#[rocket::async_trait]
pub trait FromBody<'r>: Sized {
    type Error: Send + std::fmt::Debug;

    /// Whether the body is of a kind that this can be made of. If not, Rocket asks the next route.
    fn takes(_: &Request<'_>) -> bool {
        true
    }

    /// How long the body may be.
    fn limit(request: &Request<'_>) -> ByteUnit;

    async fn from_body(request: &'r Request<'_>, body: &'r [u8]) -> Result<Self, (Status, Self::Error)>;
}

struct Body(Arc<[u8]>);

#[rocket::async_trait]
impl<'r, T: FromBody<'r>> FromData<'r> for Inspected<T> {
    /// `None` where nothing was read or made: the body is too long, the visitor has hung up, or AppSec refuses.
    type Error = Option<T::Error>;

    async fn from_data(request: &'r Request<'_>, data: Data<'r>) -> Outcome<'r, Self> {
        // Fails closed: without a judge nothing is proven.
        let Some(Judge(appsec)) = request.rocket().state() else {
            return Outcome::Error((Status::InternalServerError, None));
        };
        if !T::takes(request) {
            return Outcome::Forward((data, Status::UnsupportedMediaType));
        }
        let limit = T::limit(request);
        let most = match appsec {
            Some(appsec) if appsec.config.large_bodies == LargeBodies::Block => limit.min(appsec.config.body_limit),
            _ => limit,
        };
        let body = match read_body(request, data, most).await {
            Ok(body) => request.local_cache(|| Body(body.into())),
            Err(status) => return Outcome::Error((status, None)),
        };
        if let Some(appsec) = appsec
            && let Err(status) = judged(appsec, request, &body.0).await
        {
            return Outcome::Error((status, None));
        }
        match T::from_body(request, &body.0).await {
            Ok(made) => Outcome::Success(Self(made)),
            Err((status, error)) => Outcome::Error((status, Some(error))),
        }
    }
}

/// Asks about the whole request, unless that is done. `Err` is the status by which our fairing knows a refusal.
async fn judged(appsec: &AppSec, request: &Request<'_>, body: &Arc<[u8]>) -> Result<(), Status> {
    let hearing = Hearing::of(request);
    if hearing.is_whole.swap(true, Ordering::Relaxed) {
        return Ok(());
    }
    // The operator wants those judged by their heads alone, which the fairing has done.
    if body.len() as u64 > appsec.config.body_limit.as_u64() {
        return Ok(());
    }
    let bouncer = request.rocket().state::<Bouncer>().ok_or(Status::InternalServerError)?;
    // Fails closed: the fairing has refused a request whose address cannot be told.
    let uri = address_of(request).ok_or(Status::BadRequest)?;
    let visit = bouncer.visit(request);
    let answer = appsec.ask(request, visit, request.method(), &uri, Some(body.clone())).await;
    let verdict = appsec.verdict(bouncer, request, visit, answer);
    if verdict == Verdict::Admit {
        return Ok(());
    }
    visit.refuse_by_guard(verdict, Some(visit.judgement.by_another(verdict, hearing.origin())));
    Err(visit.status().unwrap_or_else(|| bouncer.status_of(verdict)))
}

impl<T> Sentinel for Inspected<T> {
    fn abort(rocket: &Rocket<Ignite>) -> bool {
        let is_missing = rocket.state::<Judge>().is_none();
        if is_missing {
            log::error!(
                "A route asks for `Inspected`, and nobody is there to judge: attach `crowdsec::appsec()` after `crowdsec::fairing()`."
            );
        }
        is_missing
    }
}

fn told(errors: form::Errors<'_>) -> (Status, form::Errors<'_>) {
    (errors.status(), errors)
}

/// Text and files of one form, by name, as `Form` can read them.
struct Fields(Vec<(String, String)>);

/// Begins the value of a field that bears a file. No text may begin so: it would pass for a file that AppSec has not seen
/// as one.
const FILE: &str = "\0file\0";

#[rocket::async_trait]
impl<'r, T: FromForm<'r> + Send> FromBody<'r> for Form<T> {
    type Error = form::Errors<'r>;

    fn takes(request: &Request<'_>) -> bool {
        request.content_type().is_some_and(|kind| kind.is_form() || kind.is_form_data())
    }

    fn limit(request: &Request<'_>) -> ByteUnit {
        match request.content_type() {
            Some(kind) if kind.is_form_data() => request.limits().get("data-form").unwrap_or(Limits::DATA_FORM),
            _ => request.limits().get("form").unwrap_or(Limits::FORM),
        }
    }

    async fn from_body(request: &'r Request<'_>, body: &'r [u8]) -> Result<Self, (Status, Self::Error)> {
        let fields = match request.content_type() {
            Some(kind) if kind.is_form_data() => parts(kind, body).await,
            _ => encoded(body),
        };
        let fields = fields.map_err(told)?;
        let Fields(fields) = request.local_cache(|| Fields(fields));
        let fields = fields.iter().map(|(name, value)| ValueField::from((name.as_str(), value.as_str())));
        Self::parse_iter(fields).map(Self::from).map_err(told)
    }
}

type Read<'v, T> = form::Result<'v, T>;

fn invalid<'v>(what: &'static str) -> form::Errors<'v> {
    form::Error::validation(what).into()
}

/// A field of text.
fn text<'v>(name: String, value: String) -> Read<'v, (String, String)> {
    if value.starts_with(FILE) { Err(invalid("a text that no form has")) } else { Ok((name, value)) }
}

fn encoded<'v>(body: &[u8]) -> Read<'v, Vec<(String, String)>> {
    let body = RawStr::new(str::from_utf8(body).map_err(form::Errors::from)?);
    let decoded = |text: &RawStr| text.url_decode_lossy().into_owned();
    let pairs = body.split('&').filter(|field| !field.is_empty()).map(|field| field.split_at_byte(b'='));
    pairs.map(|(name, value)| text(decoded(name), decoded(value))).collect()
}

async fn parts<'v>(kind: &ContentType, body: &[u8]) -> Read<'v, Vec<(String, String)>> {
    let boundary = kind.param("boundary").ok_or_else(|| invalid("no boundary"))?;
    let limit = SizeLimit::new().whole_stream(body.len() as u64 + 1);
    let constraints = Constraints::new().size_limit(limit);
    let mut parts = Multipart::with_reader_with_constraints(Cursor::new(body), boundary, constraints);
    let mut fields = Vec::new();
    while let Some(part) = parts.next_field().await.map_err(form::Errors::from)? {
        let name = part.name().unwrap_or_default().to_owned();
        let file = part.file_name().map(|file| (file.to_owned(), part.content_type().map(ToString::to_string)));
        let bytes = part.bytes().await.map_err(form::Errors::from)?;
        fields.push(match file {
            Some((file, kind)) => {
                let [file, kind, bytes] =
                    [file.as_bytes(), kind.unwrap_or_default().as_bytes(), &bytes].map(|bytes| STANDARD.encode(bytes));
                (name, format!("{FILE}{file}\0{kind}\0{bytes}"))
            }
            None => text(name, str::from_utf8(&bytes).map_err(form::Errors::from)?.to_owned())?,
        });
    }
    Ok(fields)
}

/// A file of a form, in memory.
#[derive(Clone, Debug)]
pub struct File {
    /// As the visitor's browser says: not to be used as a path.
    pub name: String,
    pub content_type: Option<ContentType>,
    pub bytes: Vec<u8>,
}

impl<'r> FromFormField<'r> for File {
    fn from_value(field: ValueField<'r>) -> form::Result<'r, Self> {
        let file = field.value.strip_prefix(FILE).ok_or_else(|| invalid("no file"))?;
        let mut decoded = file.split('\0').map(|part| STANDARD.decode(part).ok());
        let mut next = || decoded.next().flatten().ok_or_else(|| invalid("no file"));
        let (name, kind, bytes) = (next()?, next()?, next()?);
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).map_err(|_| invalid("no file"));
        Ok(Self { name: text(name)?, content_type: text(kind)?.parse().ok(), bytes })
    }
}

#[rocket::async_trait]
impl<'r, T: Deserialize<'r> + Send> FromBody<'r> for Json<T> {
    type Error = serde_json::Error;

    fn limit(request: &Request<'_>) -> ByteUnit {
        request.limits().get("json").unwrap_or(Limits::JSON)
    }

    async fn from_body(_: &'r Request<'_>, body: &'r [u8]) -> Result<Self, (Status, Self::Error)> {
        // With the statuses of Rocket's own.
        serde_json::from_slice(body).map(Self).map_err(|error| match error.classify() {
            Category::Data => (Status::UnprocessableEntity, error),
            _ => (Status::BadRequest, error),
        })
    }
}

#[rocket::async_trait]
impl<'r> FromBody<'r> for &'r [u8] {
    type Error = ();

    fn limit(request: &Request<'_>) -> ByteUnit {
        request.limits().get("bytes").unwrap_or(Limits::BYTES)
    }

    async fn from_body(_: &'r Request<'_>, body: &'r [u8]) -> Result<Self, (Status, ())> {
        Ok(body)
    }
}

#[rocket::async_trait]
impl<'r> FromBody<'r> for Vec<u8> {
    type Error = ();

    fn limit(request: &Request<'_>) -> ByteUnit {
        <&[u8]>::limit(request)
    }

    async fn from_body(_: &'r Request<'_>, body: &'r [u8]) -> Result<Self, (Status, ())> {
        Ok(body.to_vec())
    }
}

#[rocket::async_trait]
impl<'r> FromBody<'r> for &'r str {
    type Error = str::Utf8Error;

    fn limit(request: &Request<'_>) -> ByteUnit {
        request.limits().get("string").unwrap_or(Limits::STRING)
    }

    async fn from_body(_: &'r Request<'_>, body: &'r [u8]) -> Result<Self, (Status, str::Utf8Error)> {
        str::from_utf8(body).map_err(|error| (Status::BadRequest, error))
    }
}

#[rocket::async_trait]
impl<'r> FromBody<'r> for String {
    type Error = str::Utf8Error;

    fn limit(request: &Request<'_>) -> ByteUnit {
        <&str>::limit(request)
    }

    async fn from_body(request: &'r Request<'_>, body: &'r [u8]) -> Result<Self, (Status, str::Utf8Error)> {
        <&str>::from_body(request, body).await.map(str::to_owned)
    }
}
