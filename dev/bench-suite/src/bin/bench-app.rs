//! What is measured? One application with the bouncer or without, and nothing else that differs.

use std::collections::BTreeMap;
use std::env;
use std::io::Cursor;
use std::process::ExitCode;

use app::crowdsec;
use rocket::figment::Figment;
use rocket::figment::providers::{Format, Toml};
use rocket::fs::FileServer;
use rocket::http::{Header, Status};
use rocket::response::{self, Responder, Response};
use rocket::{Request, State, get, routes};
use rocket_dyn_templates::{Template, context};

#[get("/text")]
fn text() -> &'static str {
    "Hello, world!"
}

/// The first page of a generated application, as it is outside the debug profile, in English.
#[get("/page")]
fn page(words: &State<English>) -> Template {
    let English(text) = words.inner();
    Template::render("index", context! { app: "bench", site: "bench", lang: "en", dir: "ltr", text, debug: false })
}

/// The words of that page, which the application without the bouncer has to have as well.
struct English(BTreeMap<String, String>);

impl English {
    fn read() -> Self {
        let texts = Figment::from(Toml::file("templates/texts.toml"));
        Self(texts.extract_inner("en").expect("a table [en] in texts.toml"))
    }
}

/// An answer about as large as a refusal, without a decision or a template: Rocket cannot send that for less.
#[get("/fixed")]
fn fixed() -> Fixed {
    Fixed
}

struct Fixed;

impl<'r> Responder<'r, 'static> for Fixed {
    fn respond_to(self, _: &'r Request<'_>) -> response::Result<'static> {
        const PAGE: [u8; 4096] = [b'#'; 4096];
        let mut response = Response::build();
        response.status(Status::Forbidden).header(Header::new("Content-Type", "text/html; charset=utf-8"));
        response
            .header(Header::new(
                "Content-Security-Policy",
                "default-src 'none'; style-src 'nonce-0'; script-src 'nonce-0'",
            ))
            .header(Header::new("Vary", "Accept, Accept-Language"));
        response.header(Header::new("Cache-Control", "no-store"));
        response.sized_body(PAGE.len(), Cursor::new(&PAGE)).max_chunk_size(PAGE.len() + 1).ok()
    }
}

#[rocket::main]
async fn main() -> ExitCode {
    let rocket = rocket::custom(crowdsec::figment());
    let rocket = match env::var("BENCH_BOUNCER").as_deref() {
        Ok("protected") => match env::var("BENCH_ROOMS").as_deref() {
            Ok("metrics") => rocket.attach(crowdsec::fairing()).attach(crowdsec::metrics()),
            // As the application's own lib.rs has them.
            Ok("all") => rocket
                .attach(crowdsec::fairing())
                .attach(crowdsec::logs())
                .attach(crowdsec::appsec())
                .attach(crowdsec::metrics()),
            _ => rocket.attach(crowdsec::fairing()),
        },
        Ok("plain") => rocket,
        other => panic!("BENCH_BOUNCER is {other:?}, neither plain nor protected"),
    };
    let rocket = rocket
        .attach(Template::fairing())
        .manage(English::read())
        .mount("/", routes![text, page, fixed])
        .mount("/static", FileServer::from("static"));
    match rocket.launch().await {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            error.pretty_print();
            ExitCode::FAILURE
        }
    }
}
