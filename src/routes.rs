//! The pages of your application: the first file to edit.

use rocket::form::{Form, FromForm};
use rocket::http::Status;
use rocket::response::Redirect;
use rocket::{Catcher, Either, Request, Route, catch, catchers, get, post, routes};
use rocket_dyn_templates::{Template, context};

use crate::crowdsec::{Cleared, Events, Report, SameOrigin};

pub fn all() -> Vec<Route> {
    routes![index, members, sign_in_form, sign_in]
}

pub fn catchers() -> Vec<Catcher> {
    catchers![any_error]
}

/// In the debug profile it shows how the bouncer sees you; elsewhere it is a plain welcome.
#[get("/")]
fn index(report: Report) -> Template {
    let Report { debug, port, me, crowdsec } = report;
    Template::render("index", context! { app: env!("CARGO_PKG_NAME"), debug, port, me, crowdsec })
}

/// A route that asks for `Cleared` serves nobody whom the bouncer refuses, not even on a path in `excluded_paths`.
#[get("/members")]
fn members(visitor: Cleared) -> Template {
    Template::render("members", context! { app: env!("CARGO_PKG_NAME"), address: visitor.address })
}

#[get("/sign-in")]
fn sign_in_form() -> Template {
    Template::render("sign-in", context! { app: env!("CARGO_PKG_NAME"), failed: false })
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
fn sign_in(_own: SameOrigin, form: Form<SignIn<'_>>, events: Events<'_>) -> Either<Redirect, (Status, Template)> {
    let is_person = form.nickname.is_empty();
    if is_person && is_right(form.user, form.password) {
        // Remember who it is, in a private cookie for example, before sending them on.
        return Either::Left(Redirect::to("/members"));
    }
    // CrowdSec is told, if `event_log` is set. After too much of it, CrowdSec bans the address.
    events.note(if is_person { "failed-sign-in" } else { "honeypot" }, Some(form.user));
    let page = Template::render("sign-in", context! { app: env!("CARGO_PKG_NAME"), failed: true });
    Either::Right((Status::Unauthorized, page))
}

/// Put your users here. Until then there is one, in debug builds alone, and nobody else can sign in.
fn is_right(user: &str, password: &str) -> bool {
    cfg!(debug_assertions) && (user, password) == ("demo", "demo")
}

/// Your error pages. The bouncer's own pages do not come by here.
#[catch(default)]
fn any_error(status: Status, _: &Request<'_>) -> (Status, Template) {
    let title = status.reason_lossy();
    (status, Template::render("error", context! { app: env!("CARGO_PKG_NAME"), status: status.code, title }))
}
