//! What can be made of a body that lies in memory? JSON, text and bytes, as Rocket makes them; form.rs makes forms.

use std::str;

use rocket::Request;
use rocket::data::{ByteUnit, Limits};
use rocket::http::Status;
use rocket::serde::json::Json;
use serde::Deserialize;
use serde_json::error::Category;

/// A type that can be made from a request's body, once all of the body is in memory.
pub trait FromBody<'r>: Sized {
    type Error: Send + std::fmt::Debug;

    /// Whether the request's content type fits this type. If not, the request goes to the next route.
    fn takes(_: &Request<'_>) -> bool {
        true
    }

    /// Which of Rocket's limits counts for the body, and what it is where none is set.
    const LIMIT: (&'static str, ByteUnit) = ("bytes", Limits::BYTES);

    /// How long the body may be.
    fn limit(request: &Request<'_>) -> ByteUnit {
        let (name, default) = Self::LIMIT;
        request.limits().get(name).unwrap_or(default)
    }

    fn from_body(request: &'r Request<'_>, body: &'r [u8]) -> Result<Self, (Status, Self::Error)>;
}

impl<'r, T: Deserialize<'r> + Send> FromBody<'r> for Json<T> {
    type Error = serde_json::Error;

    const LIMIT: (&'static str, ByteUnit) = ("json", Limits::JSON);

    /// AppSec's rules look into JSON only if the body has this type.
    fn takes(request: &Request<'_>) -> bool {
        request.content_type().is_some_and(|kind| kind.is_json())
    }

    fn from_body(_: &'r Request<'_>, body: &'r [u8]) -> Result<Self, (Status, Self::Error)> {
        // With the statuses of Rocket's own `Json`: 422 for JSON of the wrong shape, 400 for what is no JSON.
        serde_json::from_slice(body).map(Self).map_err(|error| match error.classify() {
            Category::Data => (Status::UnprocessableEntity, error),
            _ => (Status::BadRequest, error),
        })
    }
}

impl<'r> FromBody<'r> for &'r [u8] {
    type Error = ();

    fn from_body(_: &'r Request<'_>, body: &'r [u8]) -> Result<Self, (Status, ())> {
        Ok(body)
    }
}

impl<'r> FromBody<'r> for Vec<u8> {
    type Error = ();

    fn from_body(_: &'r Request<'_>, body: &'r [u8]) -> Result<Self, (Status, ())> {
        Ok(body.to_vec())
    }
}

impl<'r> FromBody<'r> for &'r str {
    type Error = str::Utf8Error;

    const LIMIT: (&'static str, ByteUnit) = ("string", Limits::STRING);

    fn from_body(_: &'r Request<'_>, body: &'r [u8]) -> Result<Self, (Status, str::Utf8Error)> {
        str::from_utf8(body).map_err(|error| (Status::BadRequest, error))
    }
}

impl<'r> FromBody<'r> for String {
    type Error = str::Utf8Error;

    const LIMIT: (&'static str, ByteUnit) = ("string", Limits::STRING);

    fn from_body(request: &'r Request<'_>, body: &'r [u8]) -> Result<Self, (Status, str::Utf8Error)> {
        <&str>::from_body(request, body).map(str::to_owned)
    }
}
