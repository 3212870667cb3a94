//! What is measured? One application with the bouncer or without, and nothing else that differs.

use std::env;
use std::process::ExitCode;

use rocket::fs::FileServer;
use rocket::{get, routes};
use rocket_dyn_templates::{Template, context};

#[get("/text")]
fn text() -> &'static str {
    "Hello, world!"
}

/// The first page of a generated application, as it is outside the debug profile.
#[get("/page")]
fn page() -> Template {
    Template::render("index", context! { app: "bench", debug: false })
}

#[rocket::main]
async fn main() -> ExitCode {
    let rocket = rocket::custom(app::crowdsec::figment());
    let rocket = match env::var("BENCH_BOUNCER").as_deref() {
        Ok("protected") => rocket.attach(app::crowdsec::fairing()),
        Ok("plain") => rocket,
        other => panic!("BENCH_BOUNCER is {other:?}, neither plain nor protected"),
    };
    let rocket =
        rocket.attach(Template::fairing()).mount("/", routes![text, page]).mount("/static", FileServer::from("static"));
    match rocket.launch().await {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            error.pretty_print();
            ExitCode::FAILURE
        }
    }
}
