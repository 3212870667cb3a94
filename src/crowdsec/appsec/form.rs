//! How is a form made of a body that lies in memory? The form takes its fields one by one; files lie in memory, too.

use std::cell::Cell;
use std::str;

use rocket::Request;
use rocket::data::{ByteUnit, Limits};
use rocket::form::{self, Form, FromForm, FromFormField, ValueField};
use rocket::http::{ContentType, Status};

use super::from_body::FromBody;
use crate::crowdsec::pages::fields;

/// The name and the text of each field. Beside a file the text is empty: a form that wants a text there gets nothing of
/// the file, because AppSec has judged the file as a file and not as a text.
struct Fields(Vec<(String, String)>);

thread_local! {
    /// The file of the field that this thread is handing to a form.
    static FILE: Cell<Option<File>> = Cell::default();
}

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

    fn from_body(request: &'r Request<'_>, body: &'r [u8]) -> Result<Self, (Status, Self::Error)> {
        let fields = match request.content_type() {
            Some(kind) if kind.is_form_data() => parts(kind, body),
            _ => str::from_utf8(body)
                .map(|text| fields(text).map(|field| (field, None)).collect())
                .map_err(form::Errors::from),
        };
        let form = fields.and_then(|fields| {
            let (texts, files): (_, Vec<_>) = fields.into_iter().unzip();
            let Fields(texts) = request.local_cache(|| Fields(texts));
            let mut form = T::init(form::Options::Lenient);
            for ((name, value), file) in texts.iter().zip(files) {
                FILE.set(file);
                T::push_value(&mut form, ValueField::from((name.as_str(), value.as_str())));
            }
            FILE.set(None);
            T::finalize(form)
        });
        form.map(Self::from).map_err(|errors| (errors.status(), errors))
    }
}

/// The name and the text of a field, and its file. Beside a file the text is empty.
type Field = ((String, String), Option<File>);

/// The longest head of a part, in bytes. At a head of more than 10,000 lines Go gives up, and the rules see nothing more.
const LONGEST_HEAD: usize = 16 << 10;

/// Takes a multipart form apart, strictly. Go reads the parts for AppSec's rules: a body in which Go could find other
/// fields or files is no form. Otherwise a field could arrive here that AppSec took for a file, or never saw. No crate
/// is that strict: of two headers with one name, multer keeps the last, and Go takes the first.
fn parts<'v>(kind: &ContentType, body: &[u8]) -> form::Result<'v, Vec<Field>> {
    let odd = || form::Error::validation("parts that can be read in two ways");
    let delimiter = ["\r\n--", boundary_of(kind).ok_or_else(odd)?].concat().into_bytes();
    let mut fields = Vec::new();
    // Nothing may stand before the first part.
    let mut rest = body.strip_prefix(&delimiter[2..]).ok_or_else(odd)?;
    while !rest.starts_with(b"--") {
        let (part, next) = parted(rest.strip_prefix(b"\r\n").ok_or_else(odd)?, &delimiter).ok_or_else(odd)?;
        let (head, bytes) = parted(part, b"\r\n\r\n").ok_or_else(odd)?;
        let (name, file, content_type) = str::from_utf8(head).ok().and_then(head_of).ok_or_else(odd)?;
        let text = if file.is_some() { "" } else { str::from_utf8(bytes).map_err(form::Errors::from)? };
        let file = file.map(|file| File { name: file.to_owned(), content_type, bytes: bytes.to_owned() });
        fields.push(((name.to_owned(), text.to_owned()), file));
        rest = next;
    }
    Ok(fields)
}

/// The boundary between the parts, if every reader finds the same one.
fn boundary_of(kind: &ContentType) -> Option<&str> {
    let count = |wanted: &str| kind.params().filter(|(name, _)| *name == wanted).count();
    let (boundaries, charsets) = (count("boundary"), count("charset"));
    let is_clear = boundaries == 1 && charsets <= 1 && kind.params().count() == boundaries + charsets;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"'()+_,-./:=?".contains(&byte);
    let boundary = kind.param("boundary").filter(|_| is_clear && !kind.to_string().contains('\\'))?;
    ((1..=70).contains(&boundary.len()) && boundary.bytes().all(is_plain)).then_some(boundary)
}

/// What the head of a part says: the name of the field, and the name and the type of the file, where the part has them.
fn head_of(head: &str) -> Option<(&str, Option<&str>, Option<ContentType>)> {
    let (mut names, mut kind) = (None, None);
    for line in head.split("\r\n") {
        let (header, value) = line.split_once(':').filter(|_| head.len() <= LONGEST_HEAD)?;
        // Go takes only these two for white space. At a lone line feed Go may end the head; at other control characters
        // it gives up.
        let value = value.trim_matches([' ', '\t']);
        match &*header.to_ascii_lowercase() {
            _ if value.contains(char::is_control) => return None,
            // Go takes the first of two such lines. Here a second one makes it no form.
            "content-disposition" if names.is_none() => names = Some(names_of(value)?),
            // The type does not tell a field from a file, so two such lines are no danger. The last one counts.
            "content-type" => kind = value.parse().ok(),
            // Go decodes `quoted-printable`, and we do not.
            "content-transfer-encoding" | "content-length" if !value.eq_ignore_ascii_case("quoted-printable") => {}
            _ => return None,
        }
    }
    names.map(|(name, file)| (name, file, kind))
}

/// The names of a field and of its file, as browsers and .NET write them. Go also knows `FILENAME=`, `filename*=` and
/// escapes by `\`: with these a part is refused. Behind a file's name they do not matter: the part is a file here, and
/// if Go takes it for a field, the rules see more of it.
fn names_of(disposition: &str) -> Option<(&str, Option<&str>)> {
    let (name, rest) = value_of(disposition.strip_prefix("form-data; name=")?)?;
    let file = if rest.is_empty() { None } else { Some(value_of(rest.strip_prefix("; filename=")?)?.0) };
    (!name.contains('\\')).then_some((name, file))
}

/// Splits off the value: a bare word, as .NET writes names, or a text in quotes.
fn value_of(text: &str) -> Option<(&str, &str)> {
    let is_odd = |letter: char| !letter.is_ascii_alphanumeric() && !"-._".contains(letter);
    let end = text.find(is_odd).unwrap_or(text.len());
    if end > 0 { Some(text.split_at(end)) } else { text.strip_prefix('"')?.split_once('"') }
}

/// The bytes before and behind the first `mark`.
fn parted<'b>(bytes: &'b [u8], mark: &[u8]) -> Option<(&'b [u8], &'b [u8])> {
    let at = (0..bytes.len()).find(|at| bytes[*at..].starts_with(mark))?;
    Some((&bytes[..at], &bytes[at + mark.len()..]))
}

/// A file of a form, in memory.
#[derive(Clone, Debug)]
pub struct File {
    /// The name that the visitor's browser sends: never use it as a path.
    pub name: String,
    pub content_type: Option<ContentType>,
    pub bytes: Vec<u8>,
}

impl<'r> FromFormField<'r> for File {
    fn from_value(_: ValueField<'r>) -> form::Result<'r, Self> {
        Ok(FILE.take().ok_or_else(|| form::Error::validation("no file"))?)
    }
}
