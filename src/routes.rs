//! The pages of your application: the first file to edit.

use rocket::http::Status;
use rocket::{Catcher, Request, Route, catch, catchers, get, routes};
use rocket_dyn_templates::{Template, context};

use crate::crowdsec::{Cleared, Report};

pub fn all() -> Vec<Route> {
    routes![index, members]
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

/// Your error pages. The bouncer's own pages do not come by here.
#[catch(default)]
fn any_error(status: Status, _: &Request<'_>) -> (Status, Template) {
    let title = status.reason_lossy();
    (status, Template::render("error", context! { app: env!("CARGO_PKG_NAME"), status: status.code, title }))
}
