//! How is a form made of a body that lies in memory? Rocket reads its fields one by one; files are in memory, too.

use std::cell::RefCell;
use std::io::Cursor;
use std::str;

use multer::Multipart;
use rocket::Request;
use rocket::data::{ByteUnit, Limits};
use rocket::form::{self, Form, FromForm, FromFormField, ValueField};
use rocket::http::{ContentType, Status};

use super::from_body::FromBody;
use crate::crowdsec::pages::fields;

/// The fields of one form by name, as `Form` can read them.
struct Fields(Vec<(String, String)>);

/// Begins the value of a field that bears a file, and the place of that file among all of the form's follows. So a field of
/// text gets nothing of a file, which AppSec has judged as one. No text may begin so: it would pass for a file.
const FILE: &str = "\0file\0";

thread_local! {
    /// The files of the form that this thread is reading.
    static FILES: RefCell<Vec<File>> = RefCell::default();
}

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
            _ => encoded(body).map(|fields| (fields, Vec::new())),
        };
        let form = fields.and_then(|(fields, files)| {
            let Fields(fields) = request.local_cache(|| Fields(fields));
            FILES.set(files);
            let form =
                Self::parse_iter(fields.iter().map(|(name, value)| ValueField::from((name.as_str(), value.as_str()))));
            FILES.take();
            form
        });
        form.map(Self::from).map_err(|errors| (errors.status(), errors))
    }
}

fn invalid<'v>(what: &'static str) -> form::Errors<'v> {
    form::Error::validation(what).into()
}

/// A field of text.
fn text<'v>(name: String, value: String) -> form::Result<'v, (String, String)> {
    if value.starts_with(FILE) { Err(invalid("a text that no form has")) } else { Ok((name, value)) }
}

fn encoded<'v>(body: &[u8]) -> form::Result<'v, Vec<(String, String)>> {
    fields(str::from_utf8(body).map_err(form::Errors::from)?).map(|(name, value)| text(name, value)).collect()
}

async fn parts<'v>(kind: &ContentType, body: &[u8]) -> form::Result<'v, (Vec<(String, String)>, Vec<File>)> {
    let boundary = kind.param("boundary").ok_or_else(|| invalid("no boundary"))?;
    let mut parts = Multipart::with_reader(Cursor::new(body), boundary);
    let (mut fields, mut files) = (Vec::new(), Vec::new());
    while let Some(part) = parts.next_field().await.map_err(form::Errors::from)? {
        let name = part.name().unwrap_or_default().to_owned();
        let file = part.file_name().map(str::to_owned);
        let content_type = part.content_type().and_then(|kind| kind.to_string().parse().ok());
        let bytes = part.bytes().await.map_err(form::Errors::from)?;
        fields.push(match file {
            Some(file) => {
                files.push(File { name: file, content_type, bytes: bytes.into() });
                (name, format!("{FILE}{}", files.len() - 1))
            }
            None => text(name, str::from_utf8(&bytes).map_err(form::Errors::from)?.to_owned())?,
        });
    }
    Ok((fields, files))
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
        let place = field.value.strip_prefix(FILE).and_then(|place| place.parse::<usize>().ok());
        FILES.with_borrow(|files| files.get(place?).cloned()).ok_or_else(|| invalid("no file"))
    }
}
