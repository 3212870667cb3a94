//! How is a form made of a body that lies in memory? Rocket reads its fields one by one; files are in memory, too.

use std::io::Cursor;
use std::str;

use multer::Multipart;
use rocket::Request;
use rocket::data::{ByteUnit, Limits};
use rocket::form::{self, Form, FromForm, FromFormField, ValueField};
use rocket::http::{ContentType, Status};

use super::from_body::FromBody;
use crate::crowdsec::pages::body::fields;

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
        let form = fields.and_then(|fields| {
            let Fields(fields) = request.local_cache(|| Fields(fields));
            Self::parse_iter(fields.iter().map(|(name, value)| ValueField::from((name.as_str(), value.as_str()))))
        });
        form.map(Self::from).map_err(|errors| (errors.status(), errors))
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
    fields(str::from_utf8(body).map_err(form::Errors::from)?).map(|(name, value)| text(name, value)).collect()
}

async fn parts<'v>(kind: &ContentType, body: &[u8]) -> Read<'v, Vec<(String, String)>> {
    let boundary = kind.param("boundary").ok_or_else(|| invalid("no boundary"))?;
    let mut parts = Multipart::with_reader(Cursor::new(body), boundary);
    let mut fields = Vec::new();
    while let Some(part) = parts.next_field().await.map_err(form::Errors::from)? {
        let name = part.name().unwrap_or_default().to_owned();
        let file = part.file_name().map(|file| (file.to_owned(), part.content_type().map(ToString::to_string)));
        let bytes = part.bytes().await.map_err(form::Errors::from)?;
        fields.push(match file {
            // A text has room for bytes as the first 256 letters.
            Some((file, kind)) => {
                let bytes: String = bytes.iter().copied().map(char::from).collect();
                (name, format!("{FILE}{file}\0{}\0{bytes}", kind.unwrap_or_default()))
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
        let mut parts = field.value.strip_prefix(FILE).into_iter().flat_map(|file| file.splitn(3, '\0'));
        let mut next = || parts.next().ok_or_else(|| invalid("no file"));
        let (name, kind, bytes) = (next()?.to_owned(), next()?, next()?);
        let bytes = bytes.chars().map(u8::try_from).collect::<Result<_, _>>().map_err(|_| invalid("no file"))?;
        Ok(Self { name, content_type: kind.parse().ok(), bytes })
    }
}
