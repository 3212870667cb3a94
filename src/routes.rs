//! The pages of your application: the first file to edit.

use rocket::form::{Form, FromForm};
use rocket::http::{ContentType, Header, Status};
use rocket::response::Redirect;
use rocket::serde::Serialize;
use rocket::serde::json::json;
use rocket::{Catcher, Either, Request, Responder, Route, catch, catchers, get, post, routes};
use rocket_dyn_templates::{Template, context};

use crate::crowdsec::{
    Accounts, Cleared, Events, FORMAT_HEADERS, Inspected, Refused, Report, SameOrigin, Words, wants_json,
};

pub fn all() -> Vec<Route> {
    routes![index, members, sign_in_form, sign_in, common_style]
}

pub fn catchers() -> Vec<Catcher> {
    catchers![any_error]
}

/// The first page. In the debug profile it shows how the bouncer sees you; elsewhere it is a plain welcome.
#[get("/")]
fn index(report: Report, words: Words) -> Page {
    let Report { debug, port, me, crowdsec } = report;
    page("index", &words, context! { app: env!("CARGO_PKG_NAME"), debug, port, me, crowdsec })
}

/// A route that asks for `Cleared` serves nobody whom the bouncer refuses, not even on a path in `excluded_paths`.
#[get("/members")]
fn members(visitor: Cleared, words: Words) -> Page {
    page("members", &words, context! { address: visitor.address, debug: cfg!(debug_assertions) })
}

#[get("/sign-in")]
fn sign_in_form(words: Words) -> Page {
    page("sign-in", &words, context! { failed: false })
}

#[derive(FromForm)]
struct SignIn<'r> {
    user: &'r str,
    password: &'r str,
    /// People do not see this field; programs that fill in every field do.
    #[field(default = "")]
    nickname: &'r str,
}

/// Only our own page may send this form (`SameOrigin`): any other page could send it in its visitor's name, and have them
/// banned for what goes wrong.
#[post("/sign-in", data = "<form>")]
fn sign_in(
    _own: SameOrigin,
    form: Inspected<Form<SignIn<'_>>>,
    accounts: Accounts<'_>,
    events: Events<'_>,
    words: Words,
) -> Result<Either<Redirect, (Status, Page)>, Refused> {
    // `cscli decisions add --scope username --value demo` closes this account. This comes before the password, so that nobody
    // learns whether it was right.
    accounts.admit("username", form.user)?;
    let is_person = form.nickname.is_empty();
    if is_person && is_right(form.user, form.password) {
        // Remember who it is, in a private cookie for example, before sending them on.
        return Ok(Either::Left(Redirect::to("/members")));
    }
    // CrowdSec is told, if `event_log` is set. After too many such events, CrowdSec bans the address.
    events.note(if is_person { "failed-sign-in" } else { "honeypot" }, Some(form.user));
    Ok(Either::Right((Status::Unauthorized, page("sign-in", &words, context! { failed: true }))))
}

/// Put your users here. Until then there is one, in debug builds alone, and nobody else can sign in.
fn is_right(user: &str, password: &str) -> bool {
    cfg!(debug_assertions) && (user, password) == ("demo", "demo")
}

/// What all pages look like. The bouncer's own pages do not load this file: they contain it.
#[get("/common.css")]
fn common_style() -> Template {
    Template::render("common", context! {})
}

/// Your error pages, and errors in JSON for programs that ask for it. The bouncer's own pages do not come from here.
#[catch(default)]
async fn any_error(status: Status, request: &Request<'_>) -> Result<(Status, Either<Page, Problem>), Status> {
    if wants_json(request) {
        return Ok((status, Either::Right(problem(status))));
    }
    let words = request.guard::<Words>().await.succeeded().ok_or(status)?;
    // A status without words of its own in texts.toml has those of its class.
    let (code, class) = (status.code.to_string(), if status.code >= 500 { "5xx" } else { "4xx" });
    let word = |end: &str| [&*code, class].into_iter().find_map(|name| words.get(&format!("error_{name}_{end}")));
    let title = word("title").unwrap_or(status.reason_lossy());
    let explanation = word("text");
    Ok((status, Either::Left(page("error", &words, context! { status: status.code, title, explanation }))))
}

/// An answer that depends on headers of the request, which `Vary` names for browsers, and on its visitor, so that no shared
/// cache may keep it: the bouncer never sees a request that a cache answers.
#[derive(Responder)]
struct Varying<T> {
    answer: T,
    vary: Header<'static>,
    cache: Header<'static>,
}

impl<T> Varying<T> {
    fn new(answer: T, vary: String) -> Self {
        Self { answer, vary: Header::new("Vary", vary), cache: Header::new("Cache-Control", "private") }
    }
}

/// A page in the visitor's language.
type Page = Varying<Template>;
/// An error as programs read it: RFC 9457.
type Problem = Varying<(ContentType, String)>;

/// A template sees what the `words` give, and what you hand over besides.
fn page(name: &'static str, words: &Words, more: impl Serialize) -> Page {
    // So that no browser's cache shows it in another language, or gives it to a script.
    Varying::new(Template::render(name, words.with(more)), [FORMAT_HEADERS, ", Accept-Language"].concat())
}

fn problem(status: Status) -> Problem {
    let problem = json!({ "type": "about:blank", "title": status.reason_lossy(), "status": status.code });
    let kind = ContentType::new("application", "problem+json");
    Varying::new((kind, problem.to_string()), FORMAT_HEADERS.into())
}
